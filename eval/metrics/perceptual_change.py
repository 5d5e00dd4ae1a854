"""Does the picture change from frame to frame as much as the source does?

tLP of M. Chu et al., "Learning Temporal Coherence via Self-Supervision for GAN-based Video Generation" (TecoGAN), ACM
TOG 39(4), 2020: with LP a perceptual distance, source x and reconstruction y,

    tLP = mean over consecutive frames of  |LP(x_t, x_{t+1}) - LP(y_t, y_{t+1})|.

LP is ST-LPIPS here (LPIPS in the paper); the value is stated in percent, times 100, as in the authors'
tables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from eval.metrics.clip_metric import Clip, ClipOutcome, absent_frames, mean_of
from eval.metrics.metric import Column
from fse.perceptual import STLPIPS


@dataclass(frozen=True)
class _Changes:
    clip: Clip
    distances: Mapping[tuple[int, ...], float]


class PerceptualChange:
    """tLP on ST-LPIPS."""

    key: ClassVar[str] = "tlp"
    label: ClassVar[str] = "tLP (ST-LPIPS) %"
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "%"
    range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    companions: ClassVar[tuple[Column, ...]] = ()
    measured_on: ClassVar[str] = "pairs of consecutive frames"

    def __init__(self, network: STLPIPS) -> None:
        self.network = network

    def features(self, source: Clip) -> _Changes:
        return _Changes(source, self._changes(source))

    def compare(self, source: _Changes, reconstruction: Clip) -> ClipOutcome:
        failures = absent_frames(source.clip, reconstruction)
        found = source.distances if reconstruction is source.clip else self._changes(reconstruction)
        differences = [100 * abs(found[pair] - source.distances[pair]) for pair in found if pair in source.distances]
        return ClipOutcome({self.key: mean_of(differences)}, len(reconstruction.runs(2)), len(differences), failures)

    def _changes(self, clip: Clip) -> dict[tuple[int, ...], float]:
        """By places of two consecutive frames that are present."""
        features, found = self.network.features(clip.frames), dict[tuple[int, ...], float]()
        for pair in clip.runs(2):
            if all(clip.present[place] for place in pair):
                before, after = ([maps[place : place + 1] for maps in features] for place in pair)
                found[pair] = self.network.distance(before, after).item()
        return found
