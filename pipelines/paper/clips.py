"""Stage: RAVDESS clips, drawn by a seed and aligned (section 5.3)."""

from __future__ import annotations

import argparse
from dataclasses import replace

from eval.contest import Places
from eval.ravdess import draw, prepare, read_archives, write_list
from fse.alignment import FaceAligner
from fse.refusal import Refusal, exit_on_refusal
from fse.video.settings import ClipSettings
from pipelines.paper.absence import mark_absent, unmark
from pipelines.paper.domains import DOMAINS
from pipelines.paper.parameters import read_parameters
from pipelines.paper.surveyed import Surveyed


@exit_on_refusal
def main() -> None:
    """Write ``data/clips``: the aligned frames, their record, and the list of what was drawn."""
    argparse.ArgumentParser(prog="python -m pipelines.paper.clips", description=__doc__).parse_args()
    parameters, out = read_parameters(), Places().clips
    wanted = parameters.clips
    try:
        # Some of the archives are enough to draw from; the list says from how many recordings.
        archives = Surveyed.read().some_files("ravdess")
        recordings = read_archives(archives[0].parent)
        drawn = draw(recordings, wanted.count, wanted.seed)
    except Refusal as refusal:
        mark_absent(out, str(refusal))
        return
    unmark(out)
    write_list(out / "list.txt", drawn, len(recordings), wanted.seed)
    aligner = FaceAligner(parameters.assets / "dlib" / "shape_predictor_68_face_landmarks.dat")
    settings = replace(ClipSettings(), resolution=DOMAINS["faces"].size[0])
    for name, reason in prepare(drawn, out, aligner, settings, wanted.frames).items():
        print(f"{name}: not used: {reason}")


if __name__ == "__main__":
    main()
