"""What tells a folder of stand-ins from the official one."""

from __future__ import annotations

import json
from pathlib import Path

from fse.refusal import Refusal

STAND_INS = ".rehearsal.json"
README = "REHEARSAL.md"

_WORDS = """# Stand-ins, for a rehearsal

Everything in this folder was written by `python -m pipelines.rehearsal.build`. The files have the names, the layouts
and the formats of the official weights and data sets of the paper profile, but the networks in them are small and their
weights random, and the pictures are renders and household photographs. They show that the pipeline is whole. Numbers,
tables and figures that are made with them mean nothing.
"""


def is_rehearsal(folder: Path) -> bool:
    """Whether ``folder`` holds stand-ins, finished or not."""
    return (folder / STAND_INS).is_file()


def is_finished(folder: Path) -> bool:
    """Whether all stand-ins are there."""
    try:
        return bool(json.loads((folder / STAND_INS).read_text(encoding="utf-8"))["finished"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def mark(folder: Path, *, finished: bool) -> None:
    """Write both files; a folder is marked before the first stand-in is in it.

    Raises
    ------
    Refusal
        When there are files that no rehearsal wrote: they may be the official ones.
    """
    if folder.is_dir() and any(folder.iterdir()) and not is_rehearsal(folder):
        raise Refusal(f"{folder} holds files that are no stand-ins; choose an empty folder, so that they stay")
    folder.mkdir(parents=True, exist_ok=True)
    content = {"rehearsal": True, "finished": finished, "made_by": "pipelines.rehearsal.build"}
    (folder / STAND_INS).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (folder / README).write_text(_WORDS, encoding="utf-8")
