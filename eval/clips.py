"""The clips that video inversion is measured on: a folder of aligned frames, and ``clips.json`` beside it.

``frames/NN_FFF.png`` is frame FFF of clip NN, cut out as the video reader gave it back; a frame of the video without a
face has no picture. What is measured are the last frames of every clip, as many as a parameter says: the extreme poses
stand at the end.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fse.refusal import Refusal

RECORD = "clips.json"


@dataclass(frozen=True)
class SourceClip:
    """A clip's frames, or the last of them.

    Attributes
    ----------
    name : str
        As it stands before the frames' numbers.
    frames : tuple of Path
        Aligned pictures, in order of time.
    extreme : frozenset of str
        Stems of those whose pose is extreme.
    interpolated : frozenset of str
        Stems of those where no face was found: the crop was interpolated between neighbours.
    gaps : int
        Stretches of the whole clip without frames.
    rate : float
        Frames a second.
    """

    name: str
    frames: tuple[Path, ...]
    extreme: frozenset[str] = frozenset()
    interpolated: frozenset[str] = frozenset()
    gaps: int = 0
    rate: float = 25.0

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of the frames in the video; neighbours in time have neighbouring numbers."""
        return tuple(number_of(path.stem) for path in self.frames)


def clip_of(frame: str) -> str:
    """``03`` of ``03_017``."""
    return frame.rpartition("_")[0]


def number_of(frame: str) -> int:
    """17 of ``03_017``."""
    return int(frame.rpartition("_")[2])


def read_clips(folder: Path, *, limit: int | None = None, frames: int | None = None) -> list[SourceClip]:
    """The clips of ``folder`` (``data/clips``), by name.

    Parameters
    ----------
    limit : int, optional
        The first so many clips.
    frames : int, optional
        Of each clip the last so many.

    Raises
    ------
    Refusal
        ``clips.json`` is absent or of another form, a clip has no frames, or a file that it names is absent.
    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        clips = [_clip(folder, name, entry, float(record["rate"])) for name, entry in sorted(record["clips"].items())]
    except FileNotFoundError as error:
        raise Refusal(f"there are no clips in {folder} ({path.name} is missing): run `make repro`") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Refusal(f"{path} is no record of clips ({error!r}): run `make repro`, which makes it") from error
    if not clips:
        raise Refusal(f"{path} names no clips: run `make repro`, which makes them")
    for clip in clips:
        absent = [each for each in clip.frames if not each.is_file()]
        if absent or not clip.frames:
            what = f"the frame {absent[0]} is missing" if absent else f"clip {clip.name} has no frames"
            raise Refusal(f"{what}, though {path} names it: run `make repro`, which makes the clips anew")
    return [_last(clip, frames) for clip in clips[:limit]]


def _clip(folder: Path, name: str, entry: dict[str, Any], rate: float) -> SourceClip:
    frames = sorted((str(frame) for frame in entry["frames"]), key=number_of)
    if any(clip_of(frame) != name for frame in frames) or len(set(map(number_of, frames))) < len(frames):
        raise ValueError(f"frames of clip {name} must be called {name}_000, {name}_001, ...")
    return SourceClip(
        name=name,
        frames=tuple(folder / "frames" / f"{frame}.png" for frame in frames),
        extreme=frozenset(entry.get("extreme", ())),
        interpolated=frozenset(entry.get("interpolated", ())),
        gaps=len(entry.get("gaps", ())),
        rate=rate,
    )


def _last(clip: SourceClip, frames: int | None) -> SourceClip:
    kept = clip.frames if frames is None else clip.frames[-frames:]
    names = {path.stem for path in kept}
    return replace(clip, frames=kept, extreme=clip.extreme & names, interpolated=clip.interpolated & names)


def frames_of(clips: Sequence[SourceClip]) -> list[Path]:
    """Of all clips, by clip and time."""
    return [path for clip in clips for path in clip.frames]
