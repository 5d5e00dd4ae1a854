"""Where to look closer: the patch of a picture in which the methods differ most in fine detail, found by a rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from eval.figures.panel import Picture

SHARE = 4
"""A patch has this part of a picture's side."""

FINE = 1 / 64
"""Detail is what a Gaussian blur of this standard deviation, as a part of the side, takes away."""

RULE = "the square of a quarter of the side in which the methods' fine details vary most between them"


class Patch(NamedTuple):
    """Upper left corner and side, in pixels."""

    row: int
    column: int
    side: int

    def of(self, picture: Picture) -> Picture:
        """The patch of a picture."""
        return picture[self.row : self.row + self.side, self.column : self.column + self.side]


def differing_patch(reconstructions: Sequence[Picture]) -> Patch:
    """Of the reconstructions (R, R, 3) of one source, :data:`RULE`: most variance over methods; the first of equals.

    Detail, and not all of a picture, because a background in another colour would draw every patch to it.
    """
    resolution = reconstructions[0].shape[0]
    side = max(1, resolution // SHARE)
    spread = (resolution * FINE, resolution * FINE, 0)
    details = [picture - gaussian_filter(picture, spread) for picture in reconstructions]
    variance = np.var(np.stack(details), axis=0).mean(axis=2, dtype=np.float64)
    sums = np.pad(variance, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    windows = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    # Rounded, so that sums which differ by their last bits are equal and the first of them is taken everywhere.
    relative = (windows / max(windows.max(), np.finfo(float).tiny)).round(6)
    row, column = np.unravel_index(np.argmax(relative), windows.shape)
    return Patch(int(row), int(column), side)
