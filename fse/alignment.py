"""Face alignment to the FFHQ template, from 68 landmarks found by dlib (the detector of the FFHQ data set).

Geometry and constants: protocol.md section 2; Karras et al., "A Style-Based Generator Architecture for GANs",
CVPR 2019, appendix A (FFHQ). Coordinates are (x, y) in pixels, the centre of the first pixel at (0, 0); left
and right are the picture's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from fse.pictures import open_picture
from fse.refusal import Refusal

Points = NDArray[np.float64]
"""(N, 2), x and y."""

# The 68 points of iBUG 300-W.
LEFT_EYE, RIGHT_EYE, MOUTH_CORNERS = slice(36, 42), slice(42, 48), [48, 54]

DETECTION_SIDE = 1280
"""Longest side given to the detector, in pixels; it then doubles the picture and finds faces from 40 px on."""

DETECTION_THRESHOLD = 0.25
"""Lowest accepted score of dlib's detector. Of the real faces looked at while this was chosen (six in t1.jpg,
one in astronaut.png, 20 aligned portraits) the weakest scores 0.37; the false face in astronaut.png scores
0.12."""


@dataclass(frozen=True)
class FaceSquare:
    """The square of a picture that alignment maps to the whole aligned picture.

    ``centre`` (2,); ``half`` (2,): from the centre to the middle of the right edge. The lower edge lies a
    quarter turn clockwise of it.
    """

    centre: Points
    half: Points

    @property
    def side(self) -> float:
        return 2 * float(np.hypot(*self.half))

    @property
    def corners(self) -> Points:
        """(4, 2): upper left, upper right, lower right, lower left."""
        right, down = self.half, _quarter_turn(self.half)
        return self.centre + np.stack((-right - down, right - down, right + down, down - right))


def _quarter_turn(vector: Points) -> Points:
    """Clockwise as seen (y points down)."""
    return np.array((-vector[1], vector[0]))


def face_square(landmarks: Points) -> FaceSquare:
    """The FFHQ square of 68 landmarks (68, 2).

    Its side is twice the larger of 2.0 eye distances and 1.8 distances from the eyes' midpoint to the mouth;
    its centre lies 0.1 of the latter below that midpoint; its direction is that of the sum of the eye line
    and the perpendicular to the line from eyes to mouth.
    """
    left, right = landmarks[LEFT_EYE].mean(0), landmarks[RIGHT_EYE].mean(0)
    midpoint = (left + right) / 2
    across, down = right - left, landmarks[MOUTH_CORNERS].mean(0) - midpoint
    direction = across - _quarter_turn(down)
    length = max(2.0 * np.hypot(*across), 1.8 * np.hypot(*down))
    return FaceSquare(midpoint + 0.1 * down, direction / np.hypot(*direction) * length)


def _extended(pixels: NDArray[np.uint8], margins: NDArray[np.int64], side: float) -> NDArray[np.float32]:
    """``pixels`` (H, W, 3) continued past its edges by ``margins`` ((left, top), (right, bottom)).

    Reflected, then blurred (sigma 2 % of ``side``) from a third of a margin inside the old edge on, and faded
    to the median colour towards the new edge.
    """
    (left, top), (right, bottom) = margins
    reflected = np.pad(pixels, ((top, bottom), (left, right), (0, 0)), mode="reflect")
    blurred = np.asarray(Image.fromarray(reflected).filter(ImageFilter.GaussianBlur(0.02 * side)))

    def depth(size: int, before: int, after: int) -> NDArray[np.float32]:
        # 0 at the new edge, 1 at the old one, more inside
        position = np.arange(size, dtype=np.float32)
        return np.minimum(position / max(before, 1), (size - 1 - position) / max(after, 1))

    height, width = reflected.shape[:2]
    outside = 1 - np.minimum.outer(depth(height, top, bottom), depth(width, left, right))[..., None]
    softened = reflected + (blurred.astype(np.float32) - reflected) * np.clip(3 * outside + 1, 0, 1)
    faded: NDArray[np.float32] = softened + (np.median(softened, (0, 1)) - softened) * np.clip(outside, 0, 1)
    return faded


def cut_square(picture: Image.Image, square: FaceSquare, resolution: int) -> Image.Image:
    """The pixels of ``square`` as an upright RGB image of ``resolution`` pixels.

    Large squares are first reduced by a whole factor; what lies outside the picture is continued by
    reflection, blur and fade; the square is sampled bilinearly on a grid four times as fine, then reduced by
    Lanczos.
    """
    centre, half = square.centre, square.half
    if (factor := int(square.side / (2 * resolution))) > 1:
        picture = picture.reduce(factor)
        centre, half = (centre + 0.5) / factor - 0.5, half / factor
    reduced = FaceSquare(centre, half)
    corners, side = reduced.corners, reduced.side

    border = max(round(0.1 * side), 3)
    first, last = np.floor(corners.min(0)).astype(int) - border, np.ceil(corners.max(0)).astype(int) + border
    size = np.array(picture.size)
    begin, end = np.clip(first, 0, size - 1), np.clip(last, 1, size)
    pixels: NDArray[Any] = np.asarray(picture.crop((*begin.tolist(), *end.tolist())))
    margins = np.maximum(np.stack((begin - first, last - end)), 0)
    if margins.max() > border - 4:
        margins = np.maximum(margins, round(0.3 * side))
        pixels = _extended(pixels, margins, side)
        begin = begin - margins[0]

    fine = 4 * resolution
    right, down = 2 * reduced.half / fine, 2 * _quarter_turn(reduced.half) / fine
    origin = corners[0] - begin + 0.5  # Pillow counts from the first pixel's corner
    affine = (right[0], down[0], origin[0], right[1], down[1], origin[1])
    channels = []
    for channel in np.moveaxis(pixels, 2, 0).astype(np.float32):  # Pillow's 8-bit transform rounds down
        sampled = Image.fromarray(channel).transform(
            (fine, fine), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR
        )
        channels.append(np.asarray(sampled.resize((resolution, resolution), Image.Resampling.LANCZOS)))
    return Image.fromarray(np.stack(channels, -1).round().clip(0, 255).astype(np.uint8))


class FaceAligner:
    """dlib's frontal face detector and its 68-landmark predictor, whose file is ``landmarks_model``.

    Raises Refusal if the file is absent or not such a model.
    """

    def __init__(self, landmarks_model: Path) -> None:
        if not landmarks_model.is_file():
            raise Refusal(f"there is no landmark model {landmarks_model}; run `python -m pipelines.assets`")
        try:
            self._predictor = dlib.shape_predictor(str(landmarks_model))
        except RuntimeError as error:
            raise Refusal(
                f"{landmarks_model} is not a dlib landmark model ({error}); run `python -m pipelines.assets`"
            ) from error
        self._detector = dlib.get_frontal_face_detector()

    def landmarks(self, picture: Image.Image) -> list[Points]:
        """The 68 landmarks (68, 2) of every face in an RGB picture, from left to right; empty if there is
        none."""
        width, height = picture.size
        scale = max(width, height, DETECTION_SIDE) / DETECTION_SIDE
        small = picture.resize((max(round(width / scale), 1), max(round(height / scale), 1)))
        boxes, _, _ = self._detector.run(np.asarray(small), 1, DETECTION_THRESHOLD)
        pixels = np.asarray(picture)
        faces = []
        for box in boxes:
            edges = (round(edge * scale) for edge in (box.left(), box.top(), box.right(), box.bottom()))
            shape = self._predictor(pixels, dlib.rectangle(*edges))
            faces.append(np.array([(point.x, point.y) for point in shape.parts()], dtype=np.float64))
        return sorted(faces, key=lambda points: float(points[:, 0].mean()))

    def align(self, picture: Image.Image, landmarks: Points | None = None, resolution: int = 256) -> Image.Image:
        """The face of ``landmarks`` (68, 2), or else the largest face, in the FFHQ template at
        ``resolution``.

        Raises Refusal if no landmarks are given and no face is found.
        """
        if landmarks is None:
            faces = self.landmarks(picture)
            if not faces:
                raise Refusal("no face was found in the picture; use one with a frontal face of at least 40 pixels")
            landmarks = max(faces, key=lambda points: face_square(points).side)
        return cut_square(picture, face_square(landmarks), resolution)


def align_every_face(
    photographs: Iterable[Path], aligner: FaceAligner, resolution: int = 256
) -> dict[str, Image.Image]:
    """Every face of the files ``photographs``, aligned: by the file's name, or NAME_0, NAME_1 ... from left
    to right.

    The embedded photographs give t1_0 ... t1_5 and astronaut. Raises Refusal naming a file without a face.
    """
    aligned = {}
    for path in photographs:
        picture = open_picture(path)
        faces = aligner.landmarks(picture)
        if not faces:
            raise Refusal(f"no face was found in {path}; remove the file or use a frontal portrait")
        for number, points in enumerate(faces):
            name = path.stem if len(faces) == 1 else f"{path.stem}_{number}"
            aligned[name] = cut_square(picture, face_square(points), resolution)
    return aligned
