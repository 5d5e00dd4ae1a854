"""DVC stage: pictures that are no faces through the face generator's methods, :mod:`eval.other_domains`."""

from __future__ import annotations

import argparse
from pathlib import Path

from eval.contest import METHODS, OUT_OF_CONTEST, Places
from eval.other_domains import invert_and_measure
from eval.profile import Profile
from fse.allocator import keep_freed_memory
from fse.refusal import exit_on_refusal
from pipelines.parameters import read_parameters


@exit_on_refusal
def main() -> None:
    """Write ``data/other_domains``, ``reports/measurements/other_domains.*`` and ``reports/figure6.*``."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.other_domains", description=__doc__)
    parser.add_argument("--assets", type=Path, default=Path("data/assets"))
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--out", type=Path, default=Path("data/other_domains"))
    arguments = parser.parse_args()
    keep_freed_memory()
    parameters = read_parameters().evaluate
    profile = Profile(arguments.assets, arguments.weights)
    left_out = [*parameters.subset, *OUT_OF_CONTEST]  # the subset's are those that optimise
    methods = [method for method in METHODS if method not in left_out and profile.has_weights(method)]
    invert_and_measure(arguments.out, Places(), profile, methods, batch=parameters.batch)


if __name__ == "__main__":
    main()
