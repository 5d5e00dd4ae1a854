"""The inverter that the command line describes."""

from __future__ import annotations

import argparse

from commands.home import GENERATOR, LANDMARKS, PERCEPTUAL, Home
from fse.api import Inverter
from fse.device import usable_device
from fse.registry import takes_assets


def load_inverter(arguments: argparse.Namespace, *, directions: bool = False, align: bool = False) -> Inverter:
    """Load ``--method`` on ``--device``, and ``--directions`` if they are wanted; obtain the assets that it needs.

    Raises
    ------
    Refusal
        When something is missing, and cannot be obtained.
    """
    home, device = Home.of(arguments), usable_device(arguments.device)
    wanted = {GENERATOR: True, LANDMARKS: align, PERCEPTUAL: takes_assets(arguments.method)}
    home.obtain([folder for folder, needed in wanted.items() if needed])
    path = home.directions(arguments.directions) if directions else None
    return Inverter.load(home.assets, home.weights, arguments.method, directions=path, device=device)
