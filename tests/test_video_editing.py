"""A clip through the whole pipeline: real files, real detection, and what happens where there is no face."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fse.alignment import FaceAligner, Points
from fse.inversion import Inversion
from fse.inverter import CodesInverter
from fse.refusal import Refusal
from fse.video import ClipSettings, Gap, aligned_frames, edit_clip
from fse.video.clip import ClipReader, Pixels
from tests.test_video_tracking import Discs, scene
from tests.tiny import tiny_generator, tiny_pyramid
from tests.video_files import packets, write_video


class Untouched:
    """Gives back what it is given; an edit adds ``strength`` to every value."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def invert(self, pictures: Tensor) -> Inversion:
        self.batches.append(len(pictures))
        return Inversion(torch.zeros(len(pictures), 2, 512), None, pictures)

    def edit(self, inversion: Inversion, direction: Tensor, strength: float) -> Tensor:
        return inversion.picture + strength * direction.mean()


@pytest.fixture(scope="module")
def aligner(assets: Path) -> FaceAligner:
    return FaceAligner(assets / "dlib/shape_predictor_68_face_landmarks.dat")


@pytest.fixture(scope="module")
def speech(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The astronaut, moving through 10 frames of 240 x 240, with sound."""
    photograph = np.asarray(Image.open(assets / "photographs/astronaut.png").convert("RGB"))
    clip = [photograph[10 + i : 250 + i, 90 + 2 * i : 330 + 2 * i] for i in range(10)]
    path = tmp_path_factory.mktemp("speech") / "in.mp4"
    return write_video(path, clip, options={"crf": "10", "threads": "1"}, audio="aac", seconds=0.4, matrix=1)


def frames(path: Path) -> list[Pixels]:
    with ClipReader(path) as reader:
        return [frame.rgb() for frame in reader]


def psnr(one: Any, other: Any) -> float:
    return float(10 * np.log10(255**2 / np.square(np.asarray(one, float) - np.asarray(other, float)).mean()))


@pytest.mark.parametrize("options", [{}, {"blend": "poisson", "stabilise": True}, {"mask": "square"}])
def test_a_face_that_nobody_changes_comes_back_as_it_was(
    speech: Path, tmp_path: Path, aligner: FaceAligner, options: dict[str, Any]
) -> None:
    """39 dB and more over the whole frame, most of which is what crf 17 costs; 1.6 times enlarged, the face is cut out
    and put back twice resampled."""
    done: list[tuple[int, int | None]] = []
    method, settings = Untouched(), ClipSettings(batch=4, **options)
    summary = edit_clip(
        speech, tmp_path / "out.mp4", method, aligner, settings=settings, progress=lambda *n: done.append(n)
    )
    assert (summary.frames, summary.edited, summary.gaps, summary.cuts) == (10, 10, (), ())
    assert (summary.width, summary.height, summary.rate, summary.audio) == (240, 240, 25.0, 1)
    assert (summary.tracks, summary.faces) == (1, 1)
    assert set(summary.seconds) == {"read", "track", "align", "invert", "paste", "write"}
    assert method.batches == [4, 4, 2]
    assert done == [(n, 10) for n in range(1, 11)]
    assert min(psnr(*pair) for pair in zip(frames(speech), frames(tmp_path / "out.mp4"), strict=True)) > 36
    assert [c for _, c in packets(speech, "audio")] == [c for _, c in packets(tmp_path / "out.mp4", "audio")]


def test_an_edit_changes_the_face_and_the_rest_not(speech: Path, tmp_path: Path, aligner: FaceAligner) -> None:
    direction = torch.ones(2, 512)
    summary = edit_clip(speech, tmp_path / "out.mkv", Untouched(), aligner, direction=direction, strength=0.4)
    assert summary.seconds["edit"] > 0
    tracked = list(aligned_frames(speech, aligner))
    assert [frame.time for frame in tracked] == pytest.approx([i / 25 for i in range(10)])
    for before, after, frame in zip(frames(speech), frames(tmp_path / "out.mkv"), tracked, strict=True):
        assert frame.landmarks is not None
        x, y = frame.landmarks[30].astype(int)  # the nose
        nose = slice(y - 5, y + 5), slice(x - 5, x + 5)
        assert after[nose].astype(int).mean() - before[nose].mean() > 25
        assert psnr(before[-40:], after[-40:]) > 36
        assert frame.picture(64).size == (64, 64)
    again = edit_clip(speech, tmp_path / "again.mkv", Untouched(), aligner, direction=direction, strength=0.4)
    assert (tmp_path / "again.mkv").read_bytes() == (tmp_path / "out.mkv").read_bytes()
    assert again.frames == summary.frames


def test_a_method_of_the_project_and_its_directions(speech: Path, tmp_path: Path, aligner: FaceAligner) -> None:
    generator = tiny_generator()
    method = CodesInverter(tiny_pyramid(generator), generator)
    settings = ClipSettings(resolution=generator.resolution)
    for name, direction in {"none": None, "one": torch.randn(512), "each": torch.randn(8, 512)}.items():
        edit_clip(speech, tmp_path / f"{name}.mp4", method, aligner, direction=direction, strength=3, settings=settings)
    outcomes = {path.read_bytes() for path in tmp_path.glob("*.mp4")}
    assert len(outcomes) == 3


class DiscFinder(FaceAligner):
    """Finds discs, as in the tracker's tests, with no file of dlib's."""

    def __init__(self) -> None:
        self._discs = Discs()

    def landmarks(self, picture: Image.Image) -> list[Points]:
        return self._discs.landmarks(picture)


def test_frames_without_a_face_pass_as_they_are(tmp_path: Path) -> None:
    """Bit for bit: source and target are lossless here."""
    lost = range(6, 16)
    clip = [scene([] if i in lost else [(70, 60, 12)]) for i in range(22)]
    clip += [scene([(40, 60, 12)], light=170)] * 3
    source = write_video(tmp_path / "in.mp4", clip, matrix=1)
    settings = ClipSettings(resolution=64, batch=5, longest_gap=4, crf=0)
    summary = edit_clip(
        source, tmp_path / "out.mp4", Untouched(), DiscFinder(), direction=torch.ones(1), strength=-0.5,
        settings=settings,
    )  # fmt: skip
    assert summary.gaps == (Gap(6, 15, "face lost"),)
    assert (summary.edited, summary.tracks, summary.cuts, summary.interpolated) == (15, 3, (22,), 0)
    for i, (before, after) in enumerate(zip(frames(source), frames(tmp_path / "out.mp4"), strict=True)):
        assert np.array_equal(before, after) == (i in lost)


def test_no_face_at_all_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mp4", [scene([])] * 4)
    with pytest.raises(Refusal, match=r"no face was found in any of the 4 frames of .*in\.mp4"):
        edit_clip(source, tmp_path / "out.mp4", Untouched(), DiscFinder())
    with pytest.raises(ValueError, match="frame 0 holds no face"):
        next(iter(aligned_frames(source, DiscFinder()))).picture(64)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_a_stopped_edit_leaves_the_old_target(tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mp4", [scene([(70, 60, 12)])] * 4)
    (tmp_path / "out.mp4").write_bytes(b"old")

    def stop(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        edit_clip(source, tmp_path / "out.mp4", Untouched(), DiscFinder(), progress=stop)
    assert (tmp_path / "out.mp4").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_memory_does_not_grow_with_the_clip(tmp_path: Path) -> None:
    peaks = []
    for count in (40, 110):
        pictures = (scene([(60 + i / 8, 60, 12)]) for i in range(count))
        source = write_video(tmp_path / f"{count}.mp4", pictures)
        tracemalloc.start()
        settings = ClipSettings(resolution=32, preset="ultrafast", smoothing=1)
        summary = edit_clip(source, tmp_path / "out.mp4", Untouched(), DiscFinder(), settings=settings)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert summary.frames == count
    assert peaks[1] < 1.1 * peaks[0] + 2e5
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert file.streams.video[0].frames == 110
