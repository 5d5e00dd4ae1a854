"""DVC stage: train a method of the embedded profile.

Depends on hash-pinned assets, the picture heads, parameters and code only; renders are made here, and kept in
``runs`` between sittings, because their last bits differ from CPU to CPU.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
from torch import nn

from baselines.hfgi.inversion import fingerprint
from eval.profile import Profile
from fse.allocator import keep_freed_memory
from fse.checkpoints.network_file import write_network
from fse.offmanifold import push_off_manifold
from fse.refusal import Refusal, exit_on_refusal
from fse.training import Validation, curve_rows, train
from pipelines.objectives import (
    FIRST_STAGES,
    LONGER,
    OBJECTIVES,
    Ingredients,
    budget_of,
    feature_layer_of,
    own_parameters,
)
from pipelines.parameters import read_parameters
from pipelines.training_run import fabric_of, rendered, run_key, settings_of


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
    keep_freed_memory()
    method, parameters = arguments.method, read_parameters()
    if method not in OBJECTIVES:
        raise Refusal(f"{method!r} cannot be trained; trainable methods are {', '.join(OBJECTIVES)}")
    budget = budget_of(method, parameters)

    fabric = fabric_of(budget)
    profile = Profile(arguments.assets, arguments.weights, device=fabric.device)
    layer = feature_layer_of(method, parameters)
    fine, coarse, perceptual = profile.generator(None, layer), profile.generator(128, layer), profile.perceptual()
    objective = OBJECTIVES[method](Ingredients(fine, perceptual, parameters, arguments.weights))
    first = {name: fingerprint(arguments.weights / f"{name}.safetensors") for name in FIRST_STAGES.get(method, ())}
    cast(nn.Module, objective).to(memory_format=torch.channels_last)

    heads = hashlib.sha256((arguments.weights / "picture_head.safetensors").read_bytes()).hexdigest()[:12]
    folder = arguments.runs / "renders" / heads
    seed, held_out_seed = budget.renders_seed, budget.validation_seed
    renders = rendered(fine, seed, budget.renders, folder / f"seed{seed}", budget, fabric)
    held_out = rendered(fine, held_out_seed, budget.validation, folder / f"seed{held_out_seed}", budget, fabric)
    random = np.random.default_rng(held_out_seed)
    pictures = push_off_manifold(held_out[range(budget.validation)], random).to(fabric.device)

    stage = f"train_{method}" if method in FIRST_STAGES else "train"
    named = {"longer", LONGER[method]} if method in LONGER else {method}
    sections = parameters.model_dump(mode="json", include={"train", "encoder", "pyramid", *named})
    run = arguments.runs / "train" / f"{method}-{run_key(stage, sections, [heads, *first.values()])}"
    best = train(objective, coarse, fine, renders, Validation(pictures, perceptual), settings_of(budget), fabric, run)

    if fabric.is_global_zero:
        network = objective.network
        own = own_parameters(method, parameters)
        provenance = {"parameters": {**budget.model_dump(), **own.model_dump()}, "heads": heads, **first}
        write_network(arguments.weights / f"{method}.safetensors", network, provenance)
        arguments.reports.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(curve_rows(run)).to_csv(arguments.reports / f"{method}.csv", index=False, float_format="%.6g")
        summary = {key: round(value, 5) for key, value in best.items()}
        summary["generator_passes_per_step"] = summary.pop("renders_per_picture")
        summary["passes"] = objective.passes
        summary |= {"parameters": sum(parameter.numel() for parameter in network.parameters())}
        summary |= {name: getattr(budget, name) for name in ("warm_steps", "warm_batch", "steps", "batch")}
        (arguments.reports / f"{method}.json").write_text(json.dumps(summary, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
