"""Measuring inversions that lie in folders, and the files that the measurements are kept in.

Of each set two files are written: ``SET.csv``, one row a picture and method, and ``SET.json``, the means with their
intervals, the counts behind them, the metrics' names and directions, and what failed. Tables, figures and reports
read these and need no network, so that rendering anew costs seconds. While a set is being measured, every batch's
outcome is kept in ``.parts/``, so that a run that was stopped goes on with the next batch. Several processes share the
batches through the same files; whoever measured them, they are added up in the order of the pictures.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pandas as pd
import torch
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from torch import Tensor
from torch.multiprocessing.spawn import start_processes

from eval.metrics.suite import OK, Part, Suite
from fse.pictures import open_picture, read_picture, tensor_from_image
from fse.refusal import Refusal

Resolution = int | tuple[int, int]
"""R of square pictures, others being refused; or height and width, which every picture is brought to."""


@dataclass(frozen=True)
class SetMeasurements:
    """All that is known of a set, as in ``SET.json``.

    Attributes
    ----------
    name : str
        Of the set, e.g. ``renders``.
    n : int
        Number of source pictures, the broken ones included.
    metrics : dict
        METRIC -> ``{"label": str, "higher_is_better": bool}``, in printing order.
    methods : dict
        METHOD -> METRIC -> :class:`~eval.metrics.suite.Cell`.
    failures : list
        ``{"picture", "method", "reason"}`` of every picture that could not be measured completely.
    """

    name: str
    n: int
    metrics: dict[str, dict[str, Any]]
    methods: dict[str, dict[str, dict[str, Any]]]
    failures: list[dict[str, str]]


class Parts:
    """What an interrupted run has measured so far, a file a batch.

    A file's name is the hash of all that its outcome depends on: the pictures' bytes, the metrics, and ``basis``
    (the code and what else the metrics read). What has changed since is measured again.
    """

    def __init__(self, folder: Path, basis: str) -> None:
        self.folder = folder
        self.basis = basis

    def path(self, sources: Sequence[Path], inversions: Mapping[str, Sequence[Path]]) -> Path:
        """Of the batch of these sources, METHOD -> its reconstructions."""
        digest = hashlib.sha256(self.basis.encode())
        for method, paths in {"": sources, **inversions}.items():
            for path in paths:
                content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "absent"
                digest.update(f"{method}/{path.name} {content}\n".encode())
        return self.folder / f"{digest.hexdigest()}.pt"

    def read(self, path: Path) -> list[Part] | None:
        """None where the batch was not measured, or its file is damaged."""
        try:
            return [Part(**values) for values in torch.load(path, weights_only=True)]
        except Exception:  # bytes that are no tensors can end in any exception; measuring again is always right
            return None

    def write(self, path: Path, parts: Sequence[Part]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
        torch.save([asdict(part) for part in parts], unfinished)
        unfinished.replace(path)

    def remove(self) -> None:
        """When all is measured."""
        shutil.rmtree(self.folder, ignore_errors=True)


SuiteT = TypeVar("SuiteT")
SuiteT_contra = TypeVar("SuiteT_contra", contravariant=True)


class Piece(Protocol[SuiteT_contra]):
    """What is measured in one go, by any of several processes: it is pickled."""

    def path(self, parts: Parts) -> Path:
        """Of the file of its outcome."""
        ...

    def outcome(self, suite: SuiteT_contra) -> list[Part]: ...


def kept_outcome(piece: Piece[SuiteT], suite: SuiteT, parts: Parts | None) -> list[Part]:
    """The outcome of a piece, as it is found in ``parts`` or left there."""
    path = piece.path(parts) if parts else None
    outcome = parts.read(path) if parts and path else None
    if outcome is None:
        outcome = piece.outcome(suite)
        if parts and path:
            parts.write(path, outcome)
    return outcome


def share(
    pieces: Sequence[Piece[SuiteT]],
    build: Callable[[], SuiteT],
    *,
    processes: int,
    parts: Parts,
    progress: str = "measuring",
) -> None:
    """Let several processes measure the pieces in turn, into ``parts``, where :func:`kept_outcome` then finds them.

    The numbers are those of one process to the last bit: the pieces are the same, a process has as many threads as
    this one, and whoever calls adds the outcomes up alone.

    Parameters
    ----------
    build : callable
        Makes a process its own suite; it is pickled. Process i of a machine with GPUs has the i-th as its ``cuda``.
    processes : int
        With 1 nothing is done.
    """
    if processes == 1:
        return
    arguments = (processes, torch.get_num_threads(), pieces, build, parts)
    paths = [piece.path(parts) for piece in pieces]
    started = start_processes(_measure_share, arguments, processes, join=False, start_method="spawn")
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(f"{progress} by {processes} processes", total=len(pieces))
        while not started.join(timeout=1):
            bar.update(task, completed=sum(path.is_file() for path in paths))


def _measure_share(
    rank: int,
    processes: int,
    threads: int,
    pieces: Sequence[Piece[SuiteT]],
    build: Callable[[], SuiteT],
    parts: Parts,
) -> None:
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        torch.cuda.set_device(rank % torch.cuda.device_count())
    suite = build()
    for piece in pieces[rank::processes]:
        kept_outcome(piece, suite, parts)


@dataclass(frozen=True)
class Batch:
    """Some of a set's sources, METHOD -> the inversions of the first of them, and METHOD -> those it leaves out."""

    sources: Sequence[Path]
    inversions: Mapping[str, Sequence[Path]]
    left_out: Mapping[str, Sequence[str]]
    resolution: Resolution

    def path(self, parts: Parts) -> Path:
        """See :class:`Piece`."""
        return parts.path(self.sources, self.inversions)

    def outcome(self, suite: Suite) -> list[Part]:
        """A part for the pictures that have readable inversions by the same methods, and one for failures."""
        return _outcome(self.sources, self.inversions, suite, self.resolution)


