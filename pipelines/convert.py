"""Convert an official file of weights to safetensors, without ever running what is in it.

PyTorch's files (.pt, .pth), NVIDIA's pickles (.pkl), safetensors and MobileStyleGAN's folder are read as plain
tensors, recognised by their parameters, compared name by name and shape by shape with the network that they belong
to, and written under the official names. The header says what the file was and where it came from.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from eval.provenance import sha256
from fse.checkpoints.checkpoint import Checkpoint
from fse.checkpoints.reader import read_checkpoint
from fse.checkpoints.safetensors_file import write_checkpoint
from fse.generators.mobilestylegan import read_mobilestylegan
from fse.refusal import Refusal, exit_on_refusal
from pipelines.official import KINDS, check, recognise

_EXAMPLE = (
    "example: python -m pipelines.convert stylegan3-t-ffhq-1024x1024.pkl stylegan3.safetensors --expect stylegan3"
)


@exit_on_refusal
def main() -> None:
    """Convert one file and print one line about it."""
    kinds = "\n".join(f"  {name:<17} {kind.holds}" for name, kind in KINDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.convert",
        description=__doc__,
        epilog=f"kinds:\n{kinds}\n\n{_EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the official file, or MobileStyleGAN's folder")
    parser.add_argument("out", type=Path, metavar="OUT.safetensors")
    parser.add_argument(
        "--expect", metavar="KIND", choices=[*KINDS, "any"], help="refuse other kinds; 'any' converts tensors unchecked"
    )
    parser.add_argument("--sha256", metavar="HEX", type=str.lower, help="refuse other files, before reading them")
    arguments = parser.parse_args()
    print(convert(arguments.file, arguments.out, arguments.expect, arguments.sha256))


def convert(source: Path, out: Path, expect: str | None = None, expected_sha256: str | None = None) -> str:
    """Convert ``source`` to the file ``out`` and tell in one line what it was.

    Parameters
    ----------
    expect : str, optional
        A name of :data:`~pipelines.official.KINDS`, or ``any`` to check no names; recognised by default.
    expected_sha256 : str, optional
        Of the source; for a folder, of its files' names and hashes.

    Raises
    ------
    Refusal
        When the source is missing, is another file than expected, cannot be read safely, or holds another network.
    """
    if out.is_dir():
        raise Refusal(f"{out} is a folder; give the name of the file to write")
    found = sha256(source)
    if found is None:
        raise Refusal(f"there is no file {source}; download it first")
    if expected_sha256 is not None and found != expected_sha256:
        raise Refusal(f"{source} has the SHA-256 {found} and not {expected_sha256}; download it again")
    checkpoint = _read_folder(source) if source.is_dir() else read_checkpoint(source)
    kind = expect or recognise(checkpoint)
    parameters = 0 if kind == "any" else check(checkpoint, kind)
    size = sum(file.stat().st_size for file in source.rglob("*")) if source.is_dir() else source.stat().st_size
    write_checkpoint(out, checkpoint, kind, {"name": source.name, "sha256": found, "size": size})
    return (
        f"{out}: {kind}, {len(checkpoint.tensors)} tensors"
        + (f", {parameters:,} numbers in the network" if parameters else "")
        + f", {size:,} -> {out.stat().st_size:,} bytes, sha256 {found} -> {sha256(out)}"
    )


def _read_folder(folder: Path) -> Checkpoint:
    return Checkpoint(folder, "openvino-ir", read_mobilestylegan(folder), {})


if __name__ == "__main__":
    main()
