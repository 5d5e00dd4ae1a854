"""``fse invert``."""

from __future__ import annotations

import argparse

from commands.loading import load_inverter
from commands.picture_run import PictureRun


def run(arguments: argparse.Namespace) -> None:
    """Write the reconstruction of every picture."""
    job = PictureRun(arguments, [()])
    inverter = load_inverter(arguments, align=bool(job.align))
    job.run(inverter, lambda found: [((), found.pictures.tensor)], "inverting")
