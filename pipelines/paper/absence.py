"""A folder that stands for a result which could not be made: it holds ``absent.json`` with the reason."""

from __future__ import annotations

import json
from pathlib import Path

FILE = "absent.json"


def mark_absent(folder: Path, reason: str) -> None:
    """Nothing of what ``folder`` should hold can be made, because of ``reason``; what an earlier run left is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(json.dumps({"reason": reason}, ensure_ascii=False) + "\n", encoding="utf-8")


def unmark(folder: Path) -> None:
    """It can be made now."""
    (folder / FILE).unlink(missing_ok=True)


def reason_of(folder: Path) -> str | None:
    """Why there is nothing in ``folder``; None where there is something."""
    path = folder / FILE
    if not path.is_file():
        return None if folder.is_dir() else f"there is no {folder}"
    reason: str = json.loads(path.read_text(encoding="utf-8"))["reason"]
    return reason
