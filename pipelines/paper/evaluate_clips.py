"""Stage: the inverted clips against their sources, frame by frame and over time."""

from __future__ import annotations

import argparse

from eval.absent import CLIPS, Absent
from eval.clip_measurement import FRAMES, TEMPORAL
from eval.contest import Places
from eval.table2 import evaluate
from fse.allocator import keep_freed_memory
from fse.device import usable_device
from fse.refusal import exit_on_refusal
from pipelines.paper.absence import reason_of
from pipelines.paper.evaluate import forget, keep_record
from pipelines.paper.invert_clips import ROWS
from pipelines.paper.parameters import read_parameters
from pipelines.paper.profile import PaperProfile


@exit_on_refusal
def main() -> None:
    """Write ``reports/measurements/clips*.{csv,json}``, and what is absent to ``absent_clips.json``."""
    argparse.ArgumentParser(prog="python -m pipelines.paper.evaluate_clips", description=__doc__).parse_args()
    keep_freed_memory()
    parameters, places = read_parameters(), Places()
    reasons = {row: reason_of(places.clip_inversions / row) for row in ROWS}
    rows = {row: reason for row, reason in reasons.items() if reason is not None}
    there = [row for row in ROWS if row not in rows]
    sets: dict[str, str] = {}
    columns: dict[str, dict[str, str]] = {}
    measured: list[str] = []
    if reason := reason_of(places.clips):
        sets[FRAMES] = reason
    elif not there:
        sets[FRAMES] = "no row can be measured: " + "; ".join(dict.fromkeys(rows.values()))
    else:
        profile = PaperProfile.of("faces", parameters.assets, usable_device(parameters.device))
        evaluate(places, profile, methods=there, processes=parameters.evaluate.processes)
        columns[FRAMES] = profile.absent_frame_columns()
        measured = [f"{name}.{suffix}" for name in (FRAMES, TEMPORAL) for suffix in ("csv", "json")]
    if sets:
        forget(places, (FRAMES, TEMPORAL))
    Absent({FRAMES: rows, TEMPORAL: rows}, columns, sets).write(places.measurements / CLIPS)
    keep_record("clips", [places.measurements / name for name in [*measured, CLIPS]])


if __name__ == "__main__":
    main()
