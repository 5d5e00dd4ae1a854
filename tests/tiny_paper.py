"""Official files at a small size, and the training on them: ``-m tests.tiny_paper FILES OUT OPTIONS ...``."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from PIL import Image
from torch import Tensor

from fse.allocator import keep_freed_memory
from fse.bisenet import BiSeNet, BiSeNetSize
from fse.face_recognition import ArcFace, FaceRecognitionSize
from fse.generators.stylegan2 import StyleGAN2, StyleGAN2Size
from fse.lpips_alexnet import TRUNK
from fse.refusal import Refusal
from fse.training_data import RealAndSynthetic, Share
from fse.trunk import TrunkSize
from pipelines.paper.domains import domain
from pipelines.paper.recipes import Training
from pipelines.paper.training import Ingredients, Trained, fabric_for, read_ingredients, train_encoder
from tests.golden.fill import image

STYLEGAN2 = StyleGAN2Size(64, (16, 16, 16, 16, 16), 512, 2)
ARCFACE = FaceRecognitionSize(TrunkSize((16, 16, 16, 16), (1, 1, 1, 1), 16), 32, 24)
BISENET = BiSeNetSize(5, (16, 16, 16, 16), 16)
FILES = {
    "psp_ffhq": "psp_ffhq_encode.pt",
    "arcface_iresnet50": "backbone.pth",
    "bisenet": "79999_iter.pth",
    "alexnet": "alexnet-owt-7be5be79.pth",
    "ffhq": "ffhq",
}
PICTURES = 12
CHANGES = {"epochs": 3, "iterations": 2, "lower_from": 2, "learning_rate": 1e-3}
TRAINING = {
    "changes": CHANGES,
    "validation": 2,
    "validate_every": 3,
    "save_every": 2,
    "log_every": 1,
    "readers": 2,
    "ablation": {"epochs": 1, "lower_from": 1, "pictures": 3},
}


def official_files(folder: Path) -> Path:
    """Write them, under their official names and in the official wrapping."""
    torch.manual_seed(0)
    generator = StyleGAN2(STYLEGAN2)
    for name, parameter in generator.named_parameters():
        if name.endswith("noise.weight"):
            parameter.data.fill_(0.1)
    mean = torch.randn(512) * 0.1
    state = {f"decoder.{name}": value for name, value in generator.state_dict().items()}
    torch.save({"state_dict": state, "latent_avg": mean}, folder / FILES["psp_ffhq"])
    torch.save(ArcFace(ARCFACE).state_dict(), folder / FILES["arcface_iresnet50"])
    torch.save(BiSeNet(BISENET).state_dict(), folder / FILES["bisenet"])
    trunk = {}
    for layer, shape in TRUNK.items():
        trunk[f"features.{layer}.weight"] = torch.randn(shape) * (2 / np.prod(shape[1:])) ** 0.5
        trunk[f"features.{layer}.bias"] = torch.zeros(shape[0])
    torch.save(trunk, folder / FILES["alexnet"])
    pictures = folder / FILES["ffhq"] / "images1024x1024"
    pictures.mkdir(parents=True)
    for number in range(PICTURES):
        pixels = ((image(f"picture {number}", (1, 3, 32, 32))[0] + 1) * 127.5).astype(np.uint8).transpose(1, 2, 0)
        large = Image.fromarray(pixels).resize((1024, 1024), Image.Resampling.NEAREST)
        large.save(pictures / f"{number:05}.png", compress_level=1)
    return folder


class Here:
    """Where the files of a folder are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, asset: str, name: str | None = None, /) -> Path:
        path = self.folder / FILES.get(asset, asset)
        if not path.exists():
            raise Refusal(f"the official asset {asset} is missing; get it")
        return path


def tiny_ingredients(folder: Path, training: Training) -> Ingredients:
    return read_ingredients(
        domain("faces"), training.in_force, Here(folder), training.seed, training.validation, allow_partial=True
    )


def tiny_paper_training(folder: Path, runs: Path, **changes: Any) -> tuple[Trained, Fabric]:
    """Train on the official files in ``folder``; ``changes`` of :data:`TRAINING`."""
    torch.set_num_threads(1)
    training = Training.model_validate({**TRAINING, **changes})
    fabric = fabric_for(training.in_force, training, torch.device("cpu"))
    made = tiny_ingredients(folder, training)
    return train_encoder(made, training.in_force, training, fabric, runs), fabric


def kill_at(step: int) -> None:
    """The process kills itself, as by ``kill -9``, when it asks for the batch of a step."""
    batch = RealAndSynthetic.batch

    def until(data: RealAndSynthetic, share: Share) -> tuple[Tensor, Tensor]:
        if share.step >= step:
            os.kill(os.getpid(), signal.SIGKILL)
        return batch(data, share)

    RealAndSynthetic.batch = until  # type: ignore[method-assign]


if __name__ == "__main__":
    keep_freed_memory()
    files, *jobs = sys.argv[1:]
    for out, text in zip(jobs[::2], jobs[1::2], strict=True):
        options = json.loads(text)
        if (step := options.pop("killed_at", None)) is not None:
            kill_at(step)
        trained, fabric = tiny_paper_training(Path(files), Path(out), **options)
        if fabric.is_global_zero:
            torch.save(trained.objective.network.state_dict(), Path(out) / "trained.pt")
            (Path(out) / "curve.json").write_text(json.dumps(trained.curve))
        fabric.barrier()
