"""Does the face stay the same person over time? TL-ID and TG-ID of R. Tzaban et al., "Stitch it in Time: GAN-Based
Facial Editing of Real Videos", SIGGRAPH Asia 2022 (arXiv 2201.08361).

With s(t, u) the cosine of the descriptors of two frames of one clip, reconstruction y and source x:

    TL-ID = mean over consecutive frames of  s_y(t, t+1) / s_x(t, t+1)
    TG-ID = mean over all pairs t < u    of  s_y(t, u) / s_x(t, u)

1 says that the identity holds as well as in the source. A clip that does not move can exceed it, since the source's
own descriptors change with pose and expression; what such a clip misses is seen in the other metrics. Descriptors are
dlib's, centred as in :mod:`eval.metrics.identity` (ArcFace's in the paper): uncentred ones have cosines near 1 for
any two faces. A pair whose source frames do not look alike themselves (s_x below ``LEAST``) has no ratio that means
anything; it is counted as not used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

from eval.metrics.clip_metric import Clip, ClipOutcome, absent_frames, mean_of
from eval.metrics.identity import Descriptor, FaceDescriptor, MeanDescriptor, centred_cosine
from eval.metrics.metric import Column

LEAST = 0.1


@dataclass(frozen=True)
class _Seen:
    clip: Clip
    descriptors: Sequence[Descriptor | None]


class LocalIdentity:
    """TL-ID, over consecutive frames."""

    key: ClassVar[str] = "tl_id"
    label: ClassVar[str] = "TL-ID (dlib)"
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = ""
    range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    companions: ClassVar[tuple[Column, ...]] = ()
    measured_on: ClassVar[str] = "pairs of consecutive frames"

    def __init__(self, describe: FaceDescriptor, mean: MeanDescriptor) -> None:
        self.describe = describe
        self.mean = mean

    def features(self, source: Clip) -> _Seen:
        return _Seen(source, self.describe(source.frames))

    def compare(self, source: _Seen, reconstruction: Clip) -> ClipOutcome:
        found = self.describe(reconstruction.frames)
        failures = _without_face(source, reconstruction, found)
        ratios, pairs = [], self.pairs(reconstruction)
        for t, u in pairs:
            if failures.keys() & {reconstruction.numbers[t], reconstruction.numbers[u]}:
                continue
            own = self._cosine(source.descriptors, t, u)
            if own >= LEAST:
                ratios.append(self._cosine(found, t, u) / own)
        return ClipOutcome({self.key: mean_of(ratios)}, len(pairs), len(ratios), failures)

    def pairs(self, clip: Clip) -> list[tuple[int, ...]]:
        """Places of the frames that are compared."""
        return clip.runs(2)

    def _cosine(self, descriptors: Sequence[Descriptor | None], t: int, u: int) -> float:
        x, y = descriptors[t], descriptors[u]
        assert x is not None
        assert y is not None
        return centred_cosine(x, y, self.mean.values)


class GlobalIdentity(LocalIdentity):
    """TG-ID, over all pairs of frames."""

    key: ClassVar[str] = "tg_id"
    label: ClassVar[str] = "TG-ID (dlib)"
    measured_on: ClassVar[str] = "pairs of any two frames"

    def pairs(self, clip: Clip) -> list[tuple[int, ...]]:
        return list(combinations(range(len(clip.numbers)), 2))


class LowestIdentity:
    """Of a clip, its worst frame's cosine with the source's."""

    key: ClassVar[str] = "id_lowest"
    label: ClassVar[str] = "Lowest ID (dlib)"
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = ""
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    companions: ClassVar[tuple[Column, ...]] = ()
    measured_on: ClassVar[str] = "frames"

    def __init__(self, describe: FaceDescriptor, mean: MeanDescriptor) -> None:
        self.describe = describe
        self.mean = mean

    def features(self, source: Clip) -> _Seen:
        return _Seen(source, self.describe(source.frames))

    def compare(self, source: _Seen, reconstruction: Clip) -> ClipOutcome:
        found = self.describe(reconstruction.frames)
        failures = _without_face(source, reconstruction, found)
        cosines = [
            centred_cosine(x, y, self.mean.values)
            for number, x, y in zip(reconstruction.numbers, source.descriptors, found, strict=True)
            if number not in failures and x is not None and y is not None
        ]
        lowest = min(cosines, default=math.nan)
        return ClipOutcome({self.key: lowest}, len(reconstruction.numbers), len(cosines), failures)


def _without_face(source: _Seen, reconstruction: Clip, found: Sequence[Descriptor | None]) -> dict[int, str]:
    """Number of a frame -> why it cannot be used."""
    failures = absent_frames(source.clip, reconstruction)
    for number, x, y in zip(reconstruction.numbers, source.descriptors, found, strict=True):
        if (x is None or y is None) and number not in failures:
            failures[number] = f"no face found in the {'source' if x is None else 'reconstruction'}"
    return failures