def batches(
    sources: Sequence[Path],
    inversions: Mapping[str, Path],
    resolution: Resolution,
    batch: int,
    subsets: Mapping[str, int] | None = None,
) -> Iterator[Batch]:
    """What is measured together; arguments as of :func:`measure`."""
    limits = {method: (subsets or {}).get(method, len(sources)) for method in inversions}
    for start in range(0, len(sources), batch):
        taken = sources[start : start + batch]
        inside = {method: max(0, limit - start) for method, limit in limits.items()}
        yield Batch(
            taken,
            {
                method: [folder / f"{path.stem}.png" for path in taken[: inside[method]]]
                for method, folder in inversions.items()
            },
            {method: [path.stem for path in taken[inside[method] :]] for method in inversions},
            resolution,
        )


def measure(
    sources: Sequence[Path],
    inversions: Mapping[str, Path],
    suite: Suite,
    *,
    resolution: Resolution,
    batch: int = 8,
    subsets: Mapping[str, int] | None = None,
    parts: Parts | None = None,
    progress: str = "measuring",
) -> None:
    """Every inversion against its source, in one pass, in memory that does not grow with the number of pictures.

    Parameters
    ----------
    sources : sequence of Path
        Picture files; their names without suffix are the pictures' names.
    inversions : mapping
        METHOD -> folder with one ``NAME.png`` a source ``NAME.*``.
    suite : Suite
        Receives the pictures. One that cannot be read, or has no inversion, is reported to it as failed with the
        reason; the others go on.
    resolution : int or (int, int)
        See :data:`Resolution`; resized in 8 bits by PIL bilinear.
    subsets : mapping, optional
        METHOD -> number of sources, the first ones, that it is measured on; the others of the methods on all.
    parts : Parts, optional
        Where outcomes are kept until all is measured, and looked for first.

    Raises
    ------
    Refusal
        A method has no inversion that can be read.
    """
    reasons = dict.fromkeys(inversions, "there is no picture")  # of methods that nothing was measured of
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(progress, total=len(sources))
        for index, each in enumerate(batches(sources, inversions, resolution, batch, subsets)):
            for method, names in each.left_out.items():
                for name in names:
                    suite.leave_out(name, method)
            for part in kept_outcome(each, suite, parts):
                suite.add(part)
                for (_, method), row in part.rows.items():
                    if row.keys() != {"status"}:
                        reasons.pop(method, None)
                    elif index == 0 and method in reasons:
                        reasons[method] = str(row["status"])
            bar.advance(task, len(each.sources))
    for method, reason in reasons.items():
        raise Refusal(f"nothing of {method!r} can be measured ({reason}): run `make repro`, which makes inversions")


