"""Stage: edits of test faces by every row, measured (section 5.2, Figures 7 and 8)."""

from __future__ import annotations

import argparse
from pathlib import Path

from eval.attributes import ATTRIBUTES
from eval.contest import Places
from eval.edit_measurement import CONSISTENCY, EDITS, MASKED, MIXING, EditSettings, directions_file, evaluate
from fse.allocator import keep_freed_memory
from fse.device import usable_device
from fse.directions import read_directions
from fse.refusal import exit_on_refusal
from pipelines.paper.absence import reason_of
from pipelines.paper.domains import DOMAINS
from pipelines.paper.evaluate import forget, keep_record
from pipelines.paper.parameters import PaperParameters, read_parameters
from pipelines.paper.profile import PaperProfile


def editable(places: Places, parameters: PaperParameters) -> tuple[list[str], list[str]]:
    """Rows that have directions, and the measured directions that all of these have."""
    rows, common = [], [name for name in parameters.directions.attributes if name in ATTRIBUTES]
    for row in DOMAINS["faces"].rows:
        file = directions_file(row, places)
        if reason_of(places.inversions / row / "faces") is None and file.is_file():
            rows.append(row)
            known = read_directions(file)
            common = [name for name in common if name in known]
    return rows, common


@exit_on_refusal
def main() -> None:
    """Write ``reports/measurements/edits.*``, ``edit_consistency.csv`` and ``mixing.csv``, and ``data/edits``."""
    argparse.ArgumentParser(prog="python -m pipelines.paper.edit", description=__doc__).parse_args()
    keep_freed_memory()
    parameters, places = read_parameters(), Places()
    rows, directions = editable(places, parameters)
    names: list[Path] = []
    if rows and directions:
        wanted = parameters.editing
        moderate = min(strength for strength in wanted.strengths if strength > 0)
        settings = EditSettings(
            pictures={"faces": wanted.pictures},
            directions=directions,
            strengths=wanted.strengths,
            change=1.0,
            consistency_strength=moderate,
            shown=2,
            pairs=4 * wanted.pictures,
            left_out=(),
            batch=wanted.batch,
            shown_strength=moderate,
        )
        profile = PaperProfile.of("faces", parameters.assets, usable_device(parameters.device))
        methods = [*rows, MASKED] if "fse" in rows else rows
        evaluate(places, profile, settings, methods=methods, pictures=Path("data/edits"))
        names = [places.measurements / f"{name}.csv" for name in (EDITS, CONSISTENCY, MIXING)]
    else:
        forget(places, (EDITS, CONSISTENCY, MIXING))
    keep_record("edits", [*names, *([places.measurements / f"{EDITS}.json"] if names else [])])


if __name__ == "__main__":
    main()
