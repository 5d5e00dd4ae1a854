"""Facial attributes measured on pictures: the labels of the editing directions, and what an edit has changed.

Shapes come from dlib's 68 landmarks, in the face's own frame: the origin is the midpoint of the eyes, x runs along the
eye line to the picture's right, y down the face, and the unit is the distance between the eyes' centres. So they do
not depend on the face's place, size and turn in the plane. Colours are means over areas that the landmarks fix, in
CIELAB (D65): lightness L* from 0 (black) to 100 (white), b* from blue to yellow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.color import rgb2lab

from fse.alignment import LEFT_EYE, MOUTH_CORNERS, RIGHT_EYE, FaceAligner, FaceSquare, Points, face_square

NO_FACE = "no face was found"
NOSE_TIP, CHIN = 30, 8
LIPS_MIDDLE = [51, 57]
INNER_LIPS = ([61, 62, 63], [67, 66, 65])
LIDS = ([37, 38, 43, 44], [41, 40, 47, 46])


@dataclass(frozen=True)
class Attribute:
    """What is measured, as it is printed.

    Attributes
    ----------
    key, label, unit : str
        Name in files, name in print, and unit.
    meaning : str
        What a higher value is, and how it is measured.
    where : str
        The region that a change of it may touch: a key of :data:`REGIONS`, or empty for the whole picture.
    """

    key: str
    label: str
    unit: str
    meaning: str
    where: str


ATTRIBUTES = {
    attribute.key: attribute
    for attribute in (
        Attribute("yaw", "yaw", "eye distances", "turned to the picture's right: x of the nose's tip", "head"),
        Attribute(
            "smile",
            "smile",
            "eye distances",
            "mouth corners further apart and higher: their distance, plus their height above the lips' middle",
            "lower face",
        ),
        Attribute("mouth_open", "mouth opening", "eye distances", "gap between the inner lips", "lower face"),
        Attribute("eye_open", "eye opening", "eye distances", "gap between the lids, both eyes", "eyes"),
        Attribute("skin_lightness", "skin lightness", "L*", "mean of a disc on each cheek", "head"),
        Attribute("hair_lightness", "hair lightness", "L*", "mean of the area above the forehead", "head"),
        Attribute(
            "background_lightness",
            "background lightness",
            "L*",
            "mean of the face square's two upper corners",
            "surroundings",
        ),
        Attribute("warmth", "warmth", "b*", "mean of the picture, from blue to yellow", ""),
    )
}

REGIONS = {  # landmarks whose convex hull, and how far it is grown, in eye distances
    "eyes": ([*range(17, 28), *range(36, 48)], 0.15),
    "lower face": ([*range(3, 14), *range(31, 36)], 0.25),
    "head": (range(27), 0.45),
}
BROWS, CROWN = range(17, 27), 1.1
"""The head's hull also holds the brows moved up by so many eye distances: landmarks end at the brows."""


@dataclass(frozen=True)
class Measured:
    """The attributes of a picture.

    Attributes
    ----------
    values : mapping
        ATTRIBUTE -> value; NaN where ``reason`` says why.
    landmarks : array or None
        (68, 2) of the largest face.
    reason : str
        Why something is NaN; empty where nothing is.
    """

    values: Mapping[str, float]
    landmarks: Points | None
    reason: str = ""


class AttributeMeter:
    """Measures pictures by ``aligner``'s landmarks."""

    def __init__(self, aligner: FaceAligner) -> None:
        self.aligner = aligner

    def __call__(self, picture: Image.Image) -> Measured:
        """An RGB picture of any size. Of several faces, the largest counts."""
        faces = self.aligner.landmarks(picture)
        landmarks = max(faces, key=lambda points: face_square(points).side) if faces else None
        return measure(np.asarray(picture), landmarks)


def measure(pixels: NDArray[np.uint8], landmarks: Points | None) -> Measured:
    """The attributes of (H, W, 3), RGB, whose face has ``landmarks`` (68, 2), or that has none."""
    lab: NDArray[np.float64] = rgb2lab(pixels)
    values = dict.fromkeys(ATTRIBUTES, math.nan) | {"warmth": float(lab[..., 2].mean())}
    if landmarks is None:
        return Measured(values, None, NO_FACE)
    shapes = shapes_of(landmarks)
    if not all(map(math.isfinite, shapes.values())):
        return Measured(values, landmarks, "the landmarks of both eyes coincide")
    values |= shapes
    lightness = lab[..., 0]
    outside = []
    for key, area in _areas(landmarks).items():
        mask = np.zeros(lightness.shape, np.uint8)
        for polygon in area:
            cv2.fillConvexPoly(mask, np.round(polygon).astype(np.int32), 1)
        if mask.any():
            values[key] = float(lightness[mask > 0].mean())
        else:
            outside.append(ATTRIBUTES[key].label)
    reason = f"the area of {' and '.join(outside)} lies outside the picture" if outside else ""
    return Measured(values, landmarks, reason)


