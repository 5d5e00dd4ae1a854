"""Attributes of shape against landmarks that were changed on purpose, colours against painted pictures."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from eval.attributes import (
    ATTRIBUTES,
    INNER_LIPS,
    LIDS,
    NO_FACE,
    NOSE_TIP,
    AttributeMeter,
    measure,
    region,
    shapes_of,
)
from fse.alignment import LEFT_EYE, MOUTH_CORNERS, RIGHT_EYE, FaceAligner, Points, align_every_face

SHAPES = ("yaw", "smile", "mouth_open", "eye_open")
DOWN, RIGHT = np.array((0.0, 1.0)), np.array((1.0, 0.0))


@pytest.fixture(scope="module")
def aligner(assets: Path) -> FaceAligner:
    return FaceAligner(assets / "dlib/shape_predictor_68_face_landmarks.dat")


@pytest.fixture(scope="module")
def astronaut(assets: Path, aligner: FaceAligner) -> tuple[Image.Image, Points]:
    """The embedded photograph, aligned, and its landmarks."""
    picture = align_every_face([assets / "photographs/astronaut.png"], aligner)["astronaut"]
    return picture, aligner.landmarks(picture)[0]


def moved(landmarks: Points, places: object, by: NDArray[np.float64]) -> Points:
    """Landmarks (68, 2) with some of them moved by so many eye distances."""
    changed = landmarks.copy()
    distance = np.hypot(*(landmarks[RIGHT_EYE].mean(0) - landmarks[LEFT_EYE].mean(0)))
    changed[places] += by * distance  # type: ignore[index]
    return changed


@given(
    st.floats(0.05, 20),
    st.floats(-math.pi, math.pi),
    st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
)
def test_shapes_do_not_depend_on_place_size_and_turn(
    astronaut: tuple[Image.Image, Points], scale: float, angle: float, shift: tuple[float, float]
) -> None:
    landmarks = astronaut[1]
    turn = np.array(((math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))))
    found, expected = shapes_of(scale * landmarks @ turn + shift), shapes_of(landmarks)
    assert found == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(
    ("attribute", "places", "by", "change"),
    [
        ("yaw", NOSE_TIP, 0.1 * RIGHT, 0.1),
        ("smile", MOUTH_CORNERS, -0.1 * DOWN, 0.1),
        ("smile", MOUTH_CORNERS, np.stack((-0.05 * RIGHT, 0.05 * RIGHT)), 0.1),
        ("mouth_open", INNER_LIPS[1], 0.1 * DOWN, 0.1),
        ("eye_open", LIDS[0], -0.02 * DOWN, 0.02),
    ],
)
def test_each_shape_follows_its_landmarks_and_no_others(
    astronaut: tuple[Image.Image, Points], attribute: str, places: object, by: NDArray[np.float64], change: float
) -> None:
    landmarks = upright(astronaut[1])
    before, after = shapes_of(landmarks), shapes_of(moved(landmarks, places, by))
    assert after.pop(attribute) - before.pop(attribute) == pytest.approx(change, abs=0.01)
    assert after == pytest.approx(before, abs=0.02)  # an eyelid moves the eye's centre


def upright(landmarks: Points) -> Points:
    """Turned so that the eye line is level."""
    across = landmarks[RIGHT_EYE].mean(0) - landmarks[LEFT_EYE].mean(0)
    cos, sin = across / np.hypot(*across)
    return landmarks @ np.array(((cos, -sin), (sin, cos)))


def test_a_mirrored_picture_looks_the_other_way(assets: Path, aligner: FaceAligner) -> None:
    meter = AttributeMeter(aligner)
    picture = align_every_face([assets / "photographs/t1.jpg"], aligner)["t1_1"]
    found = meter(picture).values
    mirrored = meter(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)).values
    assert found["yaw"] < -0.4  # turned to the picture's left
    assert mirrored["yaw"] == pytest.approx(-found["yaw"], abs=0.1)
    for key in set(ATTRIBUTES) - {"yaw"}:
        assert mirrored[key] == pytest.approx(found[key], rel=0.1, abs=0.05)


def test_each_colour_follows_its_own_area(astronaut: tuple[Image.Image, Points]) -> None:
    picture, landmarks = astronaut
    pixels = np.asarray(picture)
    head = region("head", landmarks, pixels.shape[:2])[..., None] > 0.5
    before = measure(pixels, landmarks).values
    dark = measure(np.where(head, pixels // 2, pixels), landmarks).values
    assert dark["skin_lightness"] < before["skin_lightness"] - 15
    assert dark["hair_lightness"] < before["hair_lightness"]
    assert dark["background_lightness"] == pytest.approx(before["background_lightness"], abs=1.5)
    behind = measure(np.where(head, pixels, pixels // 2), landmarks).values
    assert behind["background_lightness"] < before["background_lightness"] - 15
    assert behind["skin_lightness"] == before["skin_lightness"]
    yellow = pixels.copy()
    yellow[..., 2] //= 2
    assert measure(yellow, landmarks).values["warmth"] > before["warmth"] + 10
    grey = np.full_like(pixels, 119)  # sRGB 119 is L* 50
    values = measure(grey, landmarks).values
    assert values["skin_lightness"] == pytest.approx(50, abs=0.2)
    assert values["warmth"] == pytest.approx(0, abs=0.01)


def test_without_a_face_the_reason_is_said(aligner: FaceAligner) -> None:
    found = AttributeMeter(aligner)(Image.new("RGB", (256, 256), (200, 180, 90)))
    assert found.reason == NO_FACE
    assert found.landmarks is None
    assert {key for key, value in found.values.items() if math.isfinite(value)} == {"warmth"}
    assert set(found.values) == set(ATTRIBUTES)


def test_what_cannot_be_measured_is_said(astronaut: tuple[Image.Image, Points]) -> None:
    pixels, landmarks = np.asarray(astronaut[0]), astronaut[1]
    away = measure(pixels, landmarks - (0, 80))  # the face at the upper edge
    assert math.isnan(away.values["hair_lightness"])
    assert "hair lightness" in away.reason
    assert math.isfinite(away.values["yaw"])
    same = measure(pixels, np.ones_like(landmarks))
    assert math.isnan(same.values["yaw"])
    assert same.reason


def test_regions_are_where_they_are_said_to_be(astronaut: tuple[Image.Image, Points]) -> None:
    landmarks, shape = astronaut[1], (256, 256)
    eyes, lower, head, around = (
        region(name, landmarks, shape) for name in ("eyes", "lower face", "head", "surroundings")
    )

    def at(mask: NDArray[np.float32], points: Points) -> NDArray[np.float32]:
        return mask[tuple(points.round().astype(int).T[::-1])]

    assert (at(eyes, landmarks[36:48]) == 1).all()
    assert (at(eyes, landmarks[48:]) == 0).all()
    assert (at(lower, landmarks[48:]) == 1).all()
    assert (at(lower, landmarks[36:48]) == 0).all()
    assert (at(head, landmarks) == 1).all()
    np.testing.assert_allclose(head + around, 1)
    assert (region("", landmarks, shape) == 1).all()
    assert cv2.connectedComponents((head > 0).astype(np.uint8))[0] == 2
