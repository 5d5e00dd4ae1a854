"""Following a face: smoothing, optical flow, and every rule of the tracker."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter1d, label

from fse.alignment import LEFT_EYE, MOUTH_CORNERS, RIGHT_EYE, FaceAligner, Points, face_square
from fse.video.aligned import Coverage, Gap
from fse.video.clip import Colour, Frame, Pixels, planes_of
from fse.video.optical_flow import follow, steadied
from fse.video.smoothing import smooth
from fse.video.tracking import TrackedFrame, overlap, track_face

COLOUR = Colour(matrix=1, full=True)


def smoothed(values: NDArray[np.float64], sigma: float, runs: list[int | None] | None = None) -> NDArray[np.float64]:
    """``values`` (T, ...) as a stream; a run of None keeps its value."""
    named = runs or [0] * len(values)
    items = list(zip(named, values, strict=True))
    done = smooth(iter(items), lambda i: i[0], lambda i: i[1], lambda i, value: (i[0], value), sigma)
    result = list(done)
    assert [run for run, _ in result] == named
    return np.stack([value for _, value in result])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.floats(0.3, 6), st.floats(-50, 50), st.floats(-5, 5))
def test_smoothing_keeps_rest_and_steady_motion_up_to_the_ends(
    n: int, sigma: float, start: float, speed: float
) -> None:
    line = (start + speed * np.arange(n))[:, None] * np.array([1.0, -2.0])
    np.testing.assert_allclose(smoothed(line, sigma), line, atol=1e-8)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 2.0, 3.0, 6.0]))
def test_smoothing_inside_is_the_gaussian(seed: int, sigma: float) -> None:
    values = np.random.default_rng(seed).normal(size=(70, 3))
    expected = gaussian_filter1d(values, sigma, axis=0, truncate=3)
    inside = slice(round(3 * sigma), -round(3 * sigma))
    np.testing.assert_allclose(smoothed(values, sigma)[inside], expected[inside], atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([None, 0, 1, 2]), min_size=1, max_size=40), st.integers(0, 2**32 - 1))
def test_smoothing_never_crosses_from_one_run_into_another(runs: list[int | None], seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(len(runs), 2))
    found = smoothed(values, 2.0, runs)
    begin = 0
    for end in range(1, len(runs) + 1):
        if end == len(runs) or runs[end] != runs[begin]:
            part = values[begin:end]
            np.testing.assert_allclose(found[begin:end], part if runs[begin] is None else smoothed(part, 2.0))
            begin = end
    np.testing.assert_array_equal(smoothed(values, 0.0, runs), values)


def textured(seed: int, height: int = 160, width: int = 200) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).uniform(0, 255, (height // 4, width // 4)).astype(np.float32)
    return (
        np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))
        .clip(0, 255)
        .astype(np.uint8)
    )


def face_at(x: float, y: float, radius: float) -> Points:
    """68 points: eyes ``radius`` apart and the mouth as far below them; the square's side is 4 radii."""
    points = np.tile(np.array((x, y)), (68, 1)).astype(np.float64)
    points[LEFT_EYE] += (-radius / 2, -radius / 2)
    points[RIGHT_EYE] += (radius / 2, -radius / 2)
    points[MOUTH_CORNERS] += (0, radius / 2)
    return points


def test_the_flow_follows_a_shift_and_loses_what_leaves() -> None:
    before = textured(0)
    now = np.roll(before, (3, 5), (0, 1))
    points = face_at(100, 80, 40)
    np.testing.assert_allclose(follow(before, now, points), points + np.array((5, 3)), atol=0.2)
    edge = face_at(197, 80, 40)  # its right eye is outside of the picture
    assert np.isnan(follow(before, now, edge)[RIGHT_EYE]).all()


def test_detection_leads_far_from_the_flow_and_the_flow_near_it() -> None:
    detected = np.zeros((3, 2))
    followed = np.array(((1.0, 0.0), (0.0, 40.0), (np.nan, np.nan)))
    np.testing.assert_allclose(steadied(detected, followed), [(np.exp(-0.01), 0), (0, 0), (0, 0)], atol=1e-4)


@given(st.floats(-300, 300), st.floats(-300, 300), st.floats(5, 80))
def test_overlap_is_that_of_squares(x: float, y: float, radius: float) -> None:
    one, other = face_square(face_at(0, 0, 20)), face_square(face_at(x, y, radius))
    assert overlap(one, one) == pytest.approx(1)
    assert overlap(one, other) == pytest.approx(overlap(other, one))
    assert 0 <= overlap(one, other) <= 1
    moved = face_square(face_at(20, 0, 20))  # a quarter of the side
    assert overlap(one, moved) == pytest.approx(0.75 / 1.25)


