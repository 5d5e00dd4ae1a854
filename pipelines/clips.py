"""DVC stage: clips of talking faces, rendered, encoded as H.264, and read back, tracked and aligned as any video is.

What is measured later are the aligned pictures that the reader gave, never the renders: they went through the encoder,
the decoder, the tracker and the alignment.
"""

from __future__ import annotations

import argparse
import json
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from eval.clip_frames import write_aligned
from eval.profile import Profile
from eval.talking_faces import HEIGHT, WIDTH, Pose, choose_speakers, talking_frames, talking_path
from fse.alignment import FaceAligner
from fse.allocator import keep_freed_memory
from fse.directions import read_directions
from fse.refusal import exit_on_refusal
from fse.video.clip import ClipWriter, Colour, Frame, Pixels, planes_of
from fse.video.settings import ClipSettings
from pipelines.parameters import Clips, read_parameters

BT709 = Colour(matrix=1, primaries=1, transfer=1)


def write_clip(path: Path, frames: list[Pixels], rate: int) -> None:
    """RGB frames as an H.264 clip, BT.709, limited range."""
    with ClipWriter(path, frames[0].shape[1], frames[0].shape[0], Fraction(rate), colour=BT709) as writer:
        for number, pixels in enumerate(frames):
            writer.write(Frame(number, number, 1, planes_of(pixels, BT709), BT709))


def make_clips(profile: Profile, directions: Path, parameters: Clips, out: Path) -> None:
    """``videos/NN.mp4``, ``frames/NN_FFF.png`` and ``clips.json`` in ``out``, which is made anew."""
    generator = profile.generator()
    moves = read_directions(directions, generator)
    aligner = FaceAligner(profile.assets / "dlib" / "shape_predictor_68_face_landmarks.dat")
    settings = ClipSettings(resolution=profile.resolution, device=profile.device)
    speakers = choose_speakers(
        generator, moves, parameters.seed, parameters.count, lambda items: tqdm(items, desc="choosing identities")
    )
    shutil.rmtree(out, ignore_errors=True)
    clips: dict[str, Any] = {}
    for number, speaker in enumerate(tqdm(speakers, desc="clips")):
        name, random = f"{number:02}", np.random.default_rng([parameters.seed, number])
        path = talking_path(parameters.frames, parameters.rate, random, number % 3 == 2)
        video = out / "videos" / f"{name}.mp4"
        write_clip(video, list(talking_frames(generator, speaker, moves, path, random)), parameters.rate)
        found = write_aligned(video, name, out / "frames", aligner, settings)
        extreme = {f"{name}_{i:03}" for i, pose in enumerate(path) if pose.extreme}
        clips[name] = {
            "video": f"videos/{name}.mp4",
            **found,
            "extreme": [stem for stem in found["frames"] if stem in extreme],
            "poses": [_rounded(pose) for pose in path],
        }
    record = {
        "rate": parameters.rate, "width": WIDTH, "height": HEIGHT, "resolution": profile.resolution,
        "seed": parameters.seed, "clips": clips,
    }  # fmt: skip
    (out / "clips.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _rounded(pose: Pose) -> dict[str, float]:
    placed = {"x": pose.x, "y": pose.y, "turn": pose.turn, "scale": pose.scale}
    return {name: round(value, 4) for name, value in {**pose.moves, **placed}.items()}


@exit_on_refusal
def main() -> None:
    """Write ``data/clips``."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.clips", description=__doc__)
    parser.add_argument("--assets", type=Path, default=Path("data/assets"))
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--directions", type=Path, default=Path("directions/generator.safetensors"))
    parser.add_argument("--out", type=Path, default=Path("data/clips"))
    arguments = parser.parse_args()
    keep_freed_memory()
    profile = Profile(arguments.assets, arguments.weights)
    make_clips(profile, arguments.directions, read_parameters().clips, arguments.out)


if __name__ == "__main__":
    main()
