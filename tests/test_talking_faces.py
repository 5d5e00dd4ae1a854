"""Rendered clips: the paths of codes, the still background, and the stage from render to read-back frames."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from eval.clips import read_clips
from eval.profile import Profile
from eval.talking_faces import (
    EXTREME,
    HEIGHT,
    MOVES,
    ROWS,
    WIDTH,
    Pose,
    Scene,
    at_rest,
    background,
    choose_speakers,
    moved,
    talking_frames,
    talking_path,
)  # fmt: skip
from fse.directions import Direction, write_directions
from fse.generators.mobilestylegan import MobileStyleGAN
from fse.pictures import read_picture
from fse.video.clip import ClipReader
from pipelines import clips as stage
from pipelines.parameters import Clips, read_parameters
from tests.test_video_editing import DiscFinder
from tests.tiny import tiny_generator


def random_directions(rows: int) -> dict[str, Direction]:
    torch.manual_seed(5)
    return {name: Direction(name, 0.1 * torch.randn(rows, 512)) for name in MOVES}


@pytest.fixture(scope="module")
def generator() -> MobileStyleGAN:
    return tiny_generator()


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 120), st.integers(5, 60), st.integers(0, 2**31), st.booleans())
def test_paths_are_smooth_stay_in_bounds_and_end_extreme(frames: int, rate: int, seed: int, extreme: bool) -> None:
    path = talking_path(frames, rate, np.random.default_rng(seed), extreme)
    assert len(path) == frames
    assert path == talking_path(frames, rate, np.random.default_rng(seed), extreme)
    assert {tuple(pose.moves) for pose in path} == {MOVES}
    values = np.array([[*pose.moves.values(), pose.x, pose.y, pose.turn, pose.scale] for pose in path])
    largest = np.array([2.5, 1.4, 2.0, 2.4, 0.036, 0.013, 5.1, 1.036])
    assert (np.abs(values) <= largest).all()
    if frames >= 2 * rate // 3 and rate >= 20:  # a step is small against the range: nothing jumps
        assert (np.abs(np.diff(values, axis=0)).max(0) < np.array([0.7, 0.2, 1.9, 1.9, 0.02, 0.02, 2.0, 0.02])).all()
    assert path[-1].extreme == extreme
    assert extreme or not any(pose.extreme for pose in path)


def test_rest_is_the_mean_along_every_move_and_later_codes_stay(generator: MobileStyleGAN) -> None:
    directions = random_directions(generator.num_codes)
    codes = torch.randn(3, generator.num_codes, 512)
    rest = at_rest(codes, generator.mean_code, directions)
    torch.testing.assert_close(rest[:, ROWS:], codes[:, ROWS:])
    for name in MOVES:
        vector = directions[name].vector[:ROWS]
        along = ((rest - generator.mean_code)[:, :ROWS] * vector).sum((1, 2)) / vector.square().sum()
        torch.testing.assert_close(along, torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(at_rest(rest, generator.mean_code, directions), rest, atol=1e-4, rtol=0)
    there = moved(rest[0], directions, {"smile": 2.0})
    torch.testing.assert_close(there[:ROWS] - rest[0, :ROWS], 2 * directions["smile"].vector[:ROWS])
    torch.testing.assert_close(there[ROWS:], rest[0, ROWS:])


def plain_head(side: int = 256) -> np.ndarray:
    """A dark disc on a light wall."""
    y, x = np.mgrid[:side, :side] / side
    inside = (x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.08
    return np.where(inside[..., None], (60.0, 40.0, 30.0), (200.0, 190.0, 180.0)).astype(np.float32)


def test_the_background_stays_and_the_head_moves() -> None:
    head = plain_head()
    scene = Scene(background(head, np.random.default_rng(0)))
    still = {name: 0.0 for name in MOVES}
    frames = np.stack(
        [
            scene.frame(head, Pose(still, x, 0, turn, scale))
            for x, turn, scale in ((0, 0, 1), (0.035, 0, 1), (0, 5, 1), (0, -5, 1.035), (-0.03, 3, 0.97))
        ]
    ).astype(int)
    assert frames.shape == (5, HEIGHT, WIDTH, 3)
    wall = frames[:, : HEIGHT * 2 // 3]
    assert np.ptp(wall[:, :, :30], 0).max() == 0  # to either side
    assert np.ptp(wall[:, :, -30:], 0).max() == 0
    assert np.abs(frames[0, 20:100, 60:100] - frames[0, 20:100, 20:60]).mean() < 25  # and the render's wall fits in

    def place(frame: np.ndarray) -> np.ndarray:
        rows, columns = np.nonzero(frame.sum(-1) < 250)
        return np.array((columns.mean(), rows.mean()))

    rest = place(frames[0])
    np.testing.assert_allclose(place(frames[1]) - rest, (0.035 * WIDTH, 0), atol=1.0)
    assert place(frames[2])[0] - rest[0] > 5  # clockwise about the neck: the head goes to the right
    assert place(frames[3])[0] - rest[0] < -5


def test_identities_are_the_plainest_in_the_order_of_drawing(generator: MobileStyleGAN) -> None:
    directions = random_directions(generator.num_codes)
    four = choose_speakers(generator, directions, 3, 4)
    assert len(four) == 4
    everyone = choose_speakers(generator, directions, 3, 16)[:16]
    codes = {tuple(each.codes[0, :4].tolist()) for each in everyone}
    assert len(codes) == 16
    again = choose_speakers(generator, directions, 3, 4)
    for one, other in zip(four, again, strict=True):
        assert torch.equal(one.codes, other.codes)
        assert one.spread == other.spread
    random = np.random.default_rng(0)
    shown = list(talking_frames(generator, four[0], directions, talking_path(3, 25, random, True), random))
    assert [frame.shape for frame in shown] == [(HEIGHT, WIDTH, 3)] * 3


class Heads(MobileStyleGAN):
    """Draws a red disc, whatever the codes: the stage's own work is what is looked at."""

    def synthesize(self, codes: Tensor, feature: Tensor | None = None) -> Tensor:
        head = plain_head(64)
        head[head[..., 0] < 100] = (230, 40, 40)
        return (torch.from_numpy(head).permute(2, 0, 1) / 127.5 - 1).expand(len(codes), -1, -1, -1)


