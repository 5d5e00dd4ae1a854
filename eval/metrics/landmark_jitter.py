"""Does the face tremble, and does it follow? Differences over time of 68 landmarks.

With x_t and y_t the landmarks of source and reconstruction, and d_t = y_t - x_t how far the reconstruction's lie from
the source's,

    added jitter = mean over t and landmarks of |d_{t+1} - 2 d_t + d_{t-1}|,  in percent of the source's eye distance.

The source's motion drops out of d: a reconstruction that follows it exactly, or that is displaced by a constant or by
a steady drift, has none. ``landmark_jitter`` beside it is the plain |y_{t+1} - 2 y_t + y_{t-1}|: motion, trembling and
the predictor's noise together, to be read beside the source's own; 0 for a frozen clip, so that lower is not better.

How much of the source's motion the reconstruction makes too is said by

    motion followed = 1 - sum |d_{t+1} - d_t|^2 / sum |x_{t+1} - x_t|^2,  over landmarks and consecutive frames:

1 for all of it, 0 for a face that does not move, below 0 for one that moves otherwise. The predictor's noise lowers it.

dlib's predictor is noisy: on a face at rest under weak noise its landmarks tremble by 3 % of the eye distance. Its
error depends on the box that it starts from, so that each frame's landmarks are averaged over 25 boxes, shifted in x
and y by -2 to 2 times 1/48 of the box, which leaves 0.6 to 0.8 %; a face that is shifted by 2 to 8 pixels is seen to
move by 0.97 to 1.01 of that. (Shifts of twice that size average no better and see 0.87.) The middle box is the median
of the source's detections over the clip, for every frame and for the reconstruction too: in aligned pictures the face
stays where it is, and a detector's box jumps. A frame of the reconstruction in which no face is detected is not used,
and said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from eval.metrics.clip_metric import Clip, ClipOutcome, absent_frames, mean_of
from eval.metrics.identity import Box, FaceDescriptor, Pixels, pixels_of
from eval.metrics.metric import Column
from fse.alignment import LEFT_EYE, RIGHT_EYE

Track = NDArray[np.float64]
"""(T, 68, 2); NaN in a frame without a face."""


def added_jitter(source: Track, reconstruction: Track, runs: Sequence[tuple[int, ...]]) -> tuple[float, int]:
    """In percent of the source's eye distance, over the ``runs`` of three places that have faces in both; and their
    number. NaN without any."""
    return _trembling(reconstruction - source, source, runs)


def landmark_jitter(track: Track, source: Track, runs: Sequence[tuple[int, ...]]) -> tuple[float, int]:
    """The same of a track alone."""
    return _trembling(track, source, runs)


def motion_followed(source: Track, reconstruction: Track, runs: Sequence[tuple[int, ...]]) -> float:
    """1 less the source's motion that is missing or false, over the ``runs`` of two places that have faces in both;
    NaN without any, or without motion."""
    away = reconstruction - source
    usable = [(a, b) for a, b in runs if np.isfinite(away[[a, b]]).all()]
    false = math.fsum(float(np.square(away[b] - away[a]).sum()) for a, b in usable)
    own = math.fsum(float(np.square(source[b] - source[a]).sum()) for a, b in usable)
    return 1 - false / own if own > 0 else math.nan


def _trembling(moving: Track, source: Track, runs: Sequence[tuple[int, ...]]) -> tuple[float, int]:
    usable = [run for run in runs if np.isfinite(moving[list(run)]).all()]
    if not usable:
        return math.nan, 0
    across = source[:, RIGHT_EYE].mean(1) - source[:, LEFT_EYE].mean(1)
    eye_distance = float(np.nanmean(np.linalg.norm(across, axis=-1)))
    lengths = [np.linalg.norm(moving[c] - 2 * moving[b] + moving[a], axis=-1).mean() for a, b, c in usable]
    return 100 * mean_of(map(float, lengths)) / eye_distance, len(usable)


@dataclass(frozen=True)
class _Tracked:
    clip: Clip
    box: Box | None
    track: Track


class AddedJitter:
    """Of the reconstruction's landmarks against the source's."""

    key: ClassVar[str] = "added_jitter"
    label: ClassVar[str] = "Added jitter %"
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "% of the eye distance"
    range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    companions: ClassVar[tuple[Column, ...]] = (
        Column("landmark_jitter", "Jitter %", False, "% of the eye distance", (0.0, math.inf)),
        Column("motion_followed", "Motion followed", True, "", (-math.inf, 1.0)),
    )
    measured_on: ClassVar[str] = "triples of consecutive frames"

    def __init__(self, describe: FaceDescriptor) -> None:
        self.describe = describe

    def features(self, source: Clip) -> _Tracked:
        boxes = [face.box for face in self.describe.faces(source.frames) if face is not None]
        if not boxes:
            return _Tracked(source, None, np.full((len(source.numbers), 68, 2), np.nan))
        left, top, right, bottom = (int(edge) for edge in np.median(boxes, axis=0))
        box = left, top, right, bottom
        return _Tracked(source, box, self._track(source, box))

    def compare(self, source: _Tracked, reconstruction: Clip) -> ClipOutcome:
        failures = absent_frames(source.clip, reconstruction)
        track = np.full_like(source.track, np.nan)
        if source.box is not None:
            track = source.track if reconstruction is source.clip else self._track(reconstruction, source.box)
        for place, number in enumerate(reconstruction.numbers):
            missing = [np.isnan(each[place]).any() for each in (source.track, track)]
            if any(missing) and number not in failures:
                failures[number] = f"no face found in the {'source' if missing[0] else 'reconstruction'}"
        runs = reconstruction.runs(3)
        added, used = added_jitter(source.track, track, runs)
        both = np.where(np.isnan(source.track), np.nan, track)
        own, _ = landmark_jitter(both, source.track, runs)
        followed = motion_followed(source.track, track, reconstruction.runs(2))
        values = {self.key: added, "landmark_jitter": own, "motion_followed": followed}
        return ClipOutcome(values, len(runs), used, failures)

    def _track(self, clip: Clip, box: Box) -> Track:
        track = np.full((len(clip.numbers), 68, 2), np.nan)
        faces = self.describe.faces(clip.frames)
        for place, (pixels, face) in enumerate(zip(pixels_of(clip.frames), faces, strict=True)):
            if face is not None and clip.present[place]:
                track[place] = self._settled(pixels, box)
        return track

    def _settled(self, pixels: Pixels, box: Box) -> NDArray[np.float64]:
        """(68, 2), the mean over the shifted boxes."""
        left, top, right, bottom = box
        steps = [round(step * (right - left) / 48) for step in range(-2, 3)]
        shifts = [(x, y) for x in steps for y in steps]
        found = [self.describe.landmarks(pixels, (left + x, top + y, right + x, bottom + y)) for x, y in shifts]
        mean: NDArray[np.float64] = np.mean(found, axis=0)
        return mean
