"""The frames of a clip with their face in the FFHQ template: what evaluation sees, and what a method is given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from fse.alignment import FaceAligner, FaceSquare, Points, cut_square
from fse.video.clip import ClipReader, Frame
from fse.video.settings import ClipSettings
from fse.video.tracking import Timer, TrackedFrame, track_face, untimed


@dataclass(frozen=True)
class Gap:
    """Frames ``first`` to ``last``, counted from 0 and both included, in which there was no face to edit."""

    first: int
    last: int
    reason: str


@dataclass
class Coverage:
    """What tracking found, frame by frame; hand every :class:`TrackedFrame` to :meth:`add`."""

    frames: int = 0
    edited: int = 0
    interpolated: int = 0
    tracks: int = 0
    faces: int = 0
    cuts: list[int] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)

    def add(self, item: TrackedFrame) -> None:
        number = self.frames
        self.frames += 1
        self.faces = max(self.faces, item.faces)
        if item.cut:
            self.cuts.append(number)
        if item.track is not None:
            self.edited += 1
            self.interpolated += item.interpolated
            self.tracks = max(self.tracks, item.track + 1)
        elif self.gaps and self.gaps[-1].last == number - 1 and self.gaps[-1].reason == item.missing and not item.cut:
            self.gaps[-1] = Gap(self.gaps[-1].first, number, item.missing)
        else:
            self.gaps.append(Gap(number, number, item.missing))


@dataclass(frozen=True)
class AlignedFrame:
    """A frame of a clip with its face in the FFHQ template.

    Attributes
    ----------
    number : int
        From 0.
    time : float
        Seconds since the clip's start.
    tracked : TrackedFrame
    """

    number: int
    time: float
    tracked: TrackedFrame

    @property
    def square(self) -> FaceSquare | None:
        return self.tracked.square

    @property
    def landmarks(self) -> Points | None:
        """(68, 2), smoothed, in the frame's pixels."""
        return self.tracked.landmarks

    @property
    def interpolated(self) -> bool:
        return self.tracked.interpolated

    def picture(self, resolution: int) -> Image.Image:
        """The face, upright, at ``resolution`` pixels; raises ValueError if there is none."""
        if self.square is None:
            raise ValueError(f"frame {self.number} holds no face ({self.tracked.missing})")
        return cut_square(Image.fromarray(self.tracked.frame.rgb()), self.square, resolution)


def aligned_frames(source: Path, aligner: FaceAligner, settings: ClipSettings | None = None) -> Iterator[AlignedFrame]:
    """Every frame of the clip in order, tracked; memory does not grow with the clip. Raises Refusal as
    :class:`ClipReader` does."""
    with ClipReader(source) as reader:
        for item in tracked_frames(reader, aligner, settings or ClipSettings()):
            yield AlignedFrame(item.frame.number, float(item.frame.pts * reader.time_base), item)


def tracked_frames(
    frames: Iterable[Frame], aligner: FaceAligner, settings: ClipSettings, timer: Timer = untimed
) -> Iterator[TrackedFrame]:
    """``frames`` with the followed face, by ``settings``."""
    return track_face(
        frames, aligner, smoothing=settings.smoothing, stabilise=settings.stabilise, longest_gap=settings.longest_gap,
        timer=timer,
    )  # fmt: skip
