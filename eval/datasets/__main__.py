"""``python -m eval.datasets``: list the official sets, check one, and lay it out for the measurements."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from eval.datasets.official import SETS, read_official
from fse.refusal import exit_on_refusal

_EXAMPLE = "example: python -m eval.datasets celeba_hq_1000 data/official/CelebAMask-HQ.zip --out data/paper"


@exit_on_refusal
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the sets, or read one and print one line about it for each thing done."""
    parser = argparse.ArgumentParser(prog="python -m eval.datasets", description=__doc__, epilog=_EXAMPLE)
    parser.add_argument("set", nargs="?", choices=list(SETS), metavar="SET", help="without it, the sets are listed")
    parser.add_argument("path", nargs="?", type=Path, help="its folder or archive, in the official layout")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write the pictures, as the protocol takes them, to DIR/SET"
    )
    parser.add_argument("--list", type=Path, metavar="FILE", help="write the files' SHA-256 (sha256sum reads it)")
    parser.add_argument(
        "--allow-partial", action="store_true", help="take what is there; the set then says so everywhere"
    )
    chosen = parser.parse_args(arguments)
    console = Console()
    if chosen.set is None:
        table = Table("set", "pictures", "used for", box=None)
        for name, official in SETS.items():
            table.add_row(name, f"{official.count:,}", official.used_for)
        console.print(table)
        return
    if chosen.path is None:
        parser.error("give the folder or archive of the set")
    dataset = read_official(chosen.set, chosen.path, allow_partial=chosen.allow_partial)
    print(f"{dataset.described}: {len(dataset):,} pictures in {dataset.tree.where}, {dataset.names[0]} the first")
    if chosen.list:
        dataset.file_list(chosen.list)
        print(f"{chosen.list}: the SHA-256 of {len(dataset):,} files")
    if chosen.out:
        folder = chosen.out / chosen.set
        print(f"{folder}: {len(dataset.prepare(folder)):,} pictures")


if __name__ == "__main__":
    main()
