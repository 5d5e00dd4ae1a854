"""The page as text: parts into templates, with figures as sharp and pictures as many as the page may weigh."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from eval.report import browser, whisker
from eval.report.browser import Album, PictureSet
from eval.report.media import Medium, embedded, weight
from eval.section import Section
from eval.tables import Table, TextTable
from fse.refusal import Refusal

TEMPLATES = Path(__file__).parents[1] / "templates"
LIMIT = 8_000_000  # bytes of the page
FOR_PICTURES = 3_200_000  # bytes of the browser's pictures, at most
MARGIN = 100_000  # bytes of what stands around the pictures
DENSITIES = (2.0, 1.5, 1.0)  # pixels of a figure in a pixel of the page: as many as there is room for


@dataclass(frozen=True)
class Hardest:
    """A row of the pictures that are reconstructed worst: (id, label, address, value in print), the source first."""

    name: str
    cells: Sequence[tuple[str, str, str, str]]


@dataclass(frozen=True)
class Shown:
    """A section as the page shows it."""

    section: Section
    media: Sequence[Medium]
    hardest: Sequence[Hardest] = ()
    hardest_by: str = ""


def lay_out(
    at_a_glance: Section,
    table1: Sequence[Section],
    further: Sequence[Section],
    pictures: Sequence[PictureSet],
    everything: Mapping[str, Any],
) -> str:
    """The page with figures as sharp, and pictures as many, as :data:`LIMIT` leaves room for.

    Parameters
    ----------
    at_a_glance, table1, further : Section
        What stands in front, Table 1 of each set, and the sections after the picture browser.
    pictures : sequence of PictureSet
        The sets of ``table1``, in its order.
    everything : mapping
        All else that ``report.html.j2`` names.

    Raises
    ------
    Refusal
        It would weigh more, whatever is done to it.
    """
    lightest = 0
    for density in DENSITIES:
        glance, *others = embedded([at_a_glance, *table1, *further], density)
        sections = [Shown(*each) for each in zip([*table1, *further], others, strict=True)]
        media = weight([*glance, *(medium for shown in sections for medium in shown.media)])
        empty = len(_page(glance, sections, [Album(each) for each in pictures], table1, everything).encode())
        room = min(FOR_PICTURES, LIMIT - empty - MARGIN)
        if room < FOR_PICTURES // 2 and density != DENSITIES[-1]:
            continue
        page = _page(glance, sections, browser.albums(pictures, room), table1, everything)
        if (lightest := len(page.encode())) <= LIMIT:
            return page
    raise Refusal(
        f"the page would weigh {lightest / 1e6:.1f} MB, and {LIMIT / 1e6:.0f} are allowed, of which figures and clips "
        f"take {media / 1e6:.1f}: make the clips in the reports' folder shorter, or fewer"
    )


def _page(
    glance: Sequence[Medium],
    sections: Sequence[Shown],
    albums: Sequence[Album],
    table1: Sequence[Section],
    everything: Mapping[str, Any],
) -> str:
    shown = [
        replace(each, hardest=rows, hardest_by=by)
        for each, (rows, by) in zip(sections[: len(table1)], map(_hardest, albums), strict=True)
    ]
    data = [_referring(album.data(), each.hardest) for album, each in zip(albums, shown, strict=True)]
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["ticked"] = _ticked
    environment.globals |= {"whiskers": whisker.whiskers, "zero": whisker.zero, "mark": _mark, "is_text": _is_text}
    return environment.get_template("report.html.j2").render(
        glance=glance,
        table1=shown,
        further=sections[len(table1) :],
        albums=albums,
        rules=[browser.rule(album.pictures) for album in albums],
        data={"source": browser.SOURCE, "pair": browser.default_pair(albums[0].pictures.labels), "sets": data},
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        **everything,
    )


def _hash(text: str) -> str:
    """By which the page's own policy knows its style and script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _mark(table: Table) -> str:
    """What bold says in a table, for who hears it."""
    return "best" if type(table).best is Table.best else "marked"


def _ticked(text: str) -> Markup:
    """What stands between backticks as code."""
    parts = (
        Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in enumerate(text.split("`"))
    )
    return Markup("").join(parts)


def _is_text(table: Table | TextTable) -> bool:
    return isinstance(table, TextTable)


def _hardest(album: Album) -> tuple[list[Hardest], str]:
    """Rows of the pictures that the last method reconstructs worst, as far as the album holds them, and by what."""
    pictures = album.pictures
    column = next((column for column in pictures.columns if column.key == pictures.by), None)
    if column is None:
        return [], ""
    values = pictures.values(column.key)
    rows: list[Hardest] = []
    for name in browser.hardest(pictures):
        pixels = album.pages.get(name, {})
        cells: list[tuple[str, str, str, str]] = []
        for key, address in pixels.items():
            value = values.get(key, pd.Series(dtype=float)).get(name)
            printed = "" if value is None or pd.isna(value) else f"{column.label} {value:.{column.decimals}f}"
            cells.append(
                (f"{pictures.name}-hard-{len(rows)}-{len(cells)}", pictures.labels.get(key, "source"), address, printed)
            )
        if cells:
            rows.append(Hardest(name, cells))
    return rows, f"{column.label} of {list(pictures.labels.values())[-1]}"


def _referring(data: dict[str, Any], rows: Sequence[Hardest]) -> dict[str, Any]:
    """The browser's data with ``#ID`` for the pictures that stand in the page already."""
    standing = {row.name: {address: f"#{anchor}" for anchor, _, address, _ in row.cells} for row in rows}
    pages = {
        name: {key: standing.get(name, {}).get(address, address) for key, address in pixels.items()}
        for name, pixels in data["pictures"].items()
    }
    return {**data, "pictures": pages}
