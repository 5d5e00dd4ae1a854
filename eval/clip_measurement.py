"""Measuring inverted clips, and the files that the measurements are kept in.

What is compared, averaged and tested is a clip: the frames of one are no independent samples. ``clips.csv`` has a row
a frame and method, ``clips.json`` the means over clips of the means over a clip's frames; ``clips_temporal.csv`` a row
a clip and method (and one for the source itself), ``clips_temporal.json`` their means over clips. The two JSON files
have the form of :class:`eval.measurement.SetMeasurements`, in which a "picture" is a clip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console
from rich.progress import Progress

from eval.clips import SourceClip, clip_of
from eval.contest import ROWS
from eval.measurement import Batch, Parts, Resolution, SetMeasurements, keep, kept_outcome, plain, share
from eval.metrics.clip_metric import Clip
from eval.metrics.clip_suite import SOURCE, ClipSuite
from eval.metrics.metric import Described
from eval.metrics.suite import OK, Cell, Part, mean_cell
from fse.pictures import read_picture
from fse.refusal import Refusal

FRAMES, TEMPORAL = "clips", "clips_temporal"
EXTREME, INTERPOLATED = "extreme", "interpolated"
"""Columns of ``clips.csv`` that say what kind of frame it is, :class:`eval.clips.SourceClip`."""


BATCH = 8
"""Frames that are measured together where they are measured at a size of their own."""


@dataclass(frozen=True)
class ClipPiece:
    """A clip, and METHOD -> its inverted frames: what one process measures (:class:`eval.measurement.Piece`)."""

    clip: SourceClip
    inversions: Mapping[str, Sequence[Path]]
    resolution: int
    measured: Resolution
    device: torch.device | str

    def path(self, parts: Parts) -> Path:
        """Of the file of its outcome."""
        return parts.path(self.clip.frames, self.inversions)

    def outcome(self, suite: ClipSuite) -> list[Part]:
        """A part of the clip's frames, and one of the clip."""
        apart = self.measured != self.resolution
        over_time = _outcome(self.clip, self.inversions, suite, self.resolution, self.device, only_over_time=apart)
        if not apart:
            return over_time
        of_frames = Part({})
        for start in range(0, len(self.clip.frames), BATCH):
            taken = slice(start, start + BATCH)
            inversions = {method: paths[taken] for method, paths in self.inversions.items()}
            for part in Batch(self.clip.frames[taken], inversions, {}, self.measured).outcome(suite.frames):
                of_frames.rows.update(part.rows)
        return [of_frames, over_time[1]]


def pieces(
    clips: Sequence[SourceClip],
    inversions: Mapping[str, Path],
    *,
    resolution: int,
    measured: Resolution | None = None,
    device: torch.device | str = "cpu",
    subsets: Mapping[str, int] | None = None,
) -> list[ClipPiece]:
    """Clip by clip; arguments as of :func:`measure`."""
    limits = {method: (subsets or {}).get(method, len(clips)) for method in inversions}
    return [
        ClipPiece(
            clip,
            {
                method: [folder / f"{path.stem}.png" for path in clip.frames]
                for method, folder in inversions.items()
                if index < limits[method]
            },
            resolution,
            measured or resolution,
            device,
        )
        for index, clip in enumerate(clips)
    ]


def measure_ahead(
    clips: Sequence[SourceClip],
    inversions: Mapping[str, Path],
    build: Callable[[], ClipSuite],
    *,
    processes: int,
    parts: Parts,
    **options: Any,
) -> None:
    """Let several processes measure the clips in turn (:func:`eval.measurement.share`), so that :func:`measure` finds
    all of them; ``options`` are those of :func:`pieces`.
    """
    share(pieces(clips, inversions, **options), build, processes=processes, parts=parts, progress="measuring clips")


def measure(
    clips: Sequence[SourceClip],
    inversions: Mapping[str, Path],
    suite: ClipSuite,
    folder: Path,
    *,
    resolution: int,
    measured: Resolution | None = None,
    device: torch.device | str = "cpu",
    subsets: Mapping[str, int] | None = None,
    parts: Parts | None = None,
) -> None:
    """Every inversion against its source, clip by clip, and the four files under ``folder``.

    Parameters
    ----------
    inversions : mapping
        METHOD -> folder with one ``NN_FFF.png`` a frame. A frame that cannot be read, or has none, is named with the
        reason, and the others go on.
    resolution : int
        Side of the frames as metrics over time see them, all of a clip at once.
    measured : int or (int, int), optional
        Size at which single frames are measured, a few at a time; by default the same.
    subsets : mapping, optional
        METHOD -> number of clips, the first ones, that it is measured on; the others of the methods on all.
    parts : Parts, optional
        Where outcomes are kept until all is measured, and looked for first.

    Raises
    ------
    Refusal
        A source frame cannot be read, or a method has no inversion that can be.
    """
    of_frames, of_clips = dict[tuple[str, str], Any](), dict[tuple[str, str], Any]()
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("measuring clips", total=len(clips))
        planned = pieces(clips, inversions, resolution=resolution, measured=measured, device=device, subsets=subsets)
        for piece in planned:
            outcome = kept_outcome(piece, suite, parts)
            of_frames |= outcome[0].rows
            of_clips |= outcome[1].rows
            bar.advance(task)
    for method in inversions:
        rows = [row for (_, whose), row in of_frames.items() if whose == method]
        if all(row.keys() == {"status"} for row in rows):
            reason = rows[0]["status"] if rows else "there is no picture"
            raise Refusal(
                f"nothing of {method!r} can be measured ({reason}): run `make repro`, which inverts the clips"
            )
    extreme = frozenset[str]().union(*(clip.extreme for clip in clips))
    interpolated = frozenset[str]().union(*(clip.interpolated for clip in clips))
    for (name, _), row in of_frames.items():
        row |= {EXTREME: name in extreme, INTERPOLATED: name in interpolated}
    _write(suite, of_frames, of_clips, folder)


