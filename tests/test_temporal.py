"""Metrics over time against closed cases: a source against itself, known motion, flicker, a frozen clip, lost faces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage import data
from torch import Tensor

from eval.metrics.clip_metric import Clip, ClipMetric
from eval.metrics.clip_suite import SOURCE, ClipSuite, build_clip_suite
from eval.metrics.identity import Descriptor, FaceDescriptor, MeanDescriptor, pixels_of
from eval.metrics.identity_stability import LEAST, GlobalIdentity, LocalIdentity, LowestIdentity
from eval.metrics.landmark_jitter import AddedJitter, added_jitter, landmark_jitter, motion_followed
from eval.metrics.perceptual_change import PerceptualChange
from eval.metrics.shared import Memory, SharedFaces, SharedSTLPIPS
from eval.metrics.warping import WarpingError, optical_flow, pulled_back, visible, warping_error

T = 5
ZERO_MEAN = MeanDescriptor(np.zeros(128), count=1)


@pytest.fixture(scope="module")
def suite(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> ClipSuite:
    path = tmp_path_factory.mktemp("mean") / "mean.json"
    MeanDescriptor(np.full(128, 0.02), count=1).write(path)
    return build_clip_suite(assets, path)


@pytest.fixture(scope="module")
def source() -> Clip:
    """A face that moves two pixels a frame, its background with it."""
    picture = torch.from_numpy(data.astronaut()).permute(2, 0, 1).float() / 127.5 - 1
    return Clip.whole(torch.stack([picture[:, :256, 88 + 2 * t : 344 + 2 * t] for t in range(T)]))


def reconstruction(source: Clip, frames: Tensor, present: Sequence[bool] | None = None) -> Clip:
    return Clip(frames.clamp(-1, 1), source.numbers, tuple(present or source.present))


def flickering(source: Clip, amplitude: float) -> Clip:
    """Every second frame brighter."""
    light = torch.tensor([amplitude * (t % 2) for t in range(T)]).view(T, 1, 1, 1)
    return reconstruction(source, source.frames * 0.8 + light)


def value(metric: ClipMetric, source: Clip, clip: Clip) -> float:
    return metric.compare(metric.features(source), clip).values[metric.key]


# All of them


def test_a_source_against_itself_is_ideal(suite: ClipSuite, source: Clip) -> None:
    copy = reconstruction(source, source.frames.clone())
    frames, clips = suite.measure("00", [f"00_{t:03}" for t in range(T)], source, [("copy", copy)])
    for method in (SOURCE, "copy"):
        row = clips.rows["00", method]
        assert row["status"] == "ok"
        assert (row["tl_id"], row["tg_id"], row["id_lowest"]) == pytest.approx((1, 1, 1), abs=1e-9)
        assert (row["added_jitter"], row["tlp"], row["motion_followed"]) == (0, 0, 1)
        assert 0 < float(row["warping_error"]) < 0.3  # nothing but the flow's own error
        counts = {key: row[f"{key}_used"] for key in ("tl_id", "tg_id", "id_lowest", "added_jitter")}
        assert counts == {"tl_id": T - 1, "tg_id": T * (T - 1) // 2, "id_lowest": T, "added_jitter": T - 2}
        for metric in suite.metrics:
            assert row[f"{metric.key}_used"] == row[f"{metric.key}_expected"]
    assert clips.rows["00", SOURCE]["landmark_jitter"] == clips.rows["00", "copy"]["landmark_jitter"]
    assert {method for _, method in frames.rows} == {"copy"}  # the source has no row among the reconstructions
    assert all(row["psnr"] == math.inf for row in frames.rows.values())


def test_a_frozen_clip_is_steady_and_found_out(suite: ClipSuite, source: Clip) -> None:
    """It keeps its own identity and shows no trembling of its own; what it misses of the motion is seen elsewhere."""
    frozen = reconstruction(source, source.frames[:1].expand_as(source.frames).clone())
    _, clips = suite.measure("00", [f"00_{t:03}" for t in range(T)], source, [("frozen", frozen)])
    row, own = clips.rows["00", "frozen"], clips.rows["00", SOURCE]
    assert float(row["tl_id"]) >= 1
    assert (row["landmark_jitter"], row["motion_followed"]) == (0, 0)
    assert row["added_jitter"] == pytest.approx(own["landmark_jitter"])
    assert float(row["warping_error"]) > 3 * float(own["warping_error"])
    change = next(metric for metric in suite.metrics if isinstance(metric, PerceptualChange))
    distances = change.features(source).distances.values()
    assert row["tlp"] == pytest.approx(100 * sum(distances) / len(distances))


def test_flicker_is_worse_the_stronger_it_is(suite: ClipSuite, source: Clip) -> None:
    for metric in suite.metrics:
        if isinstance(metric, WarpingError | PerceptualChange):
            features = metric.features(source)
            found = [
                metric.compare(features, flickering(source, amplitude)).values[metric.key]
                for amplitude in (0.0, 0.05, 0.1, 0.2)
            ]
            assert (np.diff(found) > 0).all(), metric.label


def test_what_is_absent_is_counted_and_said(suite: ClipSuite, source: Clip) -> None:
    """A frame that could not be read, a frame without a face, and a gap in the numbers, which joins nothing."""
    frames = source.frames.clone()
    frames[3] = 0  # grey: no face
    numbers = (0, 1, 2, 3, 7)
    gappy = Clip(source.frames, numbers, (True,) * T)
    clip = Clip(frames, numbers, (False, True, True, True, True))
    of_frames, clips = suite.measure("00", [f"00_{n:03}" for n in numbers], gappy, [("psp", clip)])
    row, own = clips.rows["00", "psp"], clips.rows["00", SOURCE]
    expected = {"tl_id": 3, "tg_id": 10, "id_lowest": 5, "warping_error": 3, "added_jitter": 2, "tlp": 3}
    used = {"tl_id": 1, "tg_id": 3, "id_lowest": 3, "warping_error": 2, "added_jitter": 0, "tlp": 2}
    for key in expected:
        assert (row[f"{key}_expected"], row[f"{key}_used"]) == (expected[key], used[key]), key
        assert own[f"{key}_expected"] == own[f"{key}_used"] == expected[key]
    assert math.isnan(float(row["added_jitter"]))
    assert row["status"] == "no frame of the reconstruction in frame 0; no face found in the reconstruction in frame 3"
    assert sorted(name for name, _ in of_frames.rows) == ["00_001", "00_002", "00_003", "00_007"]
    assert "no face found" in str(of_frames.rows["00_003", "psp"]["status"])


def test_clips_whose_frames_do_not_fit_are_errors() -> None:
    frames = torch.zeros(2, 3, 16, 16)
    with pytest.raises(ValueError, match="must rise"):
        Clip(frames, (1, 1), (True, True))
    with pytest.raises(ValueError, match="2 frames, 3 numbers"):
        Clip(frames, (0, 1, 2), (True, True))
    metric = WarpingError()
    with pytest.raises(ValueError, match="other frames"):
        metric.compare(metric.features(Clip.whole(frames)), Clip(frames, (3, 4), (True, True)))


def test_shared_networks_see_each_tensor_once(assets: Path, source: Clip) -> None:
    calls: list[Tensor] = []
    memory: Memory[int] = Memory()
    first, second, third = (torch.zeros(1) for _ in range(3))
    for pictures in (first, second, first, second, third, second):
        assert memory.get(pictures, lambda x: calls.append(x) or len(calls)) > 0  # type: ignore[func-returns-value]
    assert [next(i for i, t in enumerate((first, second, third)) if t is x) for x in calls] == [0, 1, 2]
    pictures = source.frames[:1]
    shared, plain = SharedFaces(assets / "dlib"), FaceDescriptor(assets / "dlib")
    assert shared.faces(pictures)[0] is shared.faces(pictures)[0]
    assert np.array_equal(shared(pictures), plain(pictures))  # type: ignore[arg-type]
    network = SharedSTLPIPS.load(assets / "stlpips/alex_shift_tolerant.pth")
    assert network.features(pictures)[0] is network.features(pictures)[0]


# Warping error


def texture(seed: int, side: int = 48) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((side, side, 3), dtype=np.float32) * np.float32(0.5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 9), x=st.integers(-6, 6), y=st.integers(-6, 6), light=st.floats(0, 0.4))
def test_under_the_known_flow_motion_costs_nothing_and_light_its_square(
    seed: int, x: int, y: int, light: float
) -> None:
    before = texture(seed)
    after = np.roll(before, (y, x), (0, 1)) + np.float32(light)
    flow = np.full((48, 48, 2), (x, y), np.float32)
    mask = visible(flow, -flow)
    assert mask.sum() == (48 - abs(x)) * (48 - abs(y))  # what leaves the picture is not compared
    assert warping_error(before, after, flow, mask) == pytest.approx(light**2, abs=1e-6)


def test_pixels_that_disappear_are_not_visible() -> None:
    """A square slides over a resting background: what it covers next, and its edges, are left out."""
    there, back = np.zeros((64, 64, 2), np.float32), np.zeros((64, 64, 2), np.float32)
    there[20:40, 20:40] = back[20:40, 26:46] = (6, 0)
    back *= -1
    mask = visible(there, back)
    assert not mask[20:40, 40:46].any()  # covered in the second frame
    assert mask[25:35, 25:35].all()
    assert mask[:15].all()
    assert not mask[19:21, 22:38].all()


def test_the_flow_is_found_and_does_not_depend_on_threads(source: Clip) -> None:
    before, after = pixels_of(source.frames[:2])
    threads = cv2.getNumThreads()
    try:
        flows = []
        for number in (1, 2, 5):
            cv2.setNumThreads(number)
            flows.append(optical_flow(before, after))
    finally:
        cv2.setNumThreads(threads)
    assert all(np.array_equal(flow, flows[0]) for flow in flows)
    assert np.median(flows[0], (0, 1)) == pytest.approx((-2, 0), abs=0.1)
    pictures = [pixels.astype(np.float32) / 255 for pixels in (before, after)]
    mask = visible(flows[0], optical_flow(after, before))
    assert mask.mean() > 0.7
    still = np.zeros_like(flows[0])
    found, unmoved = (warping_error(*pictures, flow, mask) for flow in (flows[0], still))
    assert found < 0.1 * unmoved
    assert pulled_back(pictures[1], still) == pytest.approx(pictures[1])


def test_the_error_is_lai_et_al_s(source: Clip) -> None:
    """Squared, over channels and visible pixels, in the source's flow; in per mille."""
    clip = flickering(source, 0.1)
    metric = WarpingError()
    features = metric.features(source)
    expected = []
    for (t, u), (flow, mask) in features.flows.items():
        one, other = ((clip.frames[place].permute(1, 2, 0).numpy() + 1) / 2 for place in (t, u))
        difference = (one - pulled_back(other, flow)) * mask[..., None]
        expected.append(1000 * float((difference.astype(float) ** 2).sum() / (3 * mask.sum())))
    assert metric.compare(features, clip).values["warping_error"] == pytest.approx(np.mean(expected))


