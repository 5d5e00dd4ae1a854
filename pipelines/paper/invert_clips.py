"""Stage: a row's reconstructions of the clips' aligned frames."""

from __future__ import annotations

import argparse

from eval.clips import frames_of, read_clips
from eval.contest import Places
from eval.inversions import invert_pictures
from fse.allocator import keep_freed_memory
from fse.device import usable_device
from fse.refusal import exit_on_refusal
from pipelines.paper.absence import mark_absent, reason_of, unmark
from pipelines.paper.domains import TRAINED
from pipelines.paper.parameters import PaperParameters, read_parameters
from pipelines.paper.profile import PaperProfile

ROWS = ("psp", "e4e", "restyle_psp", "hfgi", "fse_w", "fse", *TRAINED)
"""Table 2's: the in-domain method has no row there."""


def invert(row: str, parameters: PaperParameters, places: Places) -> None:
    """Every frame, or the reason why there is none: the one of the row in Table 1, or that there are no clips."""
    folder = places.clip_inversions / row
    reason = reason_of(places.clips) or reason_of(places.inversions / row / "faces")
    if reason is not None:
        mark_absent(folder, reason)
        return
    unmark(folder)
    profile = PaperProfile.of("faces", parameters.assets, usable_device(parameters.device))
    frames = frames_of(read_clips(places.clips))
    invert_pictures(frames, folder, row, profile, batch=parameters.clips.batch)


@exit_on_refusal
def main() -> None:
    """Write ``data/clip_inversions/ROW/NAME.png``, or ``absent.json`` there."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.paper.invert_clips", description=__doc__)
    parser.add_argument("rows", nargs="+", choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    chosen = parser.parse_args()
    keep_freed_memory()
    for row in chosen.rows:
        invert(row, read_parameters(), Places())


if __name__ == "__main__":
    main()
