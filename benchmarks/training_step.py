"""Seconds a training step takes, plain and as it is run: ``python -m benchmarks.training_step``.

Plain is float32 without compilation; as run is bf16 autocast with compiled generators. Cached renders,
one pass for both reconstructions and the folded ST-LPIPS are in both. Random pictures, one process, no data loading.
"""

from __future__ import annotations

import argparse
import time
from typing import Literal

import torch
from lightning.fabric import Fabric
from torch import nn

from eval.profile import Profile
from fse.objective import Batch
from fse.training import compiled
from pipelines.objectives import OBJECTIVES, Ingredients
from pipelines.parameters import read_parameters

MODES: dict[str, Literal["32-true", "bf16-mixed"]] = {"plain": "32-true", "as run": "bf16-mixed"}


def main() -> None:
    """Print a row a method, resolution and mode."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_step", description=__doc__)
    parser.add_argument("--methods", default="fse,psp")
    parser.add_argument("--steps", type=int, default=3)
    arguments = parser.parse_args()
    parameters = read_parameters()
    profile = Profile()
    fine, coarse = profile.generator(), profile.generator(128)
    pictures = torch.rand(parameters.train.batch, 3, 256, 256).mul(2).sub(1).to(memory_format=torch.channels_last)
    codes = fine.map(torch.randn(parameters.train.batch // 2, fine.code_dim))
    print(f"batch {len(pictures)}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for method in arguments.methods.split(","):
        for name, generator in {"128 px": coarse, "256 px": fine}.items():
            for mode, precision in MODES.items():
                fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
                objective = OBJECTIVES[method](Ingredients(fine, profile.perceptual(), parameters, profile.weights))
                assert isinstance(objective, nn.Module)
                used = generator if mode == "plain" else compiled(generator)
                seconds = []
                for _ in range(arguments.steps + 1):
                    started = time.perf_counter()
                    with fabric.autocast():
                        loss = objective(Batch(pictures, codes), used).terms["loss"]
                    loss.backward()
                    seconds.append(time.perf_counter() - started)
                mean = sum(seconds[1:]) / arguments.steps  # the first step compiles
                print(f"{method:5} {name} {mode:7} {mean:6.2f} s a step, {1 / mean:5.2f} steps a second", flush=True)


if __name__ == "__main__":
    main()
