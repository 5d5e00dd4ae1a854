"""Flicker: what changes from frame to frame beyond the source's motion.

The warping error of W.-S. Lai et al., "Learning Blind Video Temporal Consistency", ECCV 2018 (arXiv 1808.00449):
with f the optical flow of the SOURCE from frame t to t+1, the reconstruction's frame t+1 is pulled back along f and
compared with its frame t,

    E(t) = mean over channels and visible pixels p of  (y_t(p) - y_{t+1}(p + f(p)))^2,   pictures in [0, 1],

averaged over the pairs of consecutive frames, in per mille. A pixel is visible if the flows there and back cancel,
|f + f_back|^2 <= 0.01 (|f|^2 + |f_back|^2) + 0.5, no motion boundary runs through it,
|grad f|^2 <= 0.01 |f|^2 + 0.002, and p + f(p) lies in the picture (Lai's mask, but for the last condition).

The flow is dense inverse search, DIS (T. Kroeger et al., ECCV 2016), OpenCV's, at its medium preset, on grey values;
Lai et al. take FlowNet2, so that values do not compare with theirs. The source's own error is not 0: flow is inexact,
light changes, and H.264 leaves noise. A reconstruction that blurs this noise away can be below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from eval.metrics.clip_metric import Clip, ClipOutcome, absent_frames, mean_of
from eval.metrics.identity import Pixels, pixels_of
from eval.metrics.metric import Column

Flow = NDArray[np.float32]
"""(H, W, 2): the displacement in pixels, x and y."""

Mask = NDArray[np.bool_]

Picture = NDArray[np.float32]
"""(H, W, 3) in [0, 1]."""


def optical_flow(before: Pixels, after: Pixels) -> Flow:
    """From each pixel of ``before`` to where it is in ``after``; (H, W, 3) of 8 bits, at least 12 pixels a side."""
    grey = [cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in (before, after)]
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return search.calc(grey[0], grey[1], np.zeros((*grey[0].shape, 2), np.float32)).astype(np.float32, copy=False)


def pulled_back(picture: NDArray[np.float32], flow: Flow) -> NDArray[np.float32]:
    """The value at p + flow(p), bilinear, for every pixel p; the edge's outside the picture."""
    rows, columns = np.indices(flow.shape[:2], dtype=np.float32)
    x, y = columns + flow[..., 0], rows + flow[..., 1]
    return cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32, copy=False)


def visible(there: Flow, back: Flow) -> Mask:
    """(H, W): the pixels of the first frame that the flow to the second one can be trusted at."""
    returned = pulled_back(back, there)
    closed = _square(there + returned) <= 0.01 * (_square(there) + _square(returned)) + 0.5
    right, down = np.zeros_like(there), np.zeros_like(there)
    right[:, :-1], down[:-1] = there[:, 1:] - there[:, :-1], there[1:] - there[:-1]
    smooth = _square(right) + _square(down) <= 0.01 * _square(there) + 0.002
    height, width = there.shape[:2]
    rows, columns = np.indices((height, width), dtype=np.float32)
    x, y = columns + there[..., 0], rows + there[..., 1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    mask: Mask = closed & smooth & inside
    return mask


def warping_error(before: Picture, after: Picture, flow: Flow, mask: Mask) -> float:
    """Mean squared difference of ``before`` and ``after`` pulled back, over channels and the pixels of ``mask``, of
    which there must be one at least."""
    difference = (before - pulled_back(after, flow))[mask]
    return float(np.square(difference, dtype=np.float64).mean())


def _square(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    squared: NDArray[np.float32] = np.square(vectors).sum(-1)
    return squared


@dataclass(frozen=True)
class _Motion:
    """Of the source: its flow and visible pixels, by places of two frames; those without any visible pixel left out."""

    clip: Clip
    flows: dict[tuple[int, ...], tuple[Flow, Mask]]


class WarpingError:
    """Of consecutive frames under the source's flow."""

    key: ClassVar[str] = "warping_error"
    label: ClassVar[str] = "Warping error ‰"
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = "‰"
    range: ClassVar[tuple[float, float]] = (0.0, 1000.0)
    companions: ClassVar[tuple[Column, ...]] = ()
    measured_on: ClassVar[str] = "pairs of consecutive frames"

    def features(self, source: Clip) -> _Motion:
        pixels, flows = pixels_of(source.frames), {}
        for pair in source.runs(2):
            if all(source.present[place] for place in pair):
                there, back = (optical_flow(pixels[a], pixels[b]) for a, b in (pair, pair[::-1]))
                mask = visible(there, back)
                if mask.any():
                    flows[pair] = there, mask
        return _Motion(source, flows)

    def compare(self, source: _Motion, reconstruction: Clip) -> ClipOutcome:
        failures = absent_frames(source.clip, reconstruction)
        pictures, pairs = _unit_range(reconstruction.frames), reconstruction.runs(2)
        errors = [
            1000 * warping_error(pictures[pair[0]], pictures[pair[1]], *source.flows[pair])
            for pair in pairs
            if pair in source.flows and all(reconstruction.present[place] for place in pair)
        ]
        return ClipOutcome({self.key: mean_of(errors)}, len(pairs), len(errors), failures)


def _unit_range(frames: Tensor) -> Sequence[Picture]:
    return list(((frames + 1) / 2).permute(0, 2, 3, 1).float().cpu().contiguous().numpy())
