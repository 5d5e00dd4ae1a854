"""A video's aligned frames as picture files, with the record of what was found: what :mod:`eval.clips` reads."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from fse.alignment import FaceAligner
from fse.pictures import write_picture
from fse.video.aligned import Coverage, aligned_frames
from fse.video.settings import ClipSettings


def write_aligned(
    video: Path, name: str, frames: Path, aligner: FaceAligner, settings: ClipSettings, limit: int | None = None
) -> dict[str, Any]:
    """Write the aligned pictures of ``video``, or of its first ``limit`` frames, to ``frames/NAME_FFF.png``.

    Returns the clip's entry of ``clips.json``: ``frames`` (stems of the files), their ``times`` in seconds,
    ``squares`` (centre and half, x and y, in the video's pixels), which were ``interpolated``; ``gaps`` without a face
    and the number of ``faces``. Raises Refusal as :class:`fse.video.clip.ClipReader` does.
    """
    record: dict[str, Any] = {"frames": [], "times": [], "squares": [], "interpolated": []}
    coverage = Coverage()
    for frame in islice(aligned_frames(video, aligner, settings), limit):
        coverage.add(frame.tracked)
        if frame.square is None:
            continue
        stem = f"{name}_{frame.number:03}"
        write_picture(frame.picture(settings.resolution), frames / f"{stem}.png")
        record["frames"].append(stem)
        record["times"].append(round(frame.time, 6))
        record["squares"].append([round(float(v), 3) for v in (*frame.square.centre, *frame.square.half)])
        if frame.interpolated:
            record["interpolated"].append(stem)
    gaps = [{"first": gap.first, "last": gap.last, "reason": gap.reason} for gap in coverage.gaps]
    return record | {"gaps": gaps, "faces": coverage.faces}