def test_the_stage_writes_what_the_real_reader_saw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Render, H.264, reader, tracker, alignment; twice the same to the bit."""
    generator = tiny_generator()
    generator.__class__ = Heads
    monkeypatch.setattr(Profile, "generator", lambda self: generator)
    monkeypatch.setattr(stage, "FaceAligner", lambda path: DiscFinder())
    write_directions(tmp_path / "d.safetensors", random_directions(generator.num_codes).values())
    parameters = Clips(seed=4, count=3, frames=6, rate=25)
    profile = Profile(resolution=64)
    for out in ("a", "b"):
        stage.make_clips(profile, tmp_path / "d.safetensors", parameters, tmp_path / out)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 1 + 3 + 3 * 6
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file

    record = json.loads((tmp_path / "a/clips.json").read_text())
    assert (record["width"], record["height"], record["rate"], record["resolution"]) == (WIDTH, HEIGHT, 25, 64)
    found = read_clips(tmp_path / "a")
    assert [clip.name for clip in found] == ["00", "01", "02"]
    assert [bool(clip.extreme) for clip in found] == [False, False, True]
    for name, entry in record["clips"].items():
        assert entry["frames"] == [f"{name}_{i:03}" for i in range(6)]
        assert entry["times"] == pytest.approx([i / 25 for i in range(6)])
        assert (entry["faces"], entry["gaps"], entry["interpolated"]) == (1, [], [])
        extreme = [f"{name}_{i:03}" for i, pose in enumerate(entry["poses"]) if abs(pose["yaw"]) >= EXTREME]
        assert entry["extreme"] == extreme
        with ClipReader(tmp_path / "a" / entry["video"]) as reader:
            assert (reader.width, reader.height, reader.rate, reader.colour.matrix) == (WIDTH, HEIGHT, 25, 1)
        picture = read_picture(tmp_path / "a/frames" / f"{name}_003.png")
        assert picture.shape == (3, 64, 64)
        assert picture[0, 28:40, 28:36].mean() > 0.5  # the disc is in the middle
        x, y, *_ = entry["squares"][0]
        pose = entry["poses"][0]
        assert abs(x - ((WIDTH - 1) / 2 + pose["x"] * WIDTH)) < 20
        assert 0 < y < HEIGHT


def test_shipped_parameters_make_enough_clips() -> None:
    parameters = read_parameters().clips
    assert parameters.count >= 24
    assert parameters.frames >= 8
