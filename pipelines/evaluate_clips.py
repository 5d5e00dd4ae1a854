"""DVC stage: measure every inversion of the clips, :func:`eval.table2.evaluate`."""

from __future__ import annotations

import argparse

from eval.contest import Places
from eval.processes import processes_for
from eval.profile import Profile
from eval.table2 import evaluate
from fse.allocator import keep_freed_memory
from fse.refusal import exit_on_refusal
from pipelines.parameters import read_parameters


@exit_on_refusal
def main() -> None:
    """Write ``reports/measurements/clips.{csv,json}`` and ``clips_temporal.{csv,json}``."""
    argparse.ArgumentParser(prog="python -m pipelines.evaluate_clips", description=__doc__).parse_args()
    keep_freed_memory()
    profile, parameters = Profile(), read_parameters().evaluate_clips
    evaluate(
        Places(),
        profile,
        clips=parameters.clips,
        frames=parameters.frames,
        subsets=parameters.subset,
        processes=processes_for(profile.device),
    )


if __name__ == "__main__":
    main()
