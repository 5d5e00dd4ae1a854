"""``python -m eval.report``: tables, figures and the page, from what was measured before."""

from __future__ import annotations

import argparse
from pathlib import Path

from eval.contest import SETS, Places
from eval.profile import Profile
from eval.report.page import report
from eval.table1 import read_parameters
from fse.refusal import exit_on_refusal


@exit_on_refusal
def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m eval.report", description="Render tables, figures and reports/index.html from the measurements."
    )
    parser.add_argument("--out", type=Path, default=Path("reports"), help="the reports' folder (default: %(default)s)")
    parser.add_argument("--sets", nargs="+", default=list(SETS), metavar="SET", help="default: %(default)s")
    arguments = parser.parse_args()
    print(report(Places(reports=arguments.out), Profile(), sets=arguments.sets, parameters=read_parameters()))


if __name__ == "__main__":
    main()
