"""DVC stage: a method's reconstructions of the clips' frames, one by one, as 8-bit PNG files of their names."""

from __future__ import annotations

import argparse
from pathlib import Path

from eval.clips import frames_of, read_clips
from eval.inversions import invert_pictures
from eval.profile import Profile
from fse.allocator import keep_freed_memory
from fse.refusal import exit_on_refusal
from pipelines.parameters import read_parameters


@exit_on_refusal
def main() -> None:
    """Write ``data/clip_inversions/METHOD/NN_FFF.png``."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.invert_clips", description=__doc__)
    parser.add_argument("method", help="an installed method, e.g. fse; see fse.registry")
    parser.add_argument("--assets", type=Path, default=Path("data/assets"))
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--clips", type=Path, default=Path("data/clips"))
    parser.add_argument("--out", type=Path, default=Path("data/clip_inversions"))
    arguments = parser.parse_args()
    keep_freed_memory()
    parameters = read_parameters().evaluate_clips
    limits = [n for n in (parameters.clips, parameters.subset.get(arguments.method)) if n is not None]
    clips = read_clips(arguments.clips, limit=min(limits, default=None), frames=parameters.frames)
    profile = Profile(arguments.assets, arguments.weights)
    target = arguments.out / arguments.method
    invert_pictures(frames_of(clips), target, arguments.method, profile, batch=parameters.batch)


if __name__ == "__main__":
    main()
