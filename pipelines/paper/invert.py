"""Stage: a row's reconstructions of every domain's test pictures, at the size that the method gives them."""

from __future__ import annotations

import argparse

from eval.contest import Places
from eval.inversions import invert_pictures
from fse.allocator import keep_freed_memory
from fse.device import usable_device
from fse.pictures import list_pictures
from fse.refusal import Refusal, exit_on_refusal
from pipelines.paper.absence import mark_absent, reason_of, unmark
from pipelines.paper.domains import ROWS, TRAINED, domains_of
from pipelines.paper.parameters import PaperParameters, read_parameters
from pipelines.paper.profile import PaperProfile
from pipelines.paper.surveyed import Surveyed


def invert(row: str, name: str, parameters: PaperParameters, places: Places, surveyed: Surveyed) -> None:
    """Every picture of the domain ``name``, or the reason why there is none."""
    folder = places.inversions / row / name
    profile = PaperProfile.of(name, parameters.assets, usable_device(parameters.device), surveyed)
    reason = reason_of(places.test / name)
    if reason is None and row in TRAINED:
        reason = reason_of(profile.trained.parent)
    if reason is None:
        try:
            profile.weights_of(row)
        except Refusal as refusal:
            reason = str(refusal)
    if reason is not None:
        mark_absent(folder, reason)
        return
    unmark(folder)
    invert_pictures(list_pictures(places.test / name), folder, row, profile, batch=parameters.evaluate.batch)


@exit_on_refusal
def main() -> None:
    """Write ``data/inversions/ROW/DOMAIN/NAME.png``, or ``absent.json`` there."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.paper.invert", description=__doc__)
    parser.add_argument("rows", nargs="+", metavar="ROW", help=f"of {', '.join(ROWS)}")
    chosen = parser.parse_args()
    keep_freed_memory()
    parameters, surveyed = read_parameters(), Surveyed.read()
    for row in chosen.rows:
        for name in domains_of(row):
            invert(row, name, parameters, Places(), surveyed)


if __name__ == "__main__":
    main()
