"""DVC stage: train a method of the embedded profile.

Depends on hash-pinned assets, the picture heads, parameters and code only; renders are made here, and kept in
``runs`` between sittings, because their last bits differ from CPU to CPU.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
import yaml
from lightning.fabric import Fabric
from torch import nn
from tqdm import tqdm

from baselines.psp import PSPObjective, PSPWeights, PyramidEncoder, PyramidSize
from eval.profile import Profile
from fse.checkpoints.network_file import write_network
from fse.encoder import EncoderSize, FeatureStyleEncoder
from fse.generators.style_generator import StyleGenerator
from fse.losses import FeatureStyleWeights
from fse.objective import FeatureStyleObjective, Objective
from fse.offmanifold import push_off_manifold
from fse.perceptual import STLPIPS
from fse.refusal import Refusal, exit_on_refusal
from fse.renders import Renders
from fse.training import TrainingSettings, Validation, compiled, curve_rows, train
from fse.trunk import TrunkSize
from pipelines.parameters import Parameters, read_parameters


def _trunk(parameters: Parameters) -> TrunkSize:
    return TrunkSize(**parameters.encoder.model_dump())


def fse_objective(generator: StyleGenerator, perceptual: STLPIPS, parameters: Parameters) -> FeatureStyleObjective:
    """The Feature-Style Encoder at the parameters' size, F's scale set to the generator's."""
    own = parameters.fse
    size = EncoderSize(
        generator.num_codes,
        generator.code_dim,
        _trunk(parameters),
        own.pooling,
        generator.feature_shape[0],
        own.feature_stride,
        own.feature_layer,
    )
    side, wanted = (
        generator.resolution // (8 * size.trunk.stem_stride * size.feature_stride),
        generator.feature_shape[1],
    )
    if side != wanted:
        raise Refusal(
            f"params.yaml: with fse.feature_stride = {size.feature_stride} and encoder.stem_stride = "
            f"{size.trunk.stem_stride} the encoder's F is {side} px a side, and the generator's convolution "
            f"fse.feature_layer = {size.feature_layer} has {wanted}; change one of the three"
        )
    encoder = FeatureStyleEncoder(size).to(generator.mean_code.device)
    with torch.no_grad():
        codes = generator.map(torch.randn(128, generator.code_dim, device=generator.mean_code.device))
        features = generator.feature(codes).transpose(0, 1).flatten(1)
    encoder.start_from(features.mean(1), features.std(1))
    weights = FeatureStyleWeights(own.pixel, own.perceptual, own.feature, own.pixel_feature)
    return FeatureStyleObjective(encoder, generator, perceptual, own.perceptual_sides, weights)


def psp_objective(generator: StyleGenerator, perceptual: STLPIPS, parameters: Parameters) -> PSPObjective:
    """pSp on the same trunk."""
    own = parameters.psp
    trunk, side = _trunk(parameters), generator.resolution
    size = PyramidSize(generator.num_codes, generator.code_dim, trunk, own.head_width, side)
    encoder = PyramidEncoder(size).to(generator.mean_code.device)
    weights = PSPWeights(own.pixel, own.perceptual)
    return PSPObjective(encoder, generator, perceptual, own.perceptual_sides, weights)


OBJECTIVES: dict[str, Callable[[StyleGenerator, STLPIPS, Parameters], Objective]] = {
    "fse": fse_objective,
    "psp": psp_objective,
}


def _key(method: str, parameters: Parameters, heads: str) -> str:
    """Tells trainings apart, so that none continues another's state: parameters, heads, and the code that decides.

    What that code is, ``dvc.yaml`` says: the train stage's dependencies.
    """
    sections = parameters.model_dump(mode="json", include={"train", "encoder", method})
    digest = hashlib.sha256(json.dumps([sections, heads], sort_keys=True).encode())
    for path in yaml.safe_load(Path("dvc.yaml").read_text())["stages"]["train"]["deps"]:
        if path.endswith(".py"):
            digest.update(Path(path).read_bytes())
    return digest.hexdigest()[:12]


def _progress(items: Iterable[int], name: str) -> Iterable[int]:
    bar: Iterable[int] = tqdm(items, desc=name, unit="chunk")
    return bar


@exit_on_refusal
def main() -> None:
    """Write ``weights/METHOD.safetensors`` and the curve and summary in ``reports/training``."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.train", description=__doc__)
    parser.add_argument("method", help=f"one of {', '.join(OBJECTIVES)}")
    parser.add_argument("--assets", type=Path, default=Path("data/assets"))
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--reports", type=Path, default=Path("reports/training"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    method, parameters = arguments.method, read_parameters()
    if method not in OBJECTIVES:
        raise Refusal(f"{method!r} cannot be trained; trainable methods are {', '.join(OBJECTIVES)}")
    budget = parameters.train

    fabric = Fabric(accelerator=budget.accelerator, devices=budget.devices, precision=budget.precision)
    fabric.launch()
    fabric.seed_everything(budget.seed, verbose=False)
    profile = Profile(arguments.assets, arguments.weights, device=fabric.device)
    fine = profile.generator(feature_layer=parameters.fse.feature_layer)
    coarse = profile.generator(128, parameters.fse.feature_layer)
    perceptual = profile.perceptual()
    objective = OBJECTIVES[method](fine, perceptual, parameters)
    cast(nn.Module, objective).to(memory_format=torch.channels_last)

    heads = hashlib.sha256((arguments.weights / "picture_head.safetensors").read_bytes()).hexdigest()[:12]
    folder = arguments.runs / "renders" / heads
    renders = Renders(fine, budget.renders_seed, budget.renders, folder / f"seed{budget.renders_seed}")
    held_out = Renders(fine, budget.validation_seed, budget.validation, folder / f"seed{budget.validation_seed}")
    if fabric.is_global_zero:
        renders.render(_progress, compiled(fine).synthesize if budget.compile else None)
        held_out.render(_progress)
    fabric.barrier()
    random = np.random.default_rng(budget.validation_seed)
    pictures = push_off_manifold(held_out[range(budget.validation)], random).to(fabric.device)

    names = TrainingSettings.__dataclass_fields__
    settings = TrainingSettings(**{name: value for name, value in budget.model_dump().items() if name in names})
    run = arguments.runs / "train" / f"{method}-{_key(method, parameters, heads)}"
    best = train(objective, coarse, fine, renders, Validation(pictures, perceptual), settings, fabric, run)

    if fabric.is_global_zero:
        network = objective.network
        provenance = {"parameters": {**budget.model_dump(), **getattr(parameters, method).model_dump()}, "heads": heads}
        write_network(arguments.weights / f"{method}.safetensors", network, provenance)
        arguments.reports.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(curve_rows(run)).to_csv(arguments.reports / f"{method}.csv", index=False, float_format="%.6g")
        summary = {key: round(value, 5) for key, value in best.items()}
        summary |= {"parameters": sum(parameter.numel() for parameter in network.parameters())}
        (arguments.reports / f"{method}.json").write_text(json.dumps(summary, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
