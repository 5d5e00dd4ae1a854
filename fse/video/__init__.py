"""Faces in clips: read, tracked, aligned, inverted, edited, pasted back and written (paper, section 5.3).

>>> from fse.video import edit_clip
>>> edit_clip(source, target, method, aligner, direction=smile, strength=2.0)  # doctest: +SKIP
ClipSummary(frames=120, edited=120, interpolated=0, gaps=(), ...)
"""

from fse.video.aligned import AlignedFrame, Coverage, Gap, aligned_frames
from fse.video.editing import ClipSummary, edit_clip
from fse.video.settings import ClipSettings

__all__ = ["AlignedFrame", "ClipSettings", "ClipSummary", "Coverage", "Gap", "aligned_frames", "edit_clip"]
