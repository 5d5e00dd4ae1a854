"""Stage: how far FSE's numbers move with the generator's noise, which its released code draws for every picture."""

from __future__ import annotations

import argparse

from eval.contest import Places
from eval.noise_spread import RECORD, noise_spread, render
from eval.table1 import MEAN_DESCRIPTOR
from fse.allocator import keep_freed_memory
from fse.device import usable_device
from fse.generators.stylegan2 import StyleGAN2
from fse.inverter import FeatureStyleInverter
from fse.pictures import list_pictures
from fse.refusal import Refusal, exit_on_refusal
from pipelines.paper.absence import reason_of
from pipelines.paper.evaluate import keep_record
from pipelines.paper.parameters import read_parameters
from pipelines.paper.profile import PaperProfile


@exit_on_refusal
def main() -> None:
    """Write ``reports/noise.*`` for the released encoder, or for the one trained here where that is missing."""
    argparse.ArgumentParser(prog="python -m pipelines.paper.noise", description=__doc__).parse_args()
    keep_freed_memory()
    parameters, places = read_parameters(), Places()
    rows = [row for row in ("fse", "fse_trained") if reason_of(places.inversions / row / "faces") is None]
    if rows:
        profile = PaperProfile.of("faces", parameters.assets, usable_device(parameters.device))
        method = profile.method(rows[0])
        if not isinstance(method, FeatureStyleInverter) or not isinstance(method.generator, StyleGAN2):
            raise Refusal(f"{rows[0]} has no StyleGAN2, whose noise could be drawn; see pipelines/paper/domains.py")
        sources = list_pictures(places.test / "faces")[: parameters.noise.pictures]
        spreads = noise_spread(
            method,
            method.generator,
            sources,
            profile.suite(places.test / MEAN_DESCRIPTOR),
            seeds=range(parameters.noise.draws),
            resolution=profile.measured,
        )
        render(spreads, rows[0], len(sources), places, profile.name)
    keep_record("noise", [places.reports / RECORD] if rows else [])


if __name__ == "__main__":
    main()
