"""Putting a face back: where it came from, under its mask, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fse.alignment import LEFT_EYE, MOUTH_CORNERS, RIGHT_EYE, FaceSquare, Points, cut_square
from fse.video.clip import Colour, Frame, Pixels, planes_of
from fse.video.pasting import Blend, face_mask, paste, to_frame

COLOUR = Colour(matrix=1)


def frame_of(pixels: Pixels) -> Frame:
    return Frame(0, 0, 1, planes_of(pixels, COLOUR), COLOUR)


def pattern(width: int, height: int, fine: float = 14.0) -> Pixels:
    y, x = np.mgrid[:height, :width]
    grey = 128 + 60 * np.sin(x / fine) * np.cos(y / fine)
    return np.stack([grey, grey * 0.8 + 20, 255 - grey], -1).astype(np.uint8)


def square_at(x: float, y: float, side: float, angle: float = 0.0) -> FaceSquare:
    return FaceSquare(np.array((x, y)), side / 2 * np.array((np.cos(angle), np.sin(angle))))


def cropped(frame: Frame, square: FaceSquare, resolution: int) -> Pixels:
    return np.asarray(cut_square(Image.fromarray(frame.rgb()), square, resolution))


def psnr(one: Pixels, other: Pixels) -> float:
    return float(10 * np.log10(255**2 / np.square(one.astype(float) - other).mean()))


@pytest.mark.parametrize("angle", [0.0, 0.3, -1.2])
@pytest.mark.parametrize(("side", "decibels"), [(60.0, 36.0), (128.0, 38.0), (240.0, 36.0)])
@pytest.mark.parametrize("blend", ["feather", "poisson"])
def test_what_was_cut_out_goes_back_to_its_place(side: float, decibels: float, angle: float, blend: Blend) -> None:
    """Measured: 41 dB and more. A shift of half a pixel would cost 10 dB."""
    frame = frame_of(pattern(320, 300))
    square = square_at(161.3, 148.8, side, angle)
    again = paste(frame, cropped(frame, square, 128), square, face_mask(face(square), square, 128, "square"), blend)
    inside = slice(149 - int(side / 3), 149 + int(side / 3)), slice(161 - int(side / 3), 161 + int(side / 3))
    assert psnr(again.rgb()[inside], frame.rgb()[inside]) > decibels


def face(square: FaceSquare) -> Points:
    """68 points that lie in the template roughly as a face's do."""
    share = np.zeros((68, 2))
    share[:17] = np.stack((np.linspace(-0.62, 0.62, 17), 0.1 + 0.65 * np.sin(np.linspace(0, np.pi, 17))), -1)
    share[17:27] = np.stack((np.linspace(-0.5, 0.5, 10), np.full(10, -0.25)), -1)
    share[LEFT_EYE], share[RIGHT_EYE], share[MOUTH_CORNERS] = (-0.25, -0.05), (0.25, -0.05), (0, 0.4)
    down = np.array((-square.half[1], square.half[0]))
    return square.centre + share[:, :1] * square.half + share[:, 1:] * down


squares = st.builds(
    square_at, st.floats(-40, 140), st.floats(-40, 120), st.floats(8, 260), st.floats(-np.pi, np.pi)
)  # some of them partly or wholly outside of the frame


@settings(max_examples=60, deadline=None)
@given(squares, st.sampled_from(["face", "square"]), st.sampled_from(["feather", "poisson"]), st.integers(0, 99))
def test_outside_of_the_mask_every_sample_stays(square: FaceSquare, shape: str, blend: Blend, seed: int) -> None:
    random = np.random.default_rng(seed)
    frame = frame_of(random.integers(0, 256, (80, 100, 3), dtype=np.uint8))
    picture = random.integers(0, 256, (48, 48, 3), dtype=np.uint8)
    mask = face_mask(face(square), square, 48, shape)  # type: ignore[arg-type]
    after = paste(frame, picture, square, mask, blend)
    matrix = to_frame(square, 48)
    y, x = np.mgrid[:80, :100]
    column, row = np.linalg.inv(matrix[:, :2]) @ (np.stack((x.ravel(), y.ravel())) - matrix[:, 2:])
    outside = (np.maximum(np.abs(column - 23.5), np.abs(row - 23.5)) > 24.5).reshape(80, 100)
    np.testing.assert_array_equal(after.luma[outside], frame.luma[outside])
    whole = outside.reshape(40, 2, 50, 2).all((1, 3))
    for plane, before in zip(after.planes[1:], frame.planes[1:], strict=True):
        np.testing.assert_array_equal(plane[whole], before[whole])


@settings(max_examples=30, deadline=None)
@given(squares, st.sampled_from([32, 64, 128]))
def test_the_mask_is_soft_covers_the_face_and_ends_before_the_border(square: FaceSquare, resolution: int) -> None:
    for shape in ("face", "square"):
        mask = face_mask(face(square), square, resolution, shape)  # type: ignore[arg-type]
        assert mask.min() >= 0
        assert mask.max() == pytest.approx(1, abs=1e-3)
        assert not mask[[0, -1]].any()
        assert not mask[:, [0, -1]].any()
        middle = mask[resolution // 3 : 2 * resolution // 3, resolution // 3 : 2 * resolution // 3]
        assert middle.min() > 0.95
        assert np.abs(np.diff(mask, axis=0)).max() < 0.5
    assert face_mask(face(square), square, resolution)[: resolution // 12].max() < 0.2  # hair stays


def test_poisson_takes_the_colours_around_and_feather_the_pictures_own() -> None:
    frame = frame_of(pattern(200, 180))
    square = square_at(100, 90, 120)
    mask = face_mask(face(square), square, 128)
    brighter = np.clip(cropped(frame, square, 128).astype(int) + 40, 0, 255).astype(np.uint8)
    inside = slice(75, 105), slice(85, 115)
    was = frame.rgb()[inside].astype(int)
    assert np.median(paste(frame, brighter, square, mask, "feather").rgb()[inside] - was) > 35
    assert abs(np.median(paste(frame, brighter, square, mask, "poisson").rgb()[inside] - was)) < 6


def test_a_picture_larger_than_its_place_is_averaged() -> None:
    frame = frame_of(np.full((120, 120, 3), 128, np.uint8))
    y, x = np.mgrid[:256, :256]
    stripes = np.repeat((((x + y) % 2) * 255)[..., None], 3, -1).astype(np.uint8)
    square = square_at(60, 60, 60)
    shown = paste(frame, stripes, square, face_mask(face(square), square, 256, "square")).rgb()
    assert np.abs(shown[50:70, 50:70].astype(int) - 127).max() < 4


def test_a_face_outside_of_the_frame_changes_nothing() -> None:
    frame = frame_of(pattern(64, 48))
    square = square_at(-300, 20, 60)
    mask = face_mask(face(square), square, 64)
    assert paste(frame, np.zeros((64, 64, 3), np.uint8), square, mask) is frame
