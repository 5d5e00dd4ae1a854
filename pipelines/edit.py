"""DVC stage: edits by every method, measured, :func:`eval.edit_measurement.evaluate`; `editing` shows them."""

from __future__ import annotations

import argparse

from eval.contest import Places
from eval.edit_measurement import EditSettings, evaluate
from eval.profile import Profile
from fse.allocator import keep_freed_memory
from fse.refusal import exit_on_refusal
from pipelines.parameters import read_parameters


@exit_on_refusal
def main() -> None:
    """Write ``reports/measurements/edits.*``, ``edit_consistency.csv`` and ``mixing.csv``, and ``data/edits``."""
    argparse.ArgumentParser(prog="python -m pipelines.edit", description=__doc__).parse_args()
    keep_freed_memory()
    asked = read_parameters().editing.model_dump()
    processes = asked.pop("processes")
    evaluate(Places(), Profile(), EditSettings(**asked), processes=processes)


if __name__ == "__main__":
    main()
