"""DVC stage: the test sets. Held-out renders pushed off the manifold, and the aligned real photographs.

Also the fixed mean descriptor that the identity metric subtracts, measured on plain renders.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from eval.metrics.identity import FaceDescriptor, mean_descriptor
from eval.profile import Profile
from fse.alignment import FaceAligner, align_every_face
from fse.allocator import keep_freed_memory
from fse.generators.style_generator import StyleGenerator
from fse.latents import sample_z
from fse.offmanifold import push_off_manifold
from fse.pictures import list_pictures, write_picture
from fse.refusal import exit_on_refusal
from fse.renders import render_codes
from pipelines.parameters import read_parameters

BATCH = 8  # part of the test set's definition: pictures of a batch lend each other texture


@torch.no_grad()
def off_manifold_renders(generator: StyleGenerator, seed: int, count: int, folder: Path) -> None:
    """Write ``count`` pictures, named by number."""
    random = np.random.default_rng(seed)
    codes = render_codes(generator, seed, -(-count // BATCH) * BATCH)
    for start in tqdm(range(0, count, BATCH), desc="renders pushed off the manifold", unit="batch"):
        pictures = generator.synthesize(codes[start : start + BATCH].to(generator.mean_code.device)).cpu()
        for i, picture in enumerate(push_off_manifold(pictures.clamp(-1, 1), random), start):
            if i < count:
                write_picture(picture, folder / f"{i:05}.png")


@torch.no_grad()
def plain_renders(generator: StyleGenerator, seed: int, count: int) -> Tensor:
    """(count, 3, R, R) pictures from W, in [-1, 1], on the CPU."""
    z = sample_z(seed, count).to(generator.mean_code.device)
    parts = tqdm(z.split(BATCH), desc="renders for the mean descriptor", unit="batch")
    return torch.cat([generator.synthesize(generator.map(part)).clamp(-1, 1).cpu() for part in parts])


@exit_on_refusal
def main() -> None:
    """Write ``data/test/renders``, ``data/test/photographs`` and ``data/test/mean_descriptor.json``."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.data", description=__doc__)
    parser.add_argument("--assets", type=Path, default=Path("data/assets"))
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--out", type=Path, default=Path("data/test"))
    arguments = parser.parse_args()
    keep_freed_memory()
    parameters = read_parameters().data
    profile = Profile(arguments.assets, arguments.weights)
    generator = profile.generator()

    off_manifold_renders(generator, parameters.renders_seed, parameters.renders, arguments.out / "renders")

    aligner = FaceAligner(profile.assets / "dlib/shape_predictor_68_face_landmarks.dat")
    photographs = align_every_face(list_pictures(profile.assets / "photographs"), aligner, profile.resolution)
    for name, picture in photographs.items():
        write_picture(picture, arguments.out / "photographs" / f"{name}.png")

    seed, count = parameters.mean_descriptor_seed, parameters.mean_descriptor_count
    mean = mean_descriptor(plain_renders(generator, seed, count).split(BATCH), FaceDescriptor(profile.assets / "dlib"))
    mean.write(arguments.out / "mean_descriptor.json", {"renders_seed": seed, "renders": count})


if __name__ == "__main__":
    main()
