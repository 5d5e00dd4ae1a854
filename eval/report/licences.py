"""On what terms the run's inputs were given: NOTICE, in short."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from eval.provenance import ROOT
from eval.tables import TextTable

NOTICE = ROOT / "NOTICE"


def notice(path: Path = NOTICE) -> str:
    """The whole file; empty where it is not installed with the code."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def licences(text: str) -> TextTable:
    """A row an entry, which is a paragraph ``PACKAGE: WHAT (PLACE)`` with an indented ``Origin:`` and ``Licence:``.

    All that is said from ``Licence:`` on is repeated: half of it may be the half that forbids something.
    """
    rows = []
    for entry in re.findall(r"^\S[^\n]*: [^\n]+\n(?:[ ]{4}[^\n]*\n?)+", text, flags=re.MULTILINE):
        head, _, body = entry.partition("\n")
        package, _, what = head.partition(": ")
        terms = " ".join(textwrap.dedent(body).split()).partition("Licence: ")[2]
        rows.append([package, re.sub(r" \([^()]*\)$", "", what), terms or "not stated"])
    return TextTable("licences", "What this was made of, and on what terms", ["Package", "What", "Terms"], rows)
