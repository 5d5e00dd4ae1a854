"""DVC stage: measure every inversion of the test sets, :func:`eval.table1.evaluate`."""

from __future__ import annotations

import argparse

from eval.profile import Profile
from eval.table1 import METHODS, Places, evaluate
from fse.refusal import exit_on_refusal
from pipelines.parameters import read_parameters


@exit_on_refusal
def main() -> None:
    """Write ``reports/measurements/SET.{csv,json}``."""
    argparse.ArgumentParser(prog="python -m pipelines.evaluate", description=__doc__).parse_args()
    parameters = read_parameters().evaluate
    evaluate(Places(), Profile(), methods=list(METHODS), limit=parameters.limit, batch=parameters.batch)


if __name__ == "__main__":
    main()
