"""Stage: what was inverted against its sources, by the paper's protocol; and what could not be measured, and why."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.absent import PICTURES, Absent
from eval.contest import Places
from eval.provenance import sha256
from eval.table1 import evaluate
from fse.allocator import keep_freed_memory
from fse.device import usable_device
from fse.refusal import exit_on_refusal
from pipelines.paper.absence import reason_of
from pipelines.paper.domains import DOMAINS
from pipelines.paper.parameters import PaperParameters, read_parameters
from pipelines.paper.profile import PaperProfile
from pipelines.paper.surveyed import Surveyed

RECORD = Path("data/measured")


def measure(parameters: PaperParameters, places: Places) -> list[str]:
    """Measure every domain that has pictures and inversions; gives back their names."""
    surveyed, device = Surveyed.read(), usable_device(parameters.device)
    options: dict[str, Any] = {"batch": parameters.evaluate.batch, "processes": parameters.evaluate.processes}
    rows: dict[str, dict[str, str]] = {}
    columns: dict[str, dict[str, str]] = {}
    sets: dict[str, str] = {}
    for name, domain in DOMAINS.items():
        profile = PaperProfile.of(name, parameters.assets, device, surveyed, parameters.evaluate.fewest)
        reasons = {row: reason_of(places.inversions / row / name) for row in domain.rows}
        rows[name] = {row: reason for row, reason in reasons.items() if reason is not None}
        there = [row for row, reason in reasons.items() if reason is None]
        if (reason := reason_of(places.test / name)) is not None or not there:
            sets[name] = reason or "no row can be measured: " + "; ".join(dict.fromkeys(rows[name].values()))
            forget(places, [name])
            continue
        columns[name] = profile.absent_columns()
        evaluate(places, profile, sets=[name], methods=there, **options)
    Absent(rows, columns, sets).write(places.measurements / PICTURES)
    return [name for name in DOMAINS if name not in sets]


def forget(places: Places, names: Sequence[str]) -> None:
    """Remove the measurements of an earlier run, which what is there now could not give."""
    for name in names:
        for suffix in ("csv", "json"):
            (places.measurements / f"{name}.{suffix}").unlink(missing_ok=True)


def keep_record(name: str, files: list[Path]) -> None:
    """``data/measured/NAME.json``: digests of what was measured, on which later stages depend."""
    RECORD.mkdir(parents=True, exist_ok=True)
    digests = {path.name: sha256(path) for path in files}
    (RECORD / f"{name}.json").write_text(json.dumps(digests, indent=1, sort_keys=True) + "\n", encoding="utf-8")


@exit_on_refusal
def main() -> None:
    """Write ``reports/measurements/DOMAIN.{csv,json}`` and ``absent.json``."""
    argparse.ArgumentParser(prog="python -m pipelines.paper.evaluate", description=__doc__).parse_args()
    keep_freed_memory()
    places = Places()
    measured = measure(read_parameters(), places)
    names = [f"{name}.{suffix}" for name in measured for suffix in ("csv", "json")]
    keep_record("pictures", [places.measurements / name for name in [*names, PICTURES]])


if __name__ == "__main__":
    main()
