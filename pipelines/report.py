"""DVC stage: tables, figures and the page, :func:`eval.report.page.report`."""

from __future__ import annotations

import argparse

from eval.contest import Places
from eval.profile import Profile
from eval.report.page import report
from fse.refusal import exit_on_refusal
from pipelines.parameters import read_parameters


@exit_on_refusal
def main() -> None:
    """Write ``reports/table1.*``, ``reports/figure1.*``, ``reports/figure4_*`` and ``reports/index.html``."""
    argparse.ArgumentParser(prog="python -m pipelines.report", description=__doc__).parse_args()
    report(Places(), Profile(), parameters=read_parameters().model_dump(mode="json"))


if __name__ == "__main__":
    main()