def shapes_of(landmarks: Points) -> dict[str, float]:
    """The attributes of shape, of landmarks (68, 2); NaN when the eyes' centres coincide."""
    face = in_face_frame(landmarks)
    corners = face[MOUTH_CORNERS]
    apart = float(np.hypot(*(corners[1] - corners[0])))
    return {
        "yaw": float(face[NOSE_TIP, 0]),
        "smile": apart + float(face[LIPS_MIDDLE, 1].mean() - corners[:, 1].mean()),
        "mouth_open": float((face[INNER_LIPS[1], 1] - face[INNER_LIPS[0], 1]).mean()),
        "eye_open": float((face[LIDS[1], 1] - face[LIDS[0], 1]).mean()),
    }


def in_face_frame(landmarks: Points) -> Points:
    """Landmarks (68, 2) in the face's frame; NaN when the eyes' centres coincide."""
    left, right = landmarks[LEFT_EYE].mean(0), landmarks[RIGHT_EYE].mean(0)
    distance = float(np.hypot(*(right - left)))
    if distance == 0:
        return np.full_like(landmarks, np.nan)
    x = (right - left) / distance
    centred = (landmarks - (left + right) / 2) / distance
    return np.stack((centred @ x, centred @ np.array((-x[1], x[0]))), 1)


def _areas(landmarks: Points) -> dict[str, list[Points]]:
    """ATTRIBUTE -> convex polygons (K, 2) that its colour is the mean of."""
    square = face_square(landmarks)
    eyes = [landmarks[each].mean(0) for each in (LEFT_EYE, RIGHT_EYE)]
    distance = float(np.hypot(*(eyes[1] - eyes[0])))
    down = square.corners[3] - square.corners[0]
    down = down / np.hypot(*down)
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    disc = 0.12 * distance * np.stack((np.cos(angle), np.sin(angle)), 1)
    return {
        "skin_lightness": [eye + 0.5 * distance * down + disc for eye in eyes],
        "hair_lightness": [_box(square, (0.3, 0.7), (0.06, 0.16))],
        "background_lightness": [_box(square, (0.0, 0.1), (0.0, 0.3)), _box(square, (0.9, 1.0), (0.0, 0.3))],
    }


def _box(square: FaceSquare, across: tuple[float, float], down: tuple[float, float]) -> Points:
    """Corners (4, 2) of a part of the face square, in fractions of its side from the upper left."""
    origin, right, _, below = square.corners
    places = [(across[0], down[0]), (across[1], down[0]), (across[1], down[1]), (across[0], down[1])]
    return np.array([origin + x * (right - origin) + y * (below - origin) for x, y in places])


def region(where: str, landmarks: Points, shape: tuple[int, int]) -> NDArray[np.float32]:
    """(H, W) in [0, 1]: 1 where a change of an attribute of this region may be, 0 where it may not.

    The hull of the landmarks in :data:`REGIONS`, grown, with an edge that is soft over a tenth of the eye distance;
    ``surroundings`` is what is not the head; without a name it is the whole picture.
    """
    if not where:
        return np.ones(shape, np.float32)
    if where == "surroundings":
        return 1 - region("head", landmarks, shape)
    indices, grown = REGIONS[where]
    points = landmarks[list(indices)]
    across = landmarks[RIGHT_EYE].mean(0) - landmarks[LEFT_EYE].mean(0)
    distance = float(np.hypot(*across))
    if where == "head":
        points = np.concatenate((points, landmarks[BROWS] + CROWN * np.array((across[1], -across[0]))))
    mask = np.zeros(shape, np.uint8)
    hull: Any = cv2.convexHull(points.astype(np.float32)).round().astype(np.int32)
    cv2.fillConvexPoly(mask, hull, 1)
    far = cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    soft = 0.1 * max(distance, 1.0)
    edge: NDArray[np.float32] = np.clip((grown * distance - far) / soft + 0.5, 0, 1).astype(np.float32)
    return edge
