"""Stand-ins of RAVDESS's archives: a rendered talking face or three in each, under official names, without sound."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from eval.ravdess import ACTORS, Trial
from eval.talking_faces import choose_speakers, talking_frames, talking_path
from fse.directions import Direction
from fse.generators.style_generator import StyleGenerator
from pipelines.clips import write_clip

CLIPS = 3
"""Different clips; every archive holds one of them, and the first all three."""

FRAMES, RATE = 15, 30
"""Frames that are rendered, and then played there and back, and frames a second."""

_SEED = 603
_NO_SONGS = 18
"""The actor without songs."""


def write_ravdess(folder: Path, generator: StyleGenerator, directions: Mapping[str, Direction]) -> None:
    """``Video_Speech_Actor_01.zip`` to ``24``, and ``Video_Song_Actor_01.zip`` to ``24`` without ``18``.

    Parameters
    ----------
    generator : StyleGenerator
        Of faces, the embedded profile's.
    directions : mapping
        Along which a face moves (:data:`eval.talking_faces.MOVES`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    clips = _clips(generator, directions)
    for channel, kind in ((1, "Speech"), (2, "Song")):
        for actor in ACTORS:
            if (channel, actor) == (2, _NO_SONGS):
                continue
            emotions = range(1, CLIPS + 1) if (channel, actor) == (1, 1) else (1 + actor // 4 % CLIPS,)
            with zipfile.ZipFile(folder / f"Video_{kind}_Actor_{actor:02}.zip", "w") as archive:
                for emotion in emotions:
                    name = Trial(1, channel, emotion, 1, 1, 1, actor).name
                    archive.writestr(zipfile.ZipInfo(f"Actor_{actor:02}/{name}.mp4"), clips[emotion - 1])


def _clips(generator: StyleGenerator, directions: Mapping[str, Direction]) -> list[bytes]:
    contents = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, speaker in enumerate(choose_speakers(generator, directions, _SEED, CLIPS)):
            random = np.random.default_rng([_SEED, number])
            path = talking_path(FRAMES, RATE, random, extreme=False)
            video = Path(scratch) / f"{number}.mp4"
            frames = list(talking_frames(generator, speaker, directions, path, random))
            write_clip(video, [*frames, *reversed(frames)], RATE)
            contents.append(video.read_bytes())
    return contents
