"""One face through a clip: found, followed, and honest about where it is lost.

The rules, all of them:

- In a shot, the face followed is the largest of the first frame that shows one. Other faces are left alone.
- It goes on where it was: the next frame's face whose square overlaps the last one's by half (intersection over
  union). A face that overlaps none is another one.
- Lost for up to ``longest_gap`` frames and found where it was, its landmarks are interpolated in between. Frames of a
  longer loss, and frames without a face, have none; nothing is smoothed across them.
- Lost for longer, a face is picked up again where it was; and anywhere, the largest first, if no two faces have been
  seen together in the shot. That is looked for in every 25th frame, and wherever the followed face is not in its place.
- A cut ends all of this. It lies where the mean absolute difference of two successive frames' luma, at 32 x 32 pixels,
  exceeds a tenth of the range. A jump that is smaller than that, but moves the face by more than its overlap allows,
  counts as a loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fse.alignment import FaceSquare, Points, face_square
from fse.video.clip import Frame
from fse.video.optical_flow import follow, steadied
from fse.video.smoothing import smooth

CUT = 0.1
"""Mean absolute difference, as a share of the range, from which two frames are of different shots."""

SAME_FACE = 0.5
"""Overlap of squares from which two faces of successive frames are one."""

WINDOW_SIDE, WINDOW_SHARE = 320, 1.4
"""The window in which a known face is looked for: pixels, and its side as a share of the face's square. A face is then
about 115 px large whatever the clip's size; the full search at 1080p takes ten times as long."""

SEARCH_EVERY = 25
"""Frames after which the whole of one is searched, although the followed face is in its place."""

NO_FACE, FACE_LOST = "no face", "face lost"


class LandmarkFinder(Protocol):
    """What is needed of :class:`fse.alignment.FaceAligner`."""

    def landmarks(self, picture: Image.Image) -> list[Points]: ...


class Timer(Protocol):
    """``with timer("track"):`` adds to the time that is counted under that name."""

    def __call__(self, step: str, /) -> AbstractContextManager[object]: ...


def untimed(step: str, /) -> AbstractContextManager[object]:
    return nullcontext(step)


@dataclass(frozen=True)
class TrackedFrame:
    """A frame and the face in it.

    Attributes
    ----------
    frame : Frame
    track : int or None
        Counts from 0 the times that a face was picked up; None without a face.
    landmarks : (68, 2) or None
    square : FaceSquare or None
        Of the FFHQ template.
    interpolated : bool
        The landmarks come from the frames around.
    missing : str
        Why there is no face, or empty.
    cut : bool
        The frame begins a new shot.
    faces : int
        Found in the frame, 0 where only the followed face was looked for.
    """

    frame: Frame
    track: int | None = None
    landmarks: Points | None = None
    square: FaceSquare | None = None
    interpolated: bool = False
    missing: str = ""
    cut: bool = False
    faces: int = 0


def track_face(
    frames: Iterable[Frame],
    finder: LandmarkFinder,
    *,
    smoothing: float = 3.0,
    stabilise: bool = False,
    longest_gap: int = 8,
    timer: Timer = untimed,
) -> Iterator[TrackedFrame]:
    """Every frame in order, with the followed face's landmarks and square.

    Landmarks are smoothed with a sigma of ``smoothing`` frames and the squares that they give with twice that, as in
    the official pipeline; before that, ``stabilise`` steadies them by optical flow. About ``longest_gap`` + 9 *
    ``smoothing`` frames are held.
    """
    observed = _Observer(finder, stabilise, longest_gap, timer).observe(frames)
    closed = _close_gaps(observed, longest_gap)
    steady = smooth(closed, _track, _landmarks, _with_landmarks, smoothing)
    return smooth(steady, _track, _placed, _with_square, 2 * smoothing)


def _track(item: TrackedFrame) -> int | None:
    return item.track


def _landmarks(item: TrackedFrame) -> Points:
    assert item.landmarks is not None
    return item.landmarks


def _with_landmarks(item: TrackedFrame, landmarks: Points) -> TrackedFrame:
    return replace(item, landmarks=landmarks, square=face_square(landmarks))


def _placed(item: TrackedFrame) -> Points:
    assert item.square is not None
    return np.stack((item.square.centre, item.square.half))


def _with_square(item: TrackedFrame, placed: Points) -> TrackedFrame:
    return replace(item, square=FaceSquare(placed[0], placed[1]))


def overlap(one: FaceSquare, other: FaceSquare) -> float:
    """Intersection over union, both taken upright."""
    sides = np.array((one.side, other.side))
    low = np.maximum(one.centre - sides[0] / 2, other.centre - sides[1] / 2)
    high = np.minimum(one.centre + sides[0] / 2, other.centre + sides[1] / 2)
    shared = float(np.prod(np.maximum(high - low, 0)))
    return shared / (float((sides**2).sum()) - shared)


