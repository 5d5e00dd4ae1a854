"""The README's gallery: ``python -m eval.figures.gallery`` inverts, edits and mixes renders of the generator.

No picture is chosen by hand: they are fresh renders of a seed of their own, and the first of the test set by name,
which are pushed off the generator's manifold. None is a third party's photograph, so that the files may be committed.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from eval.attributes import ATTRIBUTES
from eval.figures.panel import LINE, MINUTE, above, blank, place, show
from eval.figures.style import STYLE
from fse.api import Inverted, Inverter, Pictures
from fse.generators.style_generator import StyleGenerator
from fse.latents import sample_z
from fse.pictures import image_from_tensor, list_pictures
from fse.portraits import Source
from fse.refusal import exit_on_refusal

SEED = 930_000  # in no other set
WIDTH = 6.4  # inches
DPI = 130  # of a page that a README shows without scaling
QUALITY = 80
HEADING = 0.14  # inches a line
EDITS = (("smile", -2.0), ("smile", 2.0), ("yaw", 1.5), ("mouth_open", 2.0), ("hair_lightness", 2.0), ("warmth", 2.0))

Cells = Sequence[Sequence[Image.Image | None]]
"""Rows of pictures; None leaves a place empty."""


def grid(cells: Cells, columns: Sequence[str], rows: Sequence[str], width: float = WIDTH) -> Figure:
    """Pictures under the headings of their columns and beside those of their rows."""
    left = 1.5 * LINE if any(rows) else 0.0
    side = (width - left - MINUTE * (len(columns) - 1)) / len(columns)
    top = HEADING * max(heading.count("\n") + bool(heading) for heading in columns)
    with matplotlib.rc_context(STYLE):
        figure = blank(width, top + len(rows) * side + MINUTE * (len(rows) - 1))
        for (row, name), (column, heading) in product(enumerate(rows), enumerate(columns)):
            x, y = left + column * (side + MINUTE), top + row * (side + MINUTE)
            axes = place(figure, x, y, side, side)
            if (picture := cells[row][column]) is not None:
                show(axes, np.asarray(picture, np.float32) / np.float32(255))
            if row == 0:
                above(axes, heading, size=7)
            if column == 0:
                axes.set_ylabel(name, fontsize=7, labelpad=2)
    return figure


def inversions(sources: Pictures, codes_only: Pictures, both: Pictures) -> Figure:
    """A column a picture: the source, G(w), G(F, w)."""
    return grid([list(sources), list(codes_only), list(both)], [""] * len(sources), ["source", "G(w)", "G(F, w)"])


def edits(sources: Pictures, found: Inverted) -> Figure:
    """A row a picture, a column an edit."""
    columns = [sources, found.pictures, *(found.edit(name, strength) for name, strength in EDITS)]
    headings = [f"{ATTRIBUTES[name].label}\n{strength:+g}" for name, strength in EDITS]
    cells = [list(row) for row in zip(*columns, strict=True)]
    return grid(cells, ["source", "inversion,\nG(F, w)", *headings], [""] * len(found))


def mixtures(found: Inverted) -> Figure:
    """A row a feature tensor, a column the codes of another: Figure 8 as a table."""
    cells = [[None, *found.pictures], *([each.pictures[0], *each.mix(found)] for each in found)]
    return grid(cells, ["F down, w across", *[""] * len(found)], [""] * len(cells), WIDTH * 0.6)


@torch.no_grad()
def fresh_renders(generator: StyleGenerator, count: int) -> list[Image.Image]:
    """Pictures of codes that no other set has."""
    codes = generator.map(sample_z(SEED, count).to(generator.mean_code.device))
    return [image_from_tensor(picture) for picture in generator.synthesize(codes)]


def write(figure: Figure, path: Path) -> None:
    """As a JPEG file: a README need not weigh more."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=DPI)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.open(buffer).convert("RGB").save(path, quality=QUALITY)


@exit_on_refusal
def main() -> None:
    """Write ``docs/gallery/inversion.jpg``, ``editing.jpg`` and ``mixing.jpg``."""
    parser = argparse.ArgumentParser(prog="python -m eval.figures.gallery", description=__doc__)
    parser.add_argument("--assets", type=Path, default=Path("data/assets"))
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--directions", type=Path, default=Path("directions"))
    parser.add_argument("--renders", type=Path, default=Path("data/test/renders"))
    parser.add_argument("--out", type=Path, default=Path("docs/gallery"))
    arguments = parser.parse_args()
    directions = arguments.directions / "generator.safetensors"  # as the command takes them
    inverter = Inverter.load(arguments.assets, arguments.weights, "fse", directions=directions)
    fresh, test = fresh_renders(inverter.generator, 4), list_pictures(arguments.renders)[:4]

    shown: list[Source] = [*fresh, *test]
    codes_only = Inverter.load(arguments.assets, arguments.weights, "fse_w").invert(shown)
    sources, found = inverter.read(shown), inverter.invert(shown)
    write(inversions(sources, codes_only.pictures, found.pictures), arguments.out / "inversion.jpg")
    shown = [*fresh[:3], *test[:2]]
    write(edits(inverter.read(shown), inverter.invert(shown)), arguments.out / "editing.jpg")
    write(mixtures(inverter.invert([*fresh[:2], test[0]])), arguments.out / "mixing.jpg")


if __name__ == "__main__":
    main()
