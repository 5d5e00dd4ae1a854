"""DVC stage: time every step of inverting and editing a clip, :mod:`eval.speed`."""

from __future__ import annotations

import argparse

from eval.contest import Places
from eval.profile import Profile
from eval.speed import SpeedSettings, measure, origin_of, render
from fse.refusal import exit_on_refusal
from pipelines.parameters import read_parameters


@exit_on_refusal
def main() -> None:
    """Write ``reports/speed.{json,md,csv,tex}``."""
    argparse.ArgumentParser(prog="python -m pipelines.speed", description=__doc__).parse_args()
    parameters = read_parameters()
    places, profile = Places(), Profile()
    measured = measure(places, profile, SpeedSettings(**parameters.speed.model_dump()))
    render(places, measured, origin_of(places, profile, parameters.model_dump(mode="json")))


if __name__ == "__main__":
    main()
