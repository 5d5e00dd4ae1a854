"""DVC stage: a method's reconstructions of the test sets, as 8-bit PNG files of the sources' names."""

from __future__ import annotations

import argparse
from pathlib import Path

from eval.inversions import invert_pictures
from eval.profile import Profile
from eval.table1 import SETS
from fse.allocator import keep_freed_memory
from fse.pictures import list_pictures
from fse.refusal import exit_on_refusal
from pipelines.parameters import read_parameters


@exit_on_refusal
def main() -> None:
    """Write ``data/inversions/METHOD/SET/NAME.png``."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.invert", description=__doc__)
    parser.add_argument("method", help="an installed method, e.g. fse; see fse.registry")
    parser.add_argument("--assets", type=Path, default=Path("data/assets"))
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--test", type=Path, default=Path("data/test"))
    parser.add_argument("--out", type=Path, default=Path("data/inversions"))
    arguments = parser.parse_args()
    keep_freed_memory()
    parameters = read_parameters().evaluate
    profile = Profile(arguments.assets, arguments.weights)
    for name in SETS:
        limits = [n for n in (parameters.limit, parameters.subset.get(arguments.method)) if n is not None]
        sources = list_pictures(arguments.test / name)[: min(limits, default=None)]
        out = arguments.out / arguments.method / name
        invert_pictures(sources, out, arguments.method, profile, batch=parameters.batch)


if __name__ == "__main__":
    main()