# Identity


class Known(FaceDescriptor):
    """Descriptors that are given; the frames say which, in their first value."""

    def __init__(self, descriptors: Sequence[Descriptor | None]) -> None:
        self.known = descriptors

    def __call__(self, pictures: Tensor) -> list[Descriptor | None]:
        return [self.known[round(picture[0, 0, 0].item() * 100)] for picture in pictures]


def numbered(first: int, count: int) -> Clip:
    frames = torch.zeros(count, 3, 4, 4)
    frames[:, 0, 0, 0] = torch.arange(first, first + count) / 100
    return Clip.whole(frames)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(2, 6), apart=st.floats(0.05, 1.0))
def test_identity_is_the_source_relative_similarity_matrix(seed: int, count: int, apart: float) -> None:
    rng = np.random.default_rng(seed)
    known = 1 + apart * rng.normal(size=(2 * count, 128))
    units = known / np.linalg.norm(known, axis=1, keepdims=True)
    x, y = units[:count], units[count:]
    own, relative = x @ x.T, (y @ y.T) / (x @ x.T)
    faces = Known(list(known))
    source, clip = numbered(0, count), numbered(count, count)
    if min(own[t, u] for t, u in combinations(range(count), 2)) >= LEAST:
        above = relative[np.triu_indices(count, 1)]
        assert value(LocalIdentity(faces, ZERO_MEAN), source, clip) == pytest.approx(np.diag(relative, 1).mean())
        assert value(GlobalIdentity(faces, ZERO_MEAN), source, clip) == pytest.approx(above.mean())
    assert value(LowestIdentity(faces, ZERO_MEAN), source, clip) == pytest.approx((x * y).sum(1).min())