@dataclass
class _Observer:
    """Detection, one frame after the other, before gaps are closed and anything is smoothed."""

    finder: LandmarkFinder
    stabilise: bool
    longest_gap: int
    timer: Timer
    place: FaceSquare | None = field(default=None, init=False)
    alone: bool = field(default=True, init=False)
    tracks: int = field(default=0, init=False)
    lost_for: int = field(default=0, init=False)

    def observe(self, frames: Iterable[Frame]) -> Iterator[TrackedFrame]:
        last: TrackedFrame | None = None
        before: NDArray[np.float32] | None = None
        for frame in frames:
            with self.timer("track"):
                small = _thumbnail(frame)
                cut = before is not None and float(np.abs(small - before).mean()) > CUT
                before = small
                if cut:
                    self.place, self.alone = None, True
                last = replace(self._look(frame, last), cut=cut)
            yield last

    def _look(self, frame: Frame, last: TrackedFrame | None) -> TrackedFrame:
        near = _best(self._in_window(frame, self.place), self.place) if self.place is not None else None
        if near is not None and frame.number % SEARCH_EVERY:
            return self._continued(frame, near, last, 0)
        faces = self.finder.landmarks(Image.fromarray(frame.rgb()))
        if len(faces) > 1:
            self.alone = False
        if near is not None:
            return self._continued(frame, near, last, len(faces))
        if self.place is not None and (near := _best(faces, self.place)) is not None:
            return self._continued(frame, self._as_in_window(frame, near), last, len(faces))
        if faces and (self.place is None or (self.alone and self.lost_for >= self.longest_gap)):
            largest = max(faces, key=lambda points: face_square(points).side)
            return self._picked_up(frame, self._as_in_window(frame, largest), len(faces))
        self.lost_for += 1
        return TrackedFrame(frame, missing=NO_FACE if self.place is None else FACE_LOST, faces=len(faces))

    def _continued(self, frame: Frame, points: Points, last: TrackedFrame | None, faces: int) -> TrackedFrame:
        if self.lost_for > self.longest_gap:
            return self._picked_up(frame, points, faces)
        if self.stabilise and self.lost_for == 0 and last is not None and last.landmarks is not None:
            points = steadied(points, follow(last.frame.luma, frame.luma, last.landmarks))
        return self._found(frame, points, faces)

    def _picked_up(self, frame: Frame, points: Points, faces: int) -> TrackedFrame:
        self.tracks += 1
        return self._found(frame, points, faces)

    def _found(self, frame: Frame, points: Points, faces: int) -> TrackedFrame:
        self.place, self.lost_for = face_square(points), 0
        return TrackedFrame(frame, self.tracks - 1, points, self.place, faces=faces)

    def _in_window(self, frame: Frame, place: FaceSquare) -> list[Points]:
        """Landmarks of the faces in an upright window around ``place``, in the frame's pixels."""
        right = place.half * (2 * WINDOW_SHARE / WINDOW_SIDE)
        down = np.array((-right[1], right[0]))
        origin = place.centre - (right + down) * ((WINDOW_SIDE - 1) / 2)
        window = np.column_stack((right, down, origin))  # pixels of the window -> pixels of the frame
        corners = window @ np.array([(x, y, 1) for x in (-1, WINDOW_SIDE) for y in (-1, WINDOW_SIDE)]).T
        size = np.array((frame.width, frame.height))
        low = np.clip(np.floor(corners.min(1)), 0, size - 2).astype(int) // 2 * 2
        high = np.clip(np.ceil(corners.max(1)), low + 2, size).astype(int)
        high += high % 2
        pixels = frame.rgb((int(low[0]), int(low[1]), int(high[0]), int(high[1])))
        shifted = window - np.column_stack((np.zeros((2, 2)), low))
        pixels = _blurred(pixels, float(np.hypot(*right)))
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        small = cv2.warpAffine(pixels, shifted, (WINDOW_SIDE, WINDOW_SIDE), flags=how)
        faces = self.finder.landmarks(Image.fromarray(np.asarray(small, dtype=np.uint8)))
        return [points @ window[:, :2].T + window[:, 2] for points in faces]

    def _as_in_window(self, frame: Frame, points: Points) -> Points:
        """The same face, measured as the following frames will measure it."""
        place = face_square(points)
        again = _best(self._in_window(frame, place), place)
        return points if again is None else again


def _blurred(pixels: NDArray[np.uint8], step: float) -> NDArray[np.uint8]:
    """``pixels``, without what is too fine to be sampled every ``step`` of them."""
    if step <= 1.5:
        return pixels
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), step / 2.5), dtype=np.uint8)


def _best(faces: list[Points], place: FaceSquare | None) -> Points | None:
    """Of ``faces`` the one that overlaps ``place`` most, if by enough."""
    if not faces or place is None:
        return None
    best = max(faces, key=lambda points: overlap(face_square(points), place))
    return best if overlap(face_square(best), place) >= SAME_FACE else None


def _thumbnail(frame: Frame) -> NDArray[np.float32]:
    """(32, 32) luma, the range spanning 1."""
    span = 255 if frame.colour.full else 219
    return np.asarray(cv2.resize(frame.luma, (32, 32), interpolation=cv2.INTER_AREA) / span, dtype=np.float32)


def _close_gaps(items: Iterable[TrackedFrame], longest_gap: int) -> Iterator[TrackedFrame]:
    """Landmarks of short gaps, linear in the frames' numbers. Holds ``longest_gap`` frames."""
    before: TrackedFrame | None = None
    gap: list[TrackedFrame] = []
    for item in items:
        if item.track is None:
            gap.append(item)
            if len(gap) > longest_gap:
                yield from gap
                gap, before = [], None
            continue
        if before is not None and before.track == item.track:
            gap = [_between(before, missed, item) for missed in gap]
        yield from gap
        gap, before = [], item
        yield item
    yield from gap


def _between(before: TrackedFrame, missed: TrackedFrame, after: TrackedFrame) -> TrackedFrame:
    share = (missed.frame.number - before.frame.number) / (after.frame.number - before.frame.number)
    landmarks = (1 - share) * _landmarks(before) + share * _landmarks(after)
    return replace(
        missed, track=before.track, landmarks=landmarks, square=face_square(landmarks), interpolated=True, missing=""
    )
