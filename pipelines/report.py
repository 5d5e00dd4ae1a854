"""DVC stage: tables, figures and the page, :func:`eval.report.report`."""

from __future__ import annotations

import argparse

from eval.profile import Profile
from eval.report import report
from eval.table1 import Places
from fse.refusal import exit_on_refusal
from pipelines.parameters import read_parameters


@exit_on_refusal
def main() -> None:
    """Write ``reports/table1.*``, ``reports/figure4_*`` and ``reports/index.html``."""
    argparse.ArgumentParser(prog="python -m pipelines.report", description=__doc__).parse_args()
    report(Places(), Profile(), parameters=read_parameters().model_dump(mode="json"))


if __name__ == "__main__":
    main()
