"""DVC stage: edits by every method, measured, with Figures 7 and 8, :mod:`eval.editing`."""

from __future__ import annotations

import argparse

from eval.contest import Places
from eval.edit_measurement import EditSettings
from eval.editing import run
from eval.profile import Profile
from fse.refusal import exit_on_refusal
from pipelines.parameters import read_parameters


@exit_on_refusal
def main() -> None:
    """Write ``reports/editing.*``, the measurements, the figures, and ``data/edits``."""
    argparse.ArgumentParser(prog="python -m pipelines.edit", description=__doc__).parse_args()
    parameters = read_parameters()
    settings = EditSettings(**parameters.editing.model_dump())
    run(Places(), Profile(), settings, parameters=parameters.model_dump(mode="json"))


if __name__ == "__main__":
    main()
