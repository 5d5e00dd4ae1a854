"""An edited face put back into its frame: the inverse of the alignment, then a feathered mask or Poisson blending.

Only the pixels under the mask are computed and replaced. Poisson blending: Perez et al., "Poisson Image Editing",
SIGGRAPH 2003, as in OpenCV.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from fse.alignment import LEFT_EYE, MOUTH_CORNERS, RIGHT_EYE, FaceSquare, Points
from fse.video.clip import Frame, Pixels

Blend = Literal["feather", "poisson"]
Shape = Literal["face", "square"]
Mask = NDArray[np.float32]

FEATHER = 0.04
"""Sigma of the face mask's edge, as a share of the square's side."""

BORDER = 0.1
"""Share of the side over which a mask rises from 0 at the square's edge."""

JAW, BROWS = slice(0, 17), slice(17, 27)

SMALLEST = 8
"""Pixels that an area must have in width and height to be blended; OpenCV fails on a few."""

FOREHEAD = 0.4
"""How far the face mask goes above the brows, in distances from eyes to mouth: to about where hair or a hat begins."""


def to_frame(square: FaceSquare, resolution: int) -> NDArray[np.float64]:
    """(2, 3): pixel (column, row) of the aligned picture -> (x, y) in the frame; pixel centres are whole numbers."""
    right = square.half * (2 / resolution)
    down = np.array((-right[1], right[0]))
    matrix: NDArray[np.float64] = np.column_stack(
        (right, down, square.centre - (right + down) * ((resolution - 1) / 2))
    )
    return matrix


def face_mask(landmarks: Points, square: FaceSquare, resolution: int, shape: Shape = "face") -> Mask:
    """(R, R) in [0, 1], exactly 0 along the border: how much of the aligned picture is put back.

    ``face``: the hull of the landmarks and of the brows moved up the forehead, widened and feathered. It stands for the
    official pipeline's parsed skin, which needs a network. ``square``: all but the border.
    """
    distance = np.minimum(np.arange(resolution) + 0.0, np.arange(resolution)[::-1]) / (BORDER * resolution)
    ramp = np.clip(distance, 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    border: Mask = np.minimum.outer(ramp, ramp).astype(np.float32)
    if shape == "square":
        return border
    matrix = to_frame(square, resolution)
    points = (landmarks - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    eyes = (points[LEFT_EYE].mean(0) + points[RIGHT_EYE].mean(0)) / 2
    forehead = points[BROWS] - FOREHEAD * (points[MOUTH_CORNERS].mean(0) - eyes)
    hull = cv2.convexHull(np.concatenate((points[JAW], points[BROWS], forehead)).astype(np.float32))
    filled = np.zeros((resolution, resolution), np.uint8)
    cv2.fillConvexPoly(filled, np.round(hull).astype(np.int32), 255)
    sigma = FEATHER * resolution
    width = 2 * round(sigma) + 1
    wider = cv2.dilate(filled, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))
    soft = np.asarray(cv2.GaussianBlur(wider.astype(np.float32) / 255, (0, 0), sigma), dtype=np.float32)
    return np.where(soft < 1 / 255, 0, np.minimum(soft, border)).astype(np.float32)


def paste(frame: Frame, picture: Pixels, square: FaceSquare, mask: Mask, blend: Blend = "feather") -> Frame:
    """``picture`` (R, R, 3), aligned to ``square``, in ``frame`` where ``mask`` (R, R) is above 0.

    ``feather``: mixed in the mask's proportion. ``poisson``: its gradients, with the frame's colours around the area
    where the mask exceeds 1/2. Every sample outside stays as it was read.
    """
    left, top, right, bottom = _box(frame, square)
    if right <= left or bottom <= top:
        return frame
    matrix = to_frame(square, len(picture))
    matrix[:, 2] -= (left, top)
    size = (right - left, bottom - top)
    weight = np.asarray(cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_LINEAR), dtype=np.float32)
    if not weight.any():
        return frame
    above = _placed(picture, matrix, size)
    below = frame.rgb((left, top, right, bottom))
    if blend == "poisson":
        mixed, changed = _poisson(above, below, weight > 0.5)
    else:
        changed = weight > 0
        mixed = np.rint(below + weight[..., None] * (above.astype(np.float32) - below)).astype(np.uint8)
    return frame.with_pixels(mixed, changed, left, top)


def _box(frame: Frame, square: FaceSquare) -> tuple[int, int, int, int]:
    """The part of the frame that holds the square, in even numbers."""
    corners, size = square.corners, np.array((frame.width, frame.height))
    low = np.clip(np.floor(corners.min(0)), 0, size).astype(int) // 2 * 2
    high = -(-np.clip(np.ceil(corners.max(0)) + 1, 0, size).astype(int) // 2) * 2
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _placed(picture: Pixels, matrix: NDArray[np.float64], size: tuple[int, int]) -> Pixels:
    """The picture where the square lies: bicubic where it is enlarged, averaged first where it is reduced."""
    side = len(picture)
    scale = float(np.hypot(*matrix[:, 0]))
    if scale < 1:
        reduced = max(round(side * scale), 1)
        picture = np.asarray(cv2.resize(picture, (reduced, reduced), interpolation=cv2.INTER_AREA), dtype=np.uint8)
        ratio = side / reduced
        # Column c of the reduced picture lies at column (c + 1/2) * ratio - 1/2 of the whole one.
        shrink = np.array([[ratio, 0, ratio / 2 - 0.5], [0, ratio, ratio / 2 - 0.5], [0, 0, 1]])
        matrix = matrix @ shrink
    warped = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, dtype=np.uint8)


def _poisson(above: Pixels, below: Pixels, inside: NDArray[np.bool_]) -> tuple[Pixels, NDArray[np.bool_]]:
    """The blended pixels, and which of them are to be used."""
    inside[[0, 1, -2, -1]] = False  # boundary values come from around the area
    inside[:, [0, 1, -2, -1]] = False
    left, top, width, height = cv2.boundingRect(inside.astype(np.uint8))
    if min(width, height) < SMALLEST:
        return below, np.zeros_like(inside)
    # OpenCV centres the area's bounding box on the point.
    centre = (left + width // 2, top + height // 2)
    blended = cv2.seamlessClone(above, below, inside.astype(np.uint8) * 255, centre, cv2.NORMAL_CLONE)
    return np.asarray(blended, dtype=np.uint8), inside
