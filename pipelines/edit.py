"""DVC stage: edits by every method, measured, :func:`eval.edit_measurement.evaluate`; `editing` shows them."""

from __future__ import annotations

import argparse

from eval.contest import Places
from eval.edit_measurement import EditSettings, evaluate
from eval.processes import processes_for
from eval.profile import Profile
from fse.allocator import keep_freed_memory
from fse.refusal import exit_on_refusal
from pipelines.parameters import read_parameters


@exit_on_refusal
def main() -> None:
    """Write ``reports/measurements/edits.*``, ``edit_consistency.csv`` and ``mixing.csv``, and ``data/edits``."""
    argparse.ArgumentParser(prog="python -m pipelines.edit", description=__doc__).parse_args()
    keep_freed_memory()
    profile, settings = Profile(), EditSettings(**read_parameters().editing.model_dump())
    evaluate(Places(), profile, settings, processes=processes_for(profile.device))


if __name__ == "__main__":
    main()
