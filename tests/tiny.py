"""A generator, encoders and a training small enough for a test: ``python -m tests.tiny FOLDER PROCESSES STEPS``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric

from baselines.psp import PSPObjective, PSPWeights, PyramidEncoder, PyramidSize
from fse.encoder import EncoderSize, FeatureStyleEncoder
from fse.generators.mobilestylegan import MobileStyleGAN, MobileStyleGANSize, WaveletHead
from fse.generators.picture_head import cut
from fse.latents import mean_code, sample_z
from fse.losses import FeatureStyleWeights
from fse.objective import FeatureStyleObjective
from fse.offmanifold import push_off_manifold
from fse.perceptual import STLPIPS
from fse.renders import Renders
from fse.training import TrainingSettings, Validation, batch_at, train
from fse.trunk import TrunkSize

ASSETS = Path(__file__).resolve().parents[1] / "data/assets"
TRUNK = TrunkSize((16, 16, 24, 32), (1, 1, 1, 1), 16, 1)
SETTINGS = TrainingSettings(
    steps=20, batch=4, learning_rate=4e-3, rise=2, fine_from=0.8, warm_steps=6, warm_batch=8, warm_learning_rate=4e-3,
    average=0.5, validate_every=5, save_every=4, seed=3, compile=False,
)  # fmt: skip


def tiny_generator(feature_layer: int = 3) -> MobileStyleGAN:
    """Random weights, 64 px, N = 8, F of 64 x 8 x 8 for K = 3; pictures about [-1, 1]."""
    torch.manual_seed(0)
    generator = MobileStyleGAN(MobileStyleGANSize((64, 64, 64, 32), 2), feature_layer)
    _randomise(generator)
    _scale(generator)
    generator.mean_code.copy_(mean_code(generator, sample_z(1, 64)))
    return generator.requires_grad_(False).eval()


def tiny_coarse(generator: MobileStyleGAN) -> MobileStyleGAN:
    """Its first layers at 32 px, N = 6, with a head of their own."""
    torch.manual_seed(1)
    head = WaveletHead(64)
    _randomise(head)
    coarse = cut(generator, 32, head, generator.feature_layer)
    _scale(coarse)
    return coarse.requires_grad_(False).eval()


def _randomise(network: torch.nn.Module) -> None:
    for name, parameter in network.named_parameters():
        if not name.endswith(("bias", "noise")):
            style = 0.5 if "modulation" in name else 1.0
            parameter.data.normal_(0, 1.0 if parameter.ndim == 4 else style * 512**-0.5)


@torch.no_grad()
def _scale(generator: MobileStyleGAN) -> None:
    """Give pictures a standard deviation of 0.4."""
    assert isinstance(generator.head, WaveletHead)
    generator.head.weight *= 0.4 / generator.synthesize(generator.map(sample_z(2, 16))).std()


def tiny_encoder(generator: MobileStyleGAN) -> FeatureStyleEncoder:
    """Of the generator's size, F's scale set to the generator's."""
    torch.manual_seed(2)
    size = EncoderSize(generator.num_codes, 512, TRUNK, 1, generator.feature_shape[0], 1, generator.feature_layer)
    encoder = FeatureStyleEncoder(size)
    features = generator.feature(generator.map(sample_z(4, 32))).transpose(0, 1).flatten(1)
    encoder.start_from(features.mean(1), features.std(1))
    return encoder


def tiny_pyramid(generator: MobileStyleGAN, *, progressive: bool = False) -> PyramidEncoder:
    torch.manual_seed(2)
    size = PyramidSize(generator.num_codes, 512, TRUNK, 8, generator.resolution, progressive=progressive)
    return PyramidEncoder(size)


def tiny_objective(generator: MobileStyleGAN, perceptual: STLPIPS) -> FeatureStyleObjective:
    weights = FeatureStyleWeights(pixel_feature=1.0)
    return FeatureStyleObjective(tiny_encoder(generator), generator, perceptual, [32], weights)


def tiny_psp_objective(generator: MobileStyleGAN, perceptual: STLPIPS) -> PSPObjective:
    return PSPObjective(tiny_pyramid(generator), generator, perceptual, [32], PSPWeights())


def tiny_renders(generator: MobileStyleGAN, folder: Path, seed: int = 10, count: int = 24) -> Renders:
    renders = Renders(generator, seed, count, folder / f"renders{seed}")
    renders.render(lambda items, name: items)
    return renders


def tiny_training(
    folder: Path, settings: TrainingSettings = SETTINGS, devices: int = 1, method: str = "fse"
) -> dict[str, Any]:
    """Train in ``folder/run``, or continue; renders and the results lie beside it. Returns the best measures."""
    torch.set_num_threads(1)  # sums do not depend on how many threads a machine has
    fabric = Fabric(accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto")
    fabric.launch()
    generator, perceptual = tiny_generator(), STLPIPS.load(ASSETS / "stlpips/alex_shift_tolerant.pth")
    objective = {"fse": tiny_objective, "psp": tiny_psp_objective}[method](generator, perceptual)
    renders, held_out = tiny_renders(generator, folder), tiny_renders(generator, folder, 11, 4)
    validation = Validation(push_off_manifold(held_out[range(4)], np.random.default_rng(11)), perceptual)
    coarse = tiny_coarse(generator)
    best = train(objective, coarse, generator, renders, validation, settings, fabric, folder / "run")
    torch.save(batch_at(renders, settings, 0, fabric).codes, folder / f"share{fabric.global_rank}.pt")
    if fabric.is_global_zero:
        torch.save(objective.network.state_dict(), folder / "trained.pt")
    return best


if __name__ == "__main__":
    folder, devices, steps = sys.argv[1:]
    tiny_training(Path(folder), replace(SETTINGS, steps=int(steps)), int(devices))
