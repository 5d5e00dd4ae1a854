"""DVC stage: measure every inversion of the test sets, :func:`eval.table1.evaluate`."""

from __future__ import annotations

import argparse

from eval.contest import Places
from eval.processes import processes_for
from eval.profile import Profile
from eval.table1 import evaluate
from fse.allocator import keep_freed_memory
from fse.refusal import exit_on_refusal
from pipelines.parameters import read_parameters


@exit_on_refusal
def main() -> None:
    """Write ``reports/measurements/SET.{csv,json}``."""
    argparse.ArgumentParser(prog="python -m pipelines.evaluate", description=__doc__).parse_args()
    keep_freed_memory()
    profile, parameters = Profile(), read_parameters().evaluate
    evaluate(
        Places(),
        profile,
        limit=parameters.limit,
        subsets=parameters.subset,
        batch=parameters.batch,
        processes=processes_for(profile.device),
    )


if __name__ == "__main__":
    main()
