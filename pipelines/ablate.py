"""DVC stage: train a variant of FSE on the ablations' budget and measure it (paper, section 5.4).

A variant is a line of ``params.yaml``: what it changes of the parameters in force. Everything else (data, batches,
first weights, schedule) is the same for all variants of a seed. The losses are taken at 128 px throughout, and the
pictures that are measured are in no training, validation or test set.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import cast

import numpy as np
import torch
from pydantic import ValidationError

from eval.ablation import Run, measure
from eval.profile import Profile
from eval.provenance import provenance
from fse.allocator import keep_freed_memory
from fse.objective import FeatureStyleObjective
from fse.offmanifold import push_off_manifold
from fse.refusal import Refusal, exit_on_refusal
from fse.training import Validation, train
from pipelines.objectives import OBJECTIVES, Ingredients
from pipelines.parameters import Parameters, read_parameters
from pipelines.training_run import fabric_of, rendered, run_key, settings_of

SECTIONS = ("fse", "encoder", "train")  # whose parameters a variant may change
SIDE = 128  # px, of losses and measurement


def varied(parameters: Parameters, variant: str, seed: int) -> Parameters:
    """The parameters of one training: the ablations' budget, then what the variant changes.

    Raises
    ------
    Refusal
        There is no such variant, or it changes a parameter that does not exist or to a value that it cannot have.
    """
    ablation = parameters.ablation
    if variant not in ablation.variants:
        raise Refusal(f"params.yaml has no variant {variant!r}; it has {', '.join(ablation.variants)}")
    values = parameters.model_dump()
    values["train"] |= {
        "seed": seed,
        "steps": ablation.steps,
        "warm_steps": ablation.warm_steps,
        "validate_every": ablation.steps + ablation.warm_steps,  # the last step only: no state is chosen
        "fine_from": 1.0,
    }
    for name, value in ablation.variants[variant].changes.items():
        section = next((section for section in SECTIONS if name in values[section]), None)
        if section is None:
            sections = ", ".join(SECTIONS)
            raise Refusal(f"params.yaml: ablation.variants.{variant}: {sections} have no {name!r}; correct it there")
        values[section][name] = value
    try:
        return Parameters.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        reason = f"{name}: {first['msg']} (it is {first['input']!r})"
        raise Refusal(f"params.yaml: ablation.variants.{variant}: {reason}; correct it there") from error


@exit_on_refusal
def main() -> None:
    """Write ``reports/ablation/VARIANT-seedSEED.json``."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.ablate", description=__doc__)
    parser.add_argument("variant", help="a name under ablation.variants in params.yaml")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches (default: %(default)s)")
    parser.add_argument("--assets", type=Path, default=Path("data/assets"))
    parser.add_argument("--weights", type=Path, default=Path("weights"), help="folder of the picture heads")
    parser.add_argument("--reports", type=Path, default=Path("reports/ablation"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    keep_freed_memory()
    variant, seed = arguments.variant, arguments.seed
    parameters = varied(read_parameters(), variant, seed)
    budget, ablation = parameters.train, parameters.ablation
    options = ablation.variants[variant]

    fabric = fabric_of(budget)
    profile = Profile(arguments.assets, arguments.weights, device=fabric.device)
    layer = parameters.fse.feature_layer
    fine, coarse, perceptual = profile.generator(None, layer), profile.generator(SIDE, layer), profile.perceptual()
    made = Ingredients(fine, perceptual, parameters, arguments.weights)
    objective = cast(FeatureStyleObjective, OBJECTIVES["fse"](made)).to(memory_format=torch.channels_last)
    objective.receive_feature = options.receive_feature

    heads = arguments.weights / "picture_head.safetensors"
    digest = hashlib.sha256(heads.read_bytes()).hexdigest()[:12]

    folder = arguments.runs / "renders" / digest
    renders = rendered(  # those of `train`
        fine, budget.renders_seed, budget.renders, folder / f"seed{budget.renders_seed}", budget, fabric
    )
    first, count = ablation.seed, ablation.pictures
    held_out = rendered(fine, first, count, folder / f"seed{first}-{count}", budget, fabric)
    pictures = push_off_manifold(held_out[range(count)], np.random.default_rng(first)).to(fabric.device)

    settings = settings_of(budget, synthetic=options.synthetic)
    validation = Validation(pictures[:4], perceptual)  # for the log: the last state is taken, whatever it shows
    sections = parameters.model_dump(mode="json", include=set(SECTIONS))
    # Of `eval` there is only what measures.
    key = run_key("ablate", sections, [options.model_dump(mode="json"), digest], but=("eval/",))
    run = arguments.runs / "ablation" / f"{variant}-seed{seed}-{key}"
    best = train(objective, coarse, fine, renders, validation, settings, fabric, run)

    if fabric.is_global_zero:
        found = measure(lambda part: objective.reconstructions(part, coarse), pictures, perceptual, SIDE)
        inputs = {"assets": arguments.assets, "heads": heads}
        parameter_count = sum(parameter.numel() for parameter in objective.network.parameters())
        Run(
            variant=variant,
            seed=seed,
            changes=options.model_dump(mode="json", exclude_defaults=True),
            resolution=SIDE,
            pictures=found,
            training={"parameters": parameter_count, "steps": settings.total, "seconds": round(best["seconds"], 1)},
            provenance=provenance(inputs, parameters.model_dump(mode="json", include={*SECTIONS, "ablation"})),
        ).write(arguments.reports)


if __name__ == "__main__":
    main()