def measure_ahead(
    sources: Sequence[Path],
    inversions: Mapping[str, Path],
    build: Callable[[], Suite],
    *,
    processes: int,
    resolution: Resolution,
    parts: Parts,
    batch: int = 8,
    subsets: Mapping[str, int] | None = None,
    progress: str = "measuring",
) -> None:
    """Let several processes measure the batches in turn (:func:`share`), so that :func:`measure` finds all of them.

    ``build`` and ``processes`` are as there, the others as of :func:`measure`, which must be given the same.
    """
    planned = list(batches(sources, inversions, resolution, batch, subsets))
    share(planned, build, processes=processes, parts=parts, progress=progress)


def _outcome(
    sources: Sequence[Path], inversions: Mapping[str, Sequence[Path]], suite: Suite, resolution: Resolution
) -> list[Part]:
    """Of a batch: a part for the pictures that have readable inversions by the same methods, and one for failures."""
    failed = Part({})
    groups: dict[tuple[str, ...], list[tuple[str, Tensor, dict[str, Tensor]]]] = {}
    for index, path in enumerate(sources):
        files = {method: paths[index] for method, paths in inversions.items() if index < len(paths)}
        try:
            source = read_at(path, resolution)
        except Refusal as refusal:
            failed.rows.update({(path.stem, method): {"status": str(refusal)} for method in files})
            continue
        found = {}
        for method, file in files.items():
            try:
                found[method] = read_at(file, resolution)
            except Refusal as refusal:
                failed.rows[path.stem, method] = {"status": str(refusal)}
        if found:
            groups.setdefault(tuple(found), []).append((path.stem, source, found))
    outcome = [failed] if failed.rows else []
    for methods, group in groups.items():
        names, sources_, found_ = zip(*group, strict=True)
        stacked = {method: torch.stack([found[method] for found in found_]) for method in methods}
        outcome.append(suite.measure(names, torch.stack(sources_), stacked))
    return outcome


def read_at(path: Path, resolution: Resolution) -> Tensor:
    """A picture as :func:`measure` compares it: (3, R, R), or (3, H, W), in [-1, 1].

    Raises Refusal as :func:`fse.pictures.open_picture` does, and for R if it is not square.
    """
    if isinstance(resolution, int):
        return read_picture(path, resolution)
    height, width = resolution
    image = open_picture(path)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return tensor_from_image(image)


def write(suite: Suite, name: str, folder: Path) -> SetMeasurements:
    """Write ``NAME.csv`` and ``NAME.json`` of what the suite has measured; gives back what the second holds."""
    measurements = suite.compute()
    pictures = measurements.pictures.sort_values(["picture", "method"], kind="stable")
    failed = pictures[pictures["status"] != OK]
    named = zip(failed["picture"], failed["method"], failed["status"], strict=True)
    kept = SetMeasurements(
        name=name,
        n=int(pictures["picture"].nunique()),
        metrics={m.key: {"label": m.label, "higher_is_better": bool(m.higher_is_better)} for m in suite.metrics},
        methods=plain(measurements.summary()),
        failures=[{"picture": p, "method": m, "reason": r} for p, m, r in named],
    )
    keep(kept, pictures, folder)
    return kept


def keep(kept: SetMeasurements, rows: pd.DataFrame, folder: Path) -> None:
    """Write the two files, NAME.csv of ``rows`` and NAME.json, so that the same measurements give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_csv(folder / f"{kept.name}.csv", index=False, float_format="%.7g", lineterminator="\n")
    (folder / f"{kept.name}.json").write_text(
        json.dumps(asdict(kept), indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def read(name: str, folder: Path) -> tuple[SetMeasurements, pd.DataFrame]:
    """What :func:`keep` wrote: the summary and the rows of single pictures."""
    try:
        kept = SetMeasurements(**json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))
        pictures = pd.read_csv(folder / f"{name}.csv", dtype={"picture": str, "method": str, "status": str})
    except (OSError, ValueError, TypeError) as error:
        raise Refusal(f"the measurements of {name!r} in {folder} cannot be read ({error}): run `make repro`") from error
    return kept, pictures


def plain(value: Any) -> Any:
    """For JSON: numbers of Python, and None for what is not finite (PSNR of a perfect copy, mean of no pictures)."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, bool | str) or value is None:
        return value
    number = float(value)
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and not isinstance(value, float) else number