def test_a_pair_of_source_frames_that_are_not_alike_has_no_ratio() -> None:
    axes = list(np.eye(128)[:3])
    faces = Known([axes[0], axes[0], axes[1], axes[2], axes[2], axes[2]])
    metric = LocalIdentity(faces, ZERO_MEAN)
    outcome = metric.compare(metric.features(numbered(0, 3)), numbered(3, 3))
    assert (outcome.expected, outcome.used, outcome.values["tl_id"]) == (2, 1, pytest.approx(1))


# Landmarks

RUNS = [(t, t + 1, t + 2) for t in range(6)]


def walk(seed: int) -> NDArray[np.float64]:
    """(8, 68, 2): a face that moves at random; eyes 40 px apart."""
    face = np.zeros((68, 2))
    face[42:48, 0] = 40
    return face + np.random.default_rng(seed).normal(0, 5, size=(8, 1, 2))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    offset=st.floats(-20, 20),
    drift=st.floats(-3, 3),
    tremble=st.floats(0, 4),
)
def test_only_trembling_is_added_jitter(seed: int, offset: float, drift: float, tremble: float) -> None:
    """The source's motion, a constant displacement and a steady drift cost nothing; +-a costs 4a, in eye distances."""
    source = walk(seed)
    time = np.arange(8).reshape(8, 1, 1)
    moved = source + offset + drift * time
    moved[..., 0] += tremble * (-1.0) ** time[..., 0]
    found, used = added_jitter(source, moved, RUNS)
    assert (found, used) == (pytest.approx(100 * 4 * tremble / 40, abs=1e-6), 6)
    still = np.broadcast_to(source[:1], source.shape)
    assert landmark_jitter(still, source, RUNS)[0] == 0
    assert added_jitter(source, still, RUNS) == pytest.approx(landmark_jitter(source, source, RUNS))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), share=st.floats(-1, 2), offset=st.floats(-20, 20))
