"""RAVDESS, the talking faces of Table 2 in the ``paper`` profile: which clips, and their frames.

Livingstone and Russo, "The Ryerson Audio-Visual Database of Emotional Speech and Song", PLoS ONE 13(5), 2018; the
official archives of Zenodo's record 1188976 (CC BY-NC-SA 4.0), ``Video_Speech_Actor_NN.zip`` and
``Video_Song_Actor_NN.zip``, read in place (protocol.md, section 7). The paper draws 120 videos and does not say which.
Here they are drawn by a seed, evenly over the actors, and the list is written down.

``python -m eval.ravdess ARCHIVES --out data/ravdess`` draws, cuts the faces out and writes what
:func:`eval.clips.read_clips` reads.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from eval.clip_frames import write_aligned
from eval.clips import RECORD
from eval.datasets.tree import Tree, join, open_tree
from fse.alignment import FaceAligner
from fse.refusal import Refusal, exit_on_refusal
from fse.video.settings import ClipSettings

ACTORS = range(1, 25)
COUNT = 120
"""Of videos in Table 2."""

FRAMES = 120
"""At most so many frames of a clip: the official script's limit (protocol.md, section 6)."""

LARGEST_CLIP = 256 << 20
"""Bytes; an official one has about 5 million."""

_ARCHIVE = re.compile(r"Video_(Speech|Song)_Actor_(\d\d)\.zip")
_CLIP = re.compile(r"\d\d(?:-\d\d){6}")
_CHANNELS = {"Speech": 1, "Song": 2}
_LIMITS = {"modality": 3, "channel": 2, "emotion": 8, "intensity": 2, "statement": 2, "repetition": 2, "actor": 24}


@dataclass(frozen=True, order=True)
class Trial:
    """What a file's name says; the numbers are the data set's.

    ``modality`` 1 sound and picture, 2 picture, 3 sound; ``channel`` 1 speech, 2 song; ``emotion`` 1 neutral to 8
    surprised; ``intensity`` 1 normal, 2 strong; odd actors are male, even ones female.
    """

    modality: int
    channel: int
    emotion: int
    intensity: int
    statement: int
    repetition: int
    actor: int

    @classmethod
    def named(cls, name: str) -> Trial | None:
        """The trial of ``01-02-03-...``, None for another name."""
        if not _CLIP.fullmatch(name):
            return None
        numbers = [int(part) for part in name.split("-")]
        if any(not 1 <= number <= limit for number, limit in zip(numbers, _LIMITS.values(), strict=True)):
            return None
        trial = cls(*numbers)
        return None if trial.emotion == 1 and trial.intensity == 2 else trial  # nobody is strongly neutral

    @property
    def name(self) -> str:
        parts = self.modality, self.channel, self.emotion, self.intensity, self.statement, self.repetition, self.actor
        return "-".join(f"{part:02}" for part in parts)


@dataclass(frozen=True)
class Recording:
    """A trial and where its file lies."""

    trial: Trial
    tree: Tree = field(repr=False)
    member: str

    def extract(self, folder: Path) -> Path:
        """Write it to ``folder`` under the trial's name; nothing of the archive's own paths is used."""
        path = folder / f"{self.trial.name}.mp4"
        path.write_bytes(self.tree.read(self.member, LARGEST_CLIP))
        return path


