"""A whole clip: read, tracked, aligned, inverted, edited, pasted back and written (paper, section 5.3; protocol.md,
section 6)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fse.alignment import FaceAligner
from fse.inversion import InversionMethod
from fse.pictures import image_from_tensor, tensor_from_image
from fse.refusal import Refusal
from fse.video.aligned import AlignedFrame, Coverage, Gap, tracked_frames
from fse.video.clip import ClipReader, ClipWriter, Encoding, Frame
from fse.video.pasting import face_mask, paste
from fse.video.settings import ClipSettings
from fse.video.tracking import TrackedFrame

Progress = Callable[[int, int | None], None]
"""Called once a frame: frames written, and frames in all where the file says so."""


@dataclass(frozen=True)
class ClipSummary:
    """What became of a clip.

    Attributes
    ----------
    frames, edited, interpolated : int
        Frames written; those with a pasted face; those of the latter whose landmarks were interpolated.
    gaps : tuple of Gap
        Frames that passed unchanged, with the reason: "no face", or "face lost".
    cuts : tuple of int
        First frames of new shots.
    tracks, faces : int
        Times that a face was picked up; the most faces seen together when the whole frame was searched.
    width, height, rate
        Of what was written.
    audio : int
        Audio tracks copied.
    seconds : dict
        Time by step: read, track, align, invert, edit, paste, write.
    """

    frames: int
    edited: int
    interpolated: int
    gaps: tuple[Gap, ...]
    cuts: tuple[int, ...]
    tracks: int
    faces: int
    width: int
    height: int
    rate: float
    audio: int
    seconds: dict[str, float]


def edit_clip(
    source: Path,
    target: Path,
    method: InversionMethod,
    aligner: FaceAligner,
    *,
    direction: Tensor | None = None,
    strength: float = 0.0,
    settings: ClipSettings | None = None,
    progress: Progress | None = None,
) -> ClipSummary:
    """Invert the face in every frame of ``source``, move it by ``strength * direction``, paste it back, write
    ``target``.

    Parameters
    ----------
    source : Path
        A clip of any common kind, :mod:`fse.video.clip`.
    target : Path
        .mp4, .m4v, .mov or .mkv; written whole or not at all. Audio tracks are copied.
    method : InversionMethod
        On ``settings.device``.
    aligner : FaceAligner
        Finds faces.
    direction : Tensor, optional
        (N, 512) or (512,). Without one, or with strength 0, the inversion itself is pasted back.
    strength : float
        In the direction's unit.
    settings : ClipSettings, optional
    progress : callable, optional

    Raises
    ------
    Refusal
        When source or target cannot be used, or no frame holds a face.
    """
    settings = settings or ClipSettings()
    clock = _Clock(settings.device)
    coverage = Coverage()
    with (
        ClipReader(source) as reader,
        ClipWriter.like(reader, target, Encoding(settings.crf, settings.preset)) as writer,
    ):
        frames = clock.each(reader, "read")
        tracked = tracked_frames(frames, aligner, settings, clock)
        while items := list(islice(tracked, settings.batch)):
            for frame in _edited(items, method, direction, strength, settings, clock):
                with clock("write"):
                    writer.write(frame)
            for item in items:
                coverage.add(item)
                if progress is not None:
                    progress(coverage.frames, reader.frames)
        if not coverage.edited:
            raise Refusal(f"no face was found in any of the {coverage.frames} frames of {source}; use a frontal one")
        with clock("write"):
            writer.close()
        return ClipSummary(
            coverage.frames, coverage.edited, coverage.interpolated, tuple(coverage.gaps), tuple(coverage.cuts),
            coverage.tracks, coverage.faces, writer.width, writer.height, float(reader.rate), writer.audio,
            dict(clock.seconds),
        )  # fmt: skip


def _edited(
    items: list[TrackedFrame],
    method: InversionMethod,
    direction: Tensor | None,
    strength: float,
    settings: ClipSettings,
    clock: _Clock,
) -> list[Frame]:
    """The frames of ``items``, those with a face changed."""
    faces = [item for item in items if item.square is not None]
    results = iter(_through_method(faces, method, direction, strength, settings, clock) if faces else ())
    done = []
    for item in items:
        frame = item.frame
        if item.square is not None and item.landmarks is not None:
            with clock("paste"):
                picture = np.asarray(image_from_tensor(next(results)))
                mask = face_mask(item.landmarks, item.square, len(picture), settings.mask)
                frame = paste(frame, picture, item.square, mask, settings.blend)
        done.append(frame)
    return done


@torch.no_grad()  # and not inference mode: methods that optimise need tensors that gradients can pass
def _through_method(
    faces: list[TrackedFrame],
    method: InversionMethod,
    direction: Tensor | None,
    strength: float,
    settings: ClipSettings,
    clock: _Clock,
) -> Tensor:
    """(B, 3, R, R) of the faces of ``faces``, on the CPU."""
    with clock("align"):
        pictures = torch.stack([
            tensor_from_image(AlignedFrame(0, 0, item).picture(settings.resolution)) for item in faces
        ])  # fmt: skip
    with clock("invert"):
        inversion = method.invert(pictures.to(settings.device))
    if direction is None or strength == 0:
        return inversion.picture.float().cpu()
    with clock("edit"):
        return method.edit(inversion, direction.to(settings.device), strength).float().cpu()


class _Clock:
    """Seconds by step; a GPU's work is waited for, so that it counts where it was asked for."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def __call__(self, step: str, /) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
        finally:
            self.seconds[step] += time.perf_counter() - start  # type: ignore[assignment]

    def each(self, frames: Iterable[Frame], step: str) -> Iterator[Frame]:
        """The same frames; the time that each takes to come counts as ``step``."""
        remaining = iter(frames)
        while True:
            with self(step):
                frame = next(remaining, None)
            if frame is None:
                return
            yield frame
