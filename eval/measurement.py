"""Measuring inversions that lie in folders, and the files that the measurements are kept in.

Of each set two files are written: ``SET.csv``, one row a picture and method, and ``SET.json``, the means with their
intervals, the counts behind them, the metrics' names and directions, and what failed. Tables, figures and reports
read these and need no network, so that rendering anew costs seconds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from eval.metrics.suite import OK, Suite
from fse.pictures import read_picture
from fse.refusal import Refusal


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


def measure(
    sources: Sequence[Path],
    inversions: Mapping[str, Path],
    suite: Suite,
    *,
    resolution: int,
    batch: int = 16,
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

    Raises
    ------
    Refusal
        A method has no inversion that can be read.
    """
    pending: dict[str, tuple[Tensor, dict[str, Tensor]]] = {}
    measured: dict[str, int] = dict.fromkeys(inversions, 0)
    reasons: dict[str, str] = {}
    for path in track(sources, progress, console=Console(stderr=True)):
        try:
            source = read_picture(path, resolution)
        except Refusal as refusal:
            for method in inversions:
                suite.fail(path.stem, method, str(refusal))
                reasons.setdefault(method, str(refusal))
            continue
        found = {}
        for method, folder in inversions.items():
            try:
                found[method] = read_picture(folder / f"{path.stem}.png", resolution)
                measured[method] += 1
            except Refusal as refusal:
                suite.fail(path.stem, method, str(refusal))
                reasons.setdefault(method, str(refusal))
        if not found:
            continue
        if found.keys() != next((kept.keys() for _, kept in pending.values()), found.keys()):
            _flush(pending, suite)
        pending[path.stem] = (source, found)
        if len(pending) == batch:
            _flush(pending, suite)
    _flush(pending, suite)
    for method, count in measured.items():
        if count == 0:
            reason = reasons.get(method, "there is no picture")
            raise Refusal(f"nothing of {method!r} can be measured ({reason}): run `make repro`, which makes inversions")


def _flush(pending: dict[str, tuple[Tensor, dict[str, Tensor]]], suite: Suite) -> None:
    """Hand the collected pictures, which all have inversions by the same methods, to the suite."""
    if pending:
        methods = next(iter(pending.values()))[1]
        source = torch.stack([picture for picture, _ in pending.values()])
        found = {method: torch.stack([kept[method] for _, kept in pending.values()]) for method in methods}
        suite.update(list(pending), source, found)
        pending.clear()


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
        methods=_plain(measurements.summary()),
        failures=[{"picture": p, "method": m, "reason": r} for p, m, r in named],
    )
    folder.mkdir(parents=True, exist_ok=True)
    pictures.to_csv(folder / f"{name}.csv", index=False, float_format="%.7g", lineterminator="\n")
    (folder / f"{name}.json").write_text(
        json.dumps(asdict(kept), indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    return kept


def read(name: str, folder: Path) -> tuple[SetMeasurements, pd.DataFrame]:
    """What :func:`write` wrote: the summary and the rows of single pictures."""
    try:
        kept = SetMeasurements(**json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))
        pictures = pd.read_csv(folder / f"{name}.csv", dtype={"picture": str, "method": str, "status": str})
    except (OSError, ValueError, TypeError) as error:
        raise Refusal(f"the measurements of {name!r} in {folder} cannot be read ({error}): run `make repro`") from error
    return kept, pictures


def _plain(value: Any) -> Any:
    """For JSON: numbers of Python, and None for what is not finite (PSNR of a perfect copy, mean of no pictures)."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, bool | str) or value is None:
        return value
    number = float(value)
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and not isinstance(value, float) else number