def read_archives(folder: Path) -> list[Recording]:
    """The recordings with sound and picture in the official archives of ``folder``, by name.

    The picture-only ones show the same trials once more and are left out.

    Raises
    ------
    Refusal
        There is no such archive; one is damaged, has members that lead out of it, or a video whose name is not
        RAVDESS's, or of another actor or channel than the archive.
    """
    if not folder.is_dir():
        raise Refusal(f"there is no folder {folder}; give the one that holds RAVDESS's Video_Speech_Actor_01.zip ...")
    found: dict[Trial, Recording] = {}
    for path in sorted(folder.iterdir()):
        if (named := _ARCHIVE.fullmatch(path.name)) is None:
            continue
        channel, actor = _CHANNELS[named[1]], int(named[2])
        for recording in _recordings(open_tree(path)):
            trial = recording.trial
            if (trial.channel, trial.actor) != (channel, actor):
                raise Refusal(f"{path} holds {trial.name}, of another actor or channel; download it again")
            if found.setdefault(trial, recording) is not recording:
                raise Refusal(f"{path} holds {trial.name} twice; download it again")
    if not found:
        raise Refusal(f"{folder} holds none of RAVDESS's archives, Video_Speech_Actor_01.zip ...; download them first")
    return [found[trial] for trial in sorted(found) if trial.modality == 1]


def _recordings(tree: Tree) -> Iterable[Recording]:
    for folder in ("", *tree.listing().folders):  # Actor_NN, or none
        for name in tree.listing(folder).files:
            stem, dot, suffix = name.rpartition(".")
            if not dot or suffix.lower() != "mp4":
                continue
            trial = Trial.named(stem)
            if trial is None:
                raise Refusal(f"{tree.where} holds {name[:100]!a}, no name of RAVDESS; obtain the official archive")
            yield Recording(trial, tree, join(folder, name))


def draw(recordings: Iterable[Recording], count: int = COUNT, seed: int = 0) -> list[Recording]:
    """``count`` recordings, as many of every actor as can be, in the order of their names.

    Actors, and each actor's recordings, are put in the order of a hash of seed and name, and taken in turns. So the
    draw needs no random generator, and is the same everywhere. Raises Refusal if there are fewer.
    """
    by_actor: dict[int, list[Recording]] = {}
    for recording in recordings:
        by_actor.setdefault(recording.trial.actor, []).append(recording)
    there = sum(map(len, by_actor.values()))
    if there < count:
        raise Refusal(f"{count} clips cannot be drawn from {there}; download more of RAVDESS, or draw fewer")

    def order(name: str) -> str:
        return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()

    actors = sorted(by_actor, key=lambda actor: order(f"actor {actor}"))
    queues = [sorted(by_actor[actor], key=lambda each: order(each.trial.name)) for actor in actors]
    turns = (recording for turn in zip_longest(*queues) for recording in turn if recording is not None)
    drawn = [recording for recording, _ in zip(turns, range(count), strict=False)]
    return sorted(drawn, key=lambda each: each.trial)


def write_list(path: Path, drawn: Sequence[Recording], among: int, seed: int) -> None:
    """The drawn names, one a line, below a line that says how they were drawn."""
    head = (
        f"# RAVDESS: {len(drawn)} of {among} recordings with sound and picture, drawn evenly over actors, seed {seed}"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([head, *(each.trial.name for each in drawn)]) + "\n", encoding="utf-8")


def read_list(path: Path, recordings: Iterable[Recording]) -> list[Recording]:
    """The recordings whose names a list holds; raises Refusal for a name that is none, or whose recording is not
    there."""
    by_name = {each.trial.name: each for each in recordings}
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"the list {path} cannot be read ({error}); give one that `eval.ravdess` wrote") from error
    names = [line for line in lines if line and not line.startswith("#")]
    for name in names:
        if name not in by_name:
            what = "no name of RAVDESS" if Trial.named(name) is None else "which the archives do not hold"
            raise Refusal(f"{path} lists {name[:100]!a}, {what}; correct it, or download what is missing")
    if not names or len(set(names)) < len(names):
        raise Refusal(f"{path} lists {'a name twice' if names else 'nothing'}; correct it")
    return [by_name[name] for name in names]