def test_motion_that_is_made_in_part_is_followed_in_part(seed: int, share: float, offset: float) -> None:
    """All of it, displaced: 1; none: 0; a share a: 1 - (1 - a)^2."""
    source, pairs = walk(seed), [run[:2] for run in RUNS]
    assert motion_followed(source, share * source + offset, pairs) == pytest.approx(1 - (1 - share) ** 2, abs=1e-9)
    lost = share * source
    lost[2] = np.nan
    assert motion_followed(source, lost, pairs) == pytest.approx(1 - (1 - share) ** 2, abs=1e-9)
    assert math.isnan(motion_followed(source[:1].repeat(8, 0), source, pairs))


def test_frames_without_a_face_join_no_run() -> None:
    source = walk(0)
    lost = source.copy()
    lost[3] = np.nan
    assert added_jitter(source, lost, RUNS) == (0, 3)
    assert added_jitter(lost, source, RUNS) == (0, 3)
    nothing, used = added_jitter(source, np.full_like(source, np.nan), RUNS)
    assert math.isnan(nothing)
    assert used == 0


def test_a_shaken_picture_is_seen_to_tremble(assets: Path, source: Clip) -> None:
    """By about what it was shaken by: the predictor's noise is far below."""
    metric = AddedJitter(FaceDescriptor(assets / "dlib"))
    features = metric.features(source)
    shaken = torch.stack([torch.roll(frame, 3 * (t % 2), 2) for t, frame in enumerate(source.frames)])
    outcome = metric.compare(features, reconstruction(source, shaken))
    eyes = features.track[:, 42:48].mean((0, 1)) - features.track[:, 36:42].mean((0, 1))
    assert outcome.values["added_jitter"] == pytest.approx(100 * 2 * 3 / np.hypot(*eyes), rel=0.2)
    blank = reconstruction(source, torch.zeros_like(source.frames))
    outcome = metric.compare(metric.features(blank), source)
    assert (outcome.used, set(outcome.failures.values())) == (0, {"no face found in the source"})
