"""How clips are edited."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fse.video.pasting import Blend, Shape


@dataclass(frozen=True)
class ClipSettings:
    """How clips are edited.

    Attributes
    ----------
    resolution : int
        Of the aligned pictures: the method's.
    device : torch.device
        Where the method lives.
    batch : int
        Frames that go through the method together.
    smoothing : float
        Sigma in frames of the landmarks' smoothing; the squares take twice that. 0 smooths nothing.
    stabilise : bool
        Steady the landmarks by optical flow first.
    longest_gap : int
        Frames over which a lost face is interpolated.
    blend, mask : str
        How the face is put back, :mod:`fse.video.pasting`.
    crf, preset
        Of x264, :class:`fse.video.clip.Encoding`.
    """

    resolution: int = 256
    device: torch.device = torch.device("cpu")
    batch: int = 8
    smoothing: float = 3.0
    stabilise: bool = False
    longest_gap: int = 8
    blend: Blend = "feather"
    mask: Shape = "face"
    crf: float = 17
    preset: str = "medium"
