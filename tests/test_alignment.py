"""Alignment to the FFHQ template, on the photographs of the embedded profile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fse.alignment import FaceAligner, FaceSquare, align_every_face, cut_square, face_square
from fse.pictures import list_pictures
from fse.refusal import Refusal


@pytest.fixture(scope="module")
def aligner(assets: Path) -> FaceAligner:
    return FaceAligner(assets / "dlib/shape_predictor_68_face_landmarks.dat")


@pytest.fixture(scope="module")
def portraits(assets: Path, aligner: FaceAligner) -> dict[str, Image.Image]:
    return align_every_face(list_pictures(assets / "photographs"), aligner)


def placed(centre: tuple[float, float], angle: float, side: float) -> FaceSquare:
    return FaceSquare(np.array(centre), side / 2 * np.array((np.cos(angle), np.sin(angle))))


def schematic_face(eyes: float, mouth: float) -> NDArray[np.float64]:
    """68 points: eyes ``eyes`` apart, centred at the origin, the mouth ``mouth`` below."""
    points = np.full((68, 2), 1e6)  # the other points have no influence
    circle = np.array([(np.cos(t), np.sin(t)) for t in np.arange(6) * np.pi / 3])
    points[36:42], points[42:48] = circle - np.array((eyes / 2, 0)), circle + np.array((eyes / 2, 0))
    points[48], points[54] = (-3, mouth), (3, mouth)
    return points


@pytest.mark.parametrize(("eyes", "mouth", "side"), [(60.0, 50.0, 240.0), (20.0, 50.0, 180.0)])
def test_square_is_that_of_the_template_and_turns_with_the_face(eyes: float, mouth: float, side: float) -> None:
    face = schematic_face(eyes, mouth)
    square = face_square(face)
    np.testing.assert_allclose(square.centre, (0, 0.1 * mouth), atol=1e-9)
    np.testing.assert_allclose(square.half, (side / 2, 0), atol=1e-9)
    half = side / 2
    corners = np.array([(-half, -half), (half, -half), (half, half), (-half, half)])
    corners += np.array((0, 0.1 * mouth))
    np.testing.assert_allclose(square.corners, corners, atol=1e-9)

    angle = np.deg2rad(25)
    turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    there = np.array((7, 9))
    np.testing.assert_allclose(face_square(face @ turn * 3 + there).corners, corners @ turn * 3 + there, atol=1e-6)


@pytest.mark.parametrize("side", [90.0, 200.0, 700.0])  # enlarged, reduced on the fine grid, reduced beforehand too
@pytest.mark.parametrize("angle", [0.0, 0.5, -2.0])
def test_pixels_come_from_where_the_square_lies(side: float, angle: float) -> None:
    x, y = np.meshgrid(np.arange(1275), np.arange(1275))
    ramp = Image.fromarray((np.stack([x, y, x], -1) // 5).astype(np.uint8))
    square = placed((610.3, 590.8), angle, side)
    pixels = np.asarray(cut_square(ramp, square, 64)).astype(float) * 5 + 2
    steps = (np.arange(64) + 0.5) / 64 * 2 - 1
    down = np.array((-square.half[1], square.half[0]))
    where = square.centre + steps[None, :, None] * square.half + steps[:, None, None] * down
    error = pixels[..., :2] - where
    assert np.abs(error).max() < 5.5  # a level is 5 pixels wide
    assert np.abs(error.mean((0, 1))).max() < 0.25  # a shift of half a pixel would show


def test_what_lies_outside_is_continued_and_what_lies_inside_is_untouched() -> None:
    random = np.random.default_rng(0)
    whole = Image.fromarray(random.integers(0, 256, (60, 60, 3), dtype=np.uint8)).resize(
        (480, 480), Image.Resampling.BICUBIC
    )
    part = whole.crop((0, 0, 240, 480))
    square = placed((200.0, 240.0), 0.0, 200.0)  # the right 30 % lie outside of the part
    cut, full = (np.asarray(cut_square(image, square, 128)).astype(float) for image in (part, whole))
    # The margin is 40 % of the side, softened from a third of it inside the edge on.
    untouched = int(128 * (0.70 - 0.4 / 3)) - 4
    np.testing.assert_array_equal(cut[4:-4, :untouched], full[4:-4, :untouched])
    assert cut[:, 90:].std() < 0.6 * cut[:, :untouched].std()  # soft
    edge = int(0.70 * 128)
    assert np.abs(np.diff(cut[:, edge - 3 : edge + 3], axis=1)).max() < 30  # and without a seam
    plain = cut_square(Image.new("RGB", (50, 40), (200, 90, 30)), placed((10.0, 10.0), 0.7, 120.0), 64)
    assert plain.getcolors() == [(64 * 64, (200, 90, 30))]


def test_seven_faces_from_left_to_right_and_not_the_false_one(portraits: dict[str, Image.Image]) -> None:
    assert list(portraits) == ["astronaut", *(f"t1_{number}" for number in range(6))]
    assert {(image.size, image.mode) for image in portraits.values()} == {((256, 256), "RGB")}


def test_aligning_an_aligned_picture_changes_it_little(aligner: FaceAligner, portraits: dict[str, Image.Image]) -> None:
    """What remains is the landmarks' own noise: whole pixels, and a predictor that sees another crop."""
    moved = []
    for name, portrait in portraits.items():
        faces = aligner.landmarks(portrait)
        assert len(faces) == 1, name
        square = face_square(faces[0])
        shift, angle = (
            np.abs(square.centre - 127.5).max(),
            np.degrees(np.arctan2(square.half[1], square.half[0])),
        )
        again = np.asarray(aligner.align(portrait)).astype(float)
        change = np.abs(again - np.asarray(portrait)).mean()
        moved.append((shift, abs(square.side / 256 - 1), abs(angle), change))
    # pixels, share of the side, degrees, levels; the largest are those of t1_4, a face in half profile
    np.testing.assert_array_less(np.max(moved, axis=0), (3.0, 0.05, 6.0, 20.0))  # 1.6, 0.028, 4.0, 13.7 measured
    np.testing.assert_array_less(np.median(moved, axis=0), (1.0, 0.025, 1.0, 8.0))


def test_large_picture_gives_the_same_face(assets: Path, aligner: FaceAligner) -> None:
    """Detection runs on a smaller copy; landmarks and pixels come from the picture itself."""
    small = Image.open(assets / "photographs/astronaut.png")
    large = small.resize((3072, 3072), Image.Resampling.BICUBIC)
    (found,) = aligner.landmarks(large)
    (expected,) = aligner.landmarks(small)
    difference = (found + 0.5) / 6 - 0.5 - expected
    assert np.abs(difference).mean() < 1.5
    aligned = np.asarray(aligner.align(large)).astype(float)
    assert np.abs(aligned - np.asarray(aligner.align(small))).mean() < 12


def test_no_face_and_no_model_are_refused(tmp_path: Path, aligner: FaceAligner) -> None:
    empty = Image.new("RGB", (64, 64), (120, 130, 140))
    assert aligner.landmarks(empty) == []
    with pytest.raises(Refusal, match="no face was found"):
        aligner.align(empty)
    empty.save(tmp_path / "wall.png")
    with pytest.raises(Refusal, match=r"no face was found in .*wall\.png"):
        align_every_face([tmp_path / "wall.png"], aligner)
    with pytest.raises(Refusal, match="there is no landmark model"):
        FaceAligner(tmp_path / "absent.dat")
    with pytest.raises(Refusal, match="is not a dlib landmark model"):
        FaceAligner(tmp_path / "wall.png")
