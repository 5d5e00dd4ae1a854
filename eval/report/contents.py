"""What the page is made of besides Table 1: each module of results hands over its section, or says what makes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from eval import ablation, editing, other_domains, speed, table2
from eval.contest import Places
from eval.section import Section


@dataclass(frozen=True)
class Chapter:
    """A section to be: ``read`` gives it, and where that is None the page says ``without`` in its place."""

    title: str
    read: Callable[[Places], Section | None]
    without: str


def _nothing(_: Places) -> Section | None:
    return None


CHAPTERS = (
    Chapter("Table 2, videos", table2.section, "`dvc repro table2` makes it."),
    Chapter("Ablations", ablation.section, "`dvc repro ablation` makes it."),
    Chapter("Editing", editing.section, "`dvc repro editing` makes it."),
    Chapter("Speed", speed.section, "`dvc repro speed` makes it."),
    Chapter("Other domains", other_domains.section, "`dvc repro other_domains` makes it."),
    Chapter(
        "StyleGAN3, the paper's Figure 5",
        _nothing,
        "It needs a StyleGAN3 generator and an encoder trained for it, which the embedded profile does not have.",
    ),
)


def collect(places: Places, chapters: Iterable[Chapter] = CHAPTERS) -> tuple[list[Section], list[tuple[str, str]]]:
    """The sections that are there, and (title, what makes it) of the others; both in the order of the page."""
    sections, missing = [], []
    for chapter in chapters:
        if (section := chapter.read(places)) is None:
            missing.append((chapter.title, chapter.without))
        else:
            sections.append(section)
    return sections, missing
