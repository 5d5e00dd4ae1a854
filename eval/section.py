"""A part of the report: what a module of results hands to the page, which knows how to show it and nothing more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.tables import Table, TextTable


@dataclass(frozen=True)
class Illustration:
    """A figure or a short clip of a section.

    Attributes
    ----------
    path : Path
        PNG, or a clip as animated WebP or H.264 MP4.
    caption : str
        What it shows, by which rule its pictures were chosen, and what its colours and numbers mean.
    alternative : str
        For those who do not see it: what can be read off it, in a sentence.
    """

    path: Path
    caption: str
    alternative: str


@dataclass(frozen=True)
class Section:
    """Of the page, in this order: sentences, tables, illustrations.

    ``key`` is its anchor. A module of results ``eval/X.py`` offers ``section(places) -> Section | None``, which reads
    what the run wrote under ``places.reports`` and is None where nothing is there.
    """

    key: str
    title: str
    introduction: Sequence[str] = ()
    tables: Sequence[Table | TextTable] = ()
    illustrations: Sequence[Illustration] = ()
