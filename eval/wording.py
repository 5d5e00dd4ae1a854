"""What the sentences of a table call the things that it averages over."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wording:
    """
    Attributes
    ----------
    one, many : str
        "picture" and "pictures", or what else is averaged over.
    slow : str
        Why a method was not run on all of them.
    record : str
        The file that holds what the table leaves out.
    """

    one: str
    many: str
    slow: str
    record: str


PICTURES = Wording("picture", "pictures", "optimises every picture", "table1.json")
CLIPS = Wording("clip", "clips", "passes through the generator five times a frame", "table2.json")