@dataclass
class Discs:
    """Finds red discs as a detector finds faces, in a whole frame or in a window; counts both."""

    searches: list[tuple[int, int]] = field(default_factory=list)

    def landmarks(self, picture: Image.Image) -> list[Points]:
        self.searches.append(picture.size)
        pixels = np.asarray(picture).astype(int)
        areas, count = label((pixels[..., 0] > 150) & (pixels[..., 1] < 110))
        faces = []
        for number in range(1, count + 1):
            rows, columns = np.nonzero(areas == number)
            radius = (len(rows) / np.pi) ** 0.5
            if radius > 4:
                faces.append(face_at(columns.mean(), rows.mean(), radius))
        return faces


Disc = tuple[float, float, float]


def scene(discs: Iterable[Disc], light: int = 60) -> Pixels:
    y, x = np.mgrid[:120, :160]
    pixels = np.full((120, 160, 3), (light // 2, light, light), np.uint8)
    for centre_x, centre_y, radius in discs:
        pixels[(x - centre_x) ** 2 + (y - centre_y) ** 2 <= radius**2] = (230, 40, 40)
    return pixels


def frames_of(scenes: Iterable[Pixels]) -> Iterator[Frame]:
    for number, pixels in enumerate(scenes):
        yield Frame(number, number, 1, planes_of(pixels, COLOUR), COLOUR)


def followed(scenes: Iterable[Pixels], **options: float) -> tuple[list[TrackedFrame], Coverage]:
    coverage = Coverage()
    items = list(track_face(frames_of(scenes), Discs(), **{"smoothing": 0.0, **options}))  # type: ignore[arg-type]
    for number, item in enumerate(items):
        assert item.frame.number == number
        assert (item.track is None) == (item.landmarks is None) == (item.square is None) == bool(item.missing)
        coverage.add(item)
    return items, coverage


def centre(item: TrackedFrame) -> Points:
    assert item.landmarks is not None
    return item.landmarks[0]


def test_a_face_is_followed_where_it_goes_and_mostly_in_a_window() -> None:
    path = [(40 + 4 * i, 60 + 10 * np.sin(i / 4), 12 + i / 4) for i in range(20)]
    finder = Discs()
    items = list(track_face(frames_of(scene([disc]) for disc in path), finder, smoothing=0))
    for item, (x, y, radius) in zip(items, path, strict=True):
        assert np.abs(centre(item) - (x, y)).max() < 1.0
        assert item.square is not None
        assert item.square.side == pytest.approx(4 * radius, rel=0.06)
    assert finder.searches.count((160, 120)) == 1  # only the first frame is searched as a whole


def test_a_short_loss_is_interpolated_and_a_long_one_passes() -> None:
    def clip(lost: int) -> list[Pixels]:
        return [scene([] if 5 <= i < 5 + lost else [(50 + i, 60, 12)]) for i in range(20)]

    items, coverage = followed(clip(4), longest_gap=4)
    assert (coverage.edited, coverage.interpolated, coverage.gaps, coverage.tracks) == (20, 4, [], 1)
    assert [item.frame.number for item in items if item.interpolated] == [5, 6, 7, 8]
    for i in range(5, 9):
        assert np.abs(centre(items[i]) - (50 + i, 60)).max() < 0.5
    _, coverage = followed(clip(5), longest_gap=4)
    assert (coverage.edited, coverage.interpolated, coverage.tracks) == (15, 0, 2)
    assert coverage.gaps == [Gap(5, 9, "face lost")]
    _, coverage = followed(clip(1), longest_gap=0)
    assert coverage.gaps == [Gap(5, 5, "face lost")]


def test_frames_without_a_face_before_the_first_and_after_the_last() -> None:
    clip = [scene([(60, 60, 12)] if 3 <= i < 9 else []) for i in range(14)]
    items, coverage = followed(clip)
    assert coverage.gaps == [Gap(0, 2, "no face"), Gap(9, 13, "face lost")]
    assert [item.track for item in items] == [None] * 3 + [0] * 6 + [None] * 5
    assert followed([])[1].frames == 0
    assert followed([scene([])] * 3)[1].gaps == [Gap(0, 2, "no face")]


def test_of_two_faces_the_larger_is_followed_and_the_other_never_taken() -> None:
    clip = [scene(([(40, 60, 13)] if i < 8 else []) + [(120, 60, 10 + i / 2)]) for i in range(20)]
    items, coverage = followed(clip, longest_gap=3)
    assert coverage.faces == 2
    assert [item.track for item in items] == [0] * 8 + [None] * 12  # though the other is larger from frame 6 on
    assert all(abs(centre(item)[0] - 40) < 1 for item in items[:8])
    assert coverage.gaps == [Gap(8, 19, "face lost")]

    # The other comes later, and is seen when the whole frame is searched again.
    back = [scene(([(40, 60, 13)] if not 30 <= i < 37 else []) + [(120, 60, 20)] * (i > 9)) for i in range(41)]
    items, coverage = followed(back, longest_gap=3)
    assert [item.track for item in items] == [0] * 30 + [None] * 7 + [1] * 4
    assert all(abs(centre(item)[0] - 40) < 1 for item in items if item.track is not None)


def test_a_face_alone_is_picked_up_wherever_it_comes_back() -> None:
    clip = [scene([(40, 60, 12)] if i < 5 else [(125, 60, 12)]) for i in range(14)]
    items, coverage = followed(clip, longest_gap=3)
    assert [item.track for item in items] == [0] * 5 + [None] * 3 + [1] * 6
    assert coverage.gaps == [Gap(5, 7, "face lost")]


def test_a_cut_starts_anew_with_the_largest_face() -> None:
    clip = [scene([(40, 60, 14), (120, 60, 10)])] * 5 + [scene([(42, 60, 10), (120, 62, 14)], light=160)] * 5
    items, coverage = followed(clip)
    assert coverage.cuts == [5]
    assert [item.track for item in items] == [0] * 5 + [1] * 5
    assert [round(centre(item)[0]) for item in items] == [40] * 5 + [120] * 5
    smooth_items = list(track_face(frames_of(clip), Discs(), smoothing=3))
    for item, raw in zip(smooth_items, items, strict=True):  # and nothing is smoothed across it
        np.testing.assert_allclose(centre(item), centre(raw), atol=0.05)

    lost = [scene([(40, 60, 12)])] * 3 + [scene([])] * 2 + [scene([], 160)] + [scene([(42, 60, 12)], 160)] * 3
    items, coverage = followed(lost, longest_gap=6)
    assert [item.interpolated for item in items] == [False] * 9  # a gap with a cut in it is no gap to be closed
    assert coverage.gaps == [Gap(3, 4, "face lost"), Gap(5, 5, "no face")]


def test_noise_is_smoothed_and_the_square_is_that_of_the_landmarks() -> None:
    random = np.random.default_rng(0)
    path = [(60 + i + random.normal(0, 1.5), 60 + random.normal(0, 1.5), 12.0) for i in range(40)]
    raw = np.stack([centre(item) for item in track_face(frames_of(scene([p]) for p in path), Discs(), smoothing=0)])
    steady = list(track_face(frames_of(scene([p]) for p in path), Discs(), smoothing=3))
    found = np.stack([item.square.centre for item in steady if item.square is not None])
    shake, was = (np.abs(np.diff(places, 2, axis=0)).mean() for places in (found, raw))
    assert shake < 0.05 * was
    assert np.abs(found[:, 0] - (60 + np.arange(40))).max() < 1.5


def test_frames_are_held_for_the_smoothing_and_no_longer() -> None:
    """Gap 8, then 9 and 18 frames of look-ahead, and those in hand."""
    born: list[weakref.ref[Frame]] = []

    def noted(frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            born.append(weakref.ref(frame))
            yield frame

    clip = (scene([(60 + i / 10, 60, 12)] if i % 30 < 24 else []) for i in range(100))
    alive = [sum(each() is not None for each in born) for _ in track_face(noted(frames_of(clip)), Discs())]
    assert max(alive) <= 8 + 9 + 18 + 4


def test_a_real_face_moved_in_the_plane(assets: Path) -> None:
    """dlib's landmarks on the astronaut, shifted by whole pixels: what is left is the detector's noise."""
    aligner = FaceAligner(assets / "dlib/shape_predictor_68_face_landmarks.dat")
    photograph = np.asarray(Image.open(assets / "photographs/astronaut.png").convert("RGB"))
    shifts = [(2 * i, i) for i in range(12)]
    clip = [photograph[10 + y : 250 + y, 90 + x : 330 + x] for x, y in shifts]
    places = {}
    for name, options in {"raw": {"smoothing": 0.0}, "smooth": {}, "steady": {"stabilise": True}}.items():
        items = list(track_face(frames_of(clip), aligner, **options))  # type: ignore[arg-type]
        assert [item.track for item in items] == [0] * 12
        moved = np.stack([item.square.centre + shift for item, shift in zip(items, shifts, strict=True) if item.square])
        places[name] = np.abs(moved - moved.mean(0)).max()
        sides = [item.square.side for item in items if item.square]
        assert np.ptp(sides) < 0.04 * np.mean(sides)
    assert places["raw"] < 2.5
    assert places["smooth"] < 1.0
    assert places["steady"] < 1.0