def _outcome(
    clip: SourceClip,
    inversions: Mapping[str, Sequence[Path]],
    suite: ClipSuite,
    resolution: int,
    device: torch.device | str,
    only_over_time: bool,
) -> list[Part]:
    """A part of the clip's frames, and one of the clip."""
    names = [path.stem for path in clip.frames]
    source = torch.stack([read_picture(path, resolution) for path in clip.frames])
    failed = Part({})

    def reconstructions() -> Iterator[tuple[str, Clip]]:
        for method, paths in inversions.items():
            frames, present = torch.zeros_like(source), []
            for place, path in enumerate(paths):
                try:
                    frames[place] = read_picture(path, resolution)
                    present.append(True)
                except Refusal as refusal:
                    failed.rows[path.stem, method] = {"status": str(refusal)}
                    present.append(False)
            yield method, Clip(frames.to(device), clip.numbers, tuple(present))

    whole = Clip(source.to(device), clip.numbers, (True,) * len(names))
    of_frames, of_clip = suite.measure(clip.name, None if only_over_time else names, whole, reconstructions())
    return [Part(failed.rows | of_frames.rows), of_clip]


def _write(
    suite: ClipSuite,
    of_frames: Mapping[tuple[str, str], dict[str, float | str]],
    of_clips: Mapping[tuple[str, str], dict[str, float | str]],
    folder: Path,
) -> None:
    counts = [f"{metric.key}_{count}" for metric in suite.metrics for count in ("expected", "used")]
    columns = [metric.key for metric in suite.columns]
    frames = _table(of_frames, [metric.key for metric in suite.frames.metrics], flags=(EXTREME, INTERPOLATED))
    clips = _table(of_clips, [*columns, *counts]).astype(dict.fromkeys(counts, int))
    for name, table, metrics in ((FRAMES, frames, suite.frames.metrics), (TEMPORAL, clips, suite.columns)):
        keep(_summary(name, table, metrics), table, folder)


def _table(
    rows: Mapping[tuple[str, str], dict[str, float | str]], columns: Sequence[str], flags: Sequence[str] = ()
) -> pd.DataFrame:
    """``picture``, ``method``, the flags, the columns, ``status``; sorted."""
    found = [{"picture": name, "method": method, "status": OK, **row} for (name, method), row in rows.items()]
    table = pd.DataFrame(found, columns=["picture", "method", *flags, *columns, "status"])
    return table.astype(dict.fromkeys(columns, float)).sort_values(["picture", "method"], ignore_index=True)


def _summary(name: str, table: pd.DataFrame, metrics: Sequence[Described]) -> SetMeasurements:
    clips = per_clip(table) if name == FRAMES else table
    failed = table[table["status"] != OK]
    named = zip(failed["picture"], failed["method"], failed["status"], strict=True)
    order = {method: place for place, method in enumerate(ROWS)}
    methods: dict[str, dict[str, Cell]] = {}
    for method in sorted(set(clips["method"]) - {SOURCE}, key=lambda method: (order.get(method, -1), method)):
        rows = clips[clips["method"] == method]
        methods[method] = {metric.key: mean_cell(rows[metric.key], "clips") for metric in metrics}
    return SetMeasurements(
        name=name,
        n=int(clips["picture"].nunique()),
        metrics={m.key: {"label": m.label, "higher_is_better": bool(m.higher_is_better)} for m in metrics},
        methods=plain(methods),
        failures=[{"picture": p, "method": m, "reason": r} for p, m, r in named],
    )


def per_clip(frames: pd.DataFrame) -> pd.DataFrame:
    """Rows of single frames -> a row a clip and method: the mean over the frames that have a value, NaN for none."""
    values = frames.drop(columns=[EXTREME, INTERPOLATED]).assign(picture=frames["picture"].map(clip_of))
    return values.groupby(["picture", "method"]).mean(numeric_only=True).reset_index()