def prepare(
    drawn: Sequence[Recording], out: Path, aligner: FaceAligner, settings: ClipSettings, frames: int = FRAMES
) -> dict[str, str]:
    """Write the aligned frames of each clip and ``clips.json`` to ``out``; clip -> reason for each that failed.

    A run that was stopped goes on with the next clip; the record of other frames or another size is begun anew.
    """
    record: dict[str, Any] = {
        "resolution": settings.resolution,
        "limit": frames,
        "rate": 0.0,
        "clips": {},
        "failed": {},
    }
    path = out / RECORD
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if all(before.get(key) == record[key] for key in ("resolution", "limit")):
        record = before
    wanted = {each.trial.name for each in drawn}
    record["clips"] = {name: entry for name, entry in record["clips"].items() if name in wanted}
    record["failed"] = {}
    missing = [each for each in drawn if each.trial.name not in record["clips"]]
    out.mkdir(parents=True, exist_ok=True)
    for recording in track(missing, "aligning clips", console=Console(stderr=True)):
        name = recording.trial.name
        with tempfile.TemporaryDirectory() as scratch:
            try:
                entry = write_aligned(recording.extract(Path(scratch)), name, out / "frames", aligner, settings, frames)
                if not entry["frames"]:
                    raise Refusal("no face was found in it")
            except Refusal as refusal:
                record["failed"][name] = str(refusal).replace(scratch, str(recording.tree.where))
                continue
        record["clips"][name] = {"video": recording.tree.name_of(recording.member), **entry}
        record["rate"] = record["rate"] or _rate(entry["times"])
        _write(path, record)
    _write(path, record)
    return dict(record["failed"])


def _begun(path: Path, known: dict[str, int]) -> dict[str, Any] | None:
    """The record of a run that was stopped, if it was one with the settings ``known``."""
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return record if {key: record[key] for key in known} == known else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _rate(times: Sequence[float]) -> float:
    """Frames a second, of the first clip; the data set's page does not say it."""
    steps = sorted(b - a for a, b in pairwise(times))
    return round(1 / steps[len(steps) // 2], 3) if steps else 0.0


def _write(path: Path, record: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


@exit_on_refusal
def main(arguments: Sequence[str] | None = None) -> None:
    """Draw, write the list, align; print what became of it."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.ravdess", description=__doc__.partition("\n")[0],
        epilog="example: python -m eval.ravdess data/official/ravdess --out data/ravdess",
    )  # fmt: skip
    parser.add_argument("archives", type=Path, help="the folder of the official zip files")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for frames/, clips.json and list.txt")
    parser.add_argument("--count", type=int, default=COUNT, help=f"clips to draw, {COUNT} by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--list", type=Path, metavar="FILE", help="take the clips of this list; nothing is drawn")
    parser.add_argument("--frames", type=int, default=FRAMES, help=f"of each clip at most, {FRAMES} by default")
    parser.add_argument("--assets", type=Path, default=Path("data/assets"))
    parser.add_argument("--resolution", type=int, default=256, help="of the aligned frames")
    chosen = parser.parse_args(arguments)
    if min(chosen.count, chosen.frames, chosen.resolution) < 1:
        raise Refusal("--count, --frames and --resolution must be at least 1; correct them")
    recordings = read_archives(chosen.archives)
    drawn = read_list(chosen.list, recordings) if chosen.list else draw(recordings, chosen.count, chosen.seed)
    if not chosen.list:
        write_list(chosen.out / "list.txt", drawn, len(recordings), chosen.seed)
    actors = len({each.trial.actor for each in drawn})
    print(f"{len(drawn)} of {len(recordings)} recordings, of {actors} actors")
    aligner = FaceAligner(chosen.assets / "dlib" / "shape_predictor_68_face_landmarks.dat")
    failed = prepare(drawn, chosen.out, aligner, replace(ClipSettings(), resolution=chosen.resolution), chosen.frames)
    for name, reason in failed.items():
        print(f"failed: {name}: {reason}")
    print(f"{chosen.out}: {len(drawn) - len(failed)} clips")


if __name__ == "__main__":
    main()
