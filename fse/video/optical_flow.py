"""Landmarks steadied by the picture's own motion: Lucas-Kanade, as in the official video pipeline (protocol.md,
section 6)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fse.alignment import LEFT_EYE, RIGHT_EYE, Points

LEVELS = 5
"""Of the pyramid."""

TRUST = 10.0
"""Pixels between a detected and a tracked point at which the tracked one weighs 1 / e."""


def follow(before: NDArray[np.uint8], now: NDArray[np.uint8], points: Points) -> Points:
    """Where ``points`` (M, 2) of the luma ``before`` (H, W) lie in ``now``; NaN for one that is lost.

    The window is a quarter of the distance between the eyes.
    """
    eyes = float(np.hypot(*(points[RIGHT_EYE].mean(0) - points[LEFT_EYE].mean(0))))
    window = max(round(eyes / 4), 5)
    margin = 2 * eyes + window
    size = before.shape[1], before.shape[0]
    left, top = np.clip(np.floor(points.min(0) - margin), 0, np.array(size) - 1).astype(int)
    right, bottom = np.clip(np.ceil(points.max(0) + margin) + 1, 1, size).astype(int)
    origin = np.array((left, top))
    found, status, _ = cv2.calcOpticalFlowPyrLK(
        np.ascontiguousarray(before[top:bottom, left:right]),
        np.ascontiguousarray(now[top:bottom, left:right]),
        (points - origin).astype(np.float32).reshape(-1, 1, 2),
        np.zeros((len(points), 1, 2), np.float32),
        winSize=(window, window),
        maxLevel=LEVELS - 1,
    )
    followed: Points = found.reshape(-1, 2).astype(np.float64) + origin
    followed[status.reshape(-1) == 0] = np.nan
    return followed


def steadied(detected: Points, followed: Points) -> Points:
    """``detected`` (M, 2) moved towards ``followed`` by exp(-d^2 / 100) of the way, d their distance in pixels.

    What lies close together is the detector's noise, and the flow is believed; what lies apart is the flow's drift.
    """
    gap = followed - detected
    share = np.exp(-((gap / TRUST) ** 2).sum(1, keepdims=True))
    moved: Points = detected + np.where(np.isnan(gap), 0, share * gap)
    return moved
