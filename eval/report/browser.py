"""The picture browser's data: values of every picture, and pictures of a selection that is found by a rule.

Sorting is done in the page on the values of all pictures. The pictures themselves would weigh some hundred megabytes;
:func:`selection` orders them by what a sceptic would ask for first, and as many are taken as there is room for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from eval.contest import OURS
from eval.report.media import avif
from eval.tables import Column
from fse.pictures import list_pictures, open_picture
from fse.refusal import Refusal

FIRST = 4
"""Pictures taken by name; methods that optimise each picture were run on the first few only."""

HARDEST = 4
"""Pictures taken for the distance of the last method, the worst first."""

SIDE = 256  # px
QUALITY = 48
"""Of AVIF: as close to the PNG, by PSNR and SSIM, as WebP at 72, in three quarters of the bytes."""

Pixels = dict[str, str]
"""METHOD, or SOURCE -> address of a picture."""

SOURCE = "source"


@dataclass(frozen=True)
class PictureSet:
    """A test set as measured, and where its pictures are.

    Attributes
    ----------
    name, title : str
        Its key and its name in print.
    sources : Path
        Folder of the sources.
    inversions, labels : mapping
        METHOD -> folder, METHOD -> name in print; ours last.
    pictures : DataFrame
        Rows of single pictures, as in ``SET.csv``.
    columns : sequence of Column
        The metrics that have a value a picture.
    by : str or None
        The metric that counts first: the perceptual distance where it was measured.
    """

    name: str
    title: str
    sources: Path
    inversions: Mapping[str, Path]
    labels: Mapping[str, str]
    pictures: pd.DataFrame
    columns: Sequence[Column]
    by: str | None

    def names(self) -> list[str]:
        """Of all pictures that were measured or asked for."""
        return sorted(self.pictures["picture"].unique())

    def values(self, metric: str) -> pd.DataFrame:
        """A row a picture, a column a method, NaN where nothing was measured."""
        table = self.pictures.pivot(index="picture", columns="method", values=metric).astype(float)
        return table.reindex(index=self.names(), columns=list(self.labels)).replace([np.inf, -np.inf], np.nan)

    def read(self, name: str) -> Pixels:
        """The source called ``name`` and every reconstruction of it that can be read."""
        files = {path.stem: path for path in list_pictures(self.sources)}
        wanted = {SOURCE: files.get(name, self.sources / name)}
        wanted |= {method: folder / f"{name}.png" for method, folder in self.inversions.items()}
        return {key: pixels for key, path in wanted.items() if (pixels := _pixels(path)) is not None}


def hardest(pictures: PictureSet, count: int = HARDEST) -> list[str]:
    """Those that the last method (ours, as in the paper's tables) reconstructs worst by ``by``, the worst first."""
    column = next((column for column in pictures.columns if column.key == pictures.by), None)
    return [] if column is None else _worst(pictures, column, list(pictures.labels)[-1])[:count]


def selection(pictures: PictureSet) -> Iterator[str]:
    """All pictures, in the order in which a limited page takes them; :func:`rule` says it in words."""
    methods = list(pictures.labels)
    columns = sorted(pictures.columns, key=lambda column: column.key != pictures.by)
    pairs = sorted(combinations(methods, 2), key=lambda pair: not set(pair) & {methods[-1]})
    rankings = [_worst(pictures, column, methods[-1]) for column in columns]
    for column in columns:
        values = pictures.values(column.key)
        rankings += [_apart(values[one], values[other]) for one, other in pairs]
    turns = (ranking[turn] for turn in range(len(pictures.names())) for ranking in rankings if turn < len(ranking))
    yield from dict.fromkeys([*pictures.names()[:FIRST], *hardest(pictures), *turns, *pictures.names()])


def rule(pictures: PictureSet) -> str:
    """By which rule :func:`selection` goes."""
    label = next((column.label for column in pictures.columns if column.key == pictures.by), None)
    last = list(pictures.labels.values())[-1]
    worst = f"; the {HARDEST} that {last} reconstructs worst by {label}" if label else ""
    first = f", {label} first" if label else ""
    return (
        f"the first {FIRST} by name{worst}; then in turn, until the page was full, the worst of {last} by each metric "
        f"and the pictures on which two methods differ most, for every pair of methods by every metric{first}, pairs "
        f"with {last} before others"
    )


def _worst(pictures: PictureSet, column: Column, method: str) -> list[str]:
    values = pictures.values(column.key)[method].dropna()
    ordered = values.reset_index().sort_values([method, "picture"], ascending=[column.higher_is_better, True])
    return [str(name) for name in ordered["picture"]]


def _apart(one: pd.Series, other: pd.Series) -> list[str]:
    """Names by how far two methods' values are apart, the farthest first."""
    distance = (one - other).abs().dropna().rename("distance").reset_index()
    ordered = distance.sort_values(["distance", "picture"], ascending=[False, True])
    return [str(name) for name in ordered["picture"]]


def _pixels(path: Path) -> str | None:
    """A picture's address, or None where it cannot be read (the table names it and says why)."""
    try:
        picture = open_picture(path)
    except Refusal:
        return None
    if max(picture.size) > SIDE:
        picture = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return avif(picture, QUALITY)


@dataclass
class Album:
    """What pictures the page holds of a set: NAME -> their addresses, in the order of the selection."""

    pictures: PictureSet
    pages: dict[str, Pixels] = field(default_factory=dict)

    def weight(self) -> int:
        """Bytes in the page."""
        return sum(len(address) for pixels in self.pages.values() for address in pixels.values())

    def data(self) -> dict[str, Any]:
        """What the page's script reads; every value is text, a number or None."""
        columns = self.pictures.columns
        return {
            "key": self.pictures.name,
            "title": self.pictures.title,
            "methods": [{"key": key, "label": label} for key, label in self.pictures.labels.items()],
            "metrics": [
                {"key": c.key, "label": c.label, "higher": c.higher_is_better, "decimals": c.decimals} for c in columns
            ],
            "by": self.pictures.by,
            "names": self.pictures.names(),
            "values": {column.key: self._values(column) for column in columns},
            "pictures": self.pages,
        }

    def _values(self, column: Column) -> dict[str, list[float | None]]:
        table = self.pictures.values(column.key)
        digits = column.decimals + 1
        return {
            str(method): [None if np.isnan(value) else round(float(value), digits) for value in table[method]]
            for method in table
        }


def albums(sets: Sequence[PictureSet], limit: int) -> list[Album]:
    """Pictures of every set until ``limit`` bytes are reached, in turn, so that none takes another's room.

    The first pictures of a set and its hardest are taken in any case.
    """
    found = [Album(pictures) for pictures in sets]
    waiting = [(album, selection(album.pictures), len(must(album.pictures))) for album in found]
    room = limit
    while waiting:
        left = []
        for album, names, due in waiting:
            if (name := next(names, None)) is None:
                continue
            pixels = album.pictures.read(name)
            weight = sum(map(len, pixels.values()))
            if weight > room and due <= 0:
                continue
            room -= weight
            album.pages[name] = pixels
            left.append((album, names, due - 1))
        waiting = left
    return found


def must(pictures: PictureSet) -> list[str]:
    """What is in the page in any case."""
    return list(dict.fromkeys([*pictures.names()[:FIRST], *hardest(pictures)]))


def default_pair(labels: Mapping[str, str]) -> tuple[str, str]:
    """Which two methods the browser begins with: the last baseline of the rows, and ours."""
    methods = list(labels)
    baselines = [method for method in methods[:-1] if method not in OURS]
    return (baselines or [SOURCE])[-1], methods[-1]
