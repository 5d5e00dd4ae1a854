"""``fse edit``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from torch import Tensor

from commands.loading import load_inverter
from commands.picture_run import PictureRun, Variant
from commands.strip import strip
from fse.api import Inverted


def run(arguments: argparse.Namespace) -> None:
    """Write every edit of every picture, or a strip of them."""
    directions = list(dict.fromkeys(name.strip() for given in arguments.direction for name in given.split(",")))
    strengths: list[float] = list(dict.fromkeys(arguments.strength))
    one = arguments.strip or len(directions) * len(strengths) == 1
    variants: list[Variant] = [(name, f"{strength:g}") for name in directions for strength in strengths]
    job = PictureRun(arguments, [()] if one else variants)
    inverter = load_inverter(arguments, directions=True, align=bool(job.align))
    for name in directions:
        inverter.vector(name)  # an unknown one is refused before the work

    def edits(found: Inverted) -> Iterator[tuple[Variant, Tensor]]:
        moved = [found.edit(name, strength).tensor for name in directions for strength in strengths]
        if arguments.strip:
            yield (), strip(found.pictures.tensor, moved, len(strengths))
        else:
            yield from zip([()] if one else variants, moved, strict=True)

    job.run(inverter, edits, "editing")
