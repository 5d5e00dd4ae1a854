"""Stage: train a variant of FSE on faces, on a part of the budget, and measure it (paper, section 5.4).

Everything that a variant does not change is the same for all of them: data, batches, first weights, schedule. The
pictures that are measured, at 256 px as the encoder sees them, are the last of FFHQ and in no batch.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eval.ablation import FULL, Run, measure
from eval.metrics.perceptual import LPIPSDistance
from eval.provenance import provenance
from fse.allocator import keep_freed_memory
from fse.device import usable_device
from fse.losses import reduce
from fse.lpips_alexnet import read_trunk
from fse.pictures import square_tensor
from fse.refusal import Refusal, exit_on_refusal
from fse.training_data import Pictures
from pipelines.paper.absence import mark_absent, unmark
from pipelines.paper.domains import domain as domain_named
from pipelines.paper.parameters import read_parameters
from pipelines.paper.recipes import Recipe, Training, changed
from pipelines.paper.surveyed import Surveyed
from pipelines.paper.training import (
    SIDE,
    Trained,
    fabric_for,
    missing_files,
    read_ingredients,
    train_encoder,
)

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    FULL: {},
    "no_eq2": {"pixel": 0.0},
    "no_eq6": {"identity": 0.0},
    "no_eq7": {"parsing": 0.0},
    "single_scale": {"scales": 1},
    "no_feature_branch": {"receive_feature": 0, "feature": 0.0},
    "no_eq4": {"feature": 0.0},
    "both_receive_f": {"receive_feature": 2, "fresh_noise": True},  # of the released code
    "synthetic_only": {"real": 0},
    "real_only": {"synthetic": 0},
    "k3": {"feature_layer": 3},
    "k7": {"feature_layer": 7},
}
"""VARIANT -> what it changes of the recipe. Of one kind of pictures only, a batch has as many as of both."""


def varied(training: Training, variant: str) -> tuple[Recipe, dict[str, Any]]:
    """The recipe in force on the ablations' budget as ``variant`` changes it, and the changes by name.

    Raises
    ------
    Refusal
        There is no such variant.
    """
    if variant not in VARIANTS:
        raise Refusal(f"there is no variant {variant!r}; choose from {', '.join(VARIANTS)}")
    recipe, changes = training.in_force, dict(VARIANTS[variant])
    for kind, other in (("real", "synthetic"), ("synthetic", "real")):
        if changes.get(kind) == 0:
            changes[other] = recipe.real + recipe.synthetic
    budget = training.ablation.model_dump(include={"epochs", "lower_from"})
    return changed(recipe, {**budget, **changes}, f"variant {variant}"), changes


def pictures_of(held_out: Pictures, count: int, resolution: int) -> Tensor:
    """The last ``count`` pictures as the encoder sees them: (count, 3, S, S) in [-1, 1], S at most 256."""
    side = min(SIDE, resolution)
    read = (held_out[index] for index in range(len(held_out) - count, len(held_out)))
    return torch.cat([reduce(square_tensor(image, name, resolution)[None], side) for name, image in read])


def measured(trained: Trained, pictures: Tensor, distance: LPIPSDistance) -> dict[str, dict[str, list[float]]]:
    """RECONSTRUCTION -> METRIC -> one value a picture, at the side of ``pictures`` (n, 3, S, S)."""
    side, batch = pictures.shape[-1], 4

    def reconstruct(part: Tensor) -> dict[str, Tensor]:
        return {name: reduce(made, side) for name, made in trained.objective.reconstructions(part).items()}

    return measure(reconstruct, pictures, distance, side, batch=batch)


@exit_on_refusal
def main() -> None:
    """Write ``data/ablation/VARIANT/VARIANT-seedSEED.json``, or ``absent.json`` there."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.paper.ablate", description=__doc__)
    parser.add_argument("variant", help=f"one of {', '.join(VARIANTS)}")
    parser.add_argument("--out", type=Path, default=Path("data/ablation"))
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="states and renders (default: %(default)s)")
    arguments = parser.parse_args()
    keep_freed_memory()
    parameters, domain, path = read_parameters(), domain_named("faces"), Surveyed.read().path
    training, folder = parameters.training, arguments.out / arguments.variant
    recipe, changes = varied(training, arguments.variant)
    if reason := missing_files(domain, recipe, path):
        mark_absent(folder, reason)
        return
    count = training.ablation.pictures
    held_out = max(count, training.validation)
    fabric = fabric_for(recipe, training, usable_device(parameters.device))
    made = read_ingredients(domain, recipe, path, training.seed, held_out, allow_partial=parameters.allow_partial)
    trained = train_encoder(made, recipe, training, fabric, arguments.runs / "ablation")
    if fabric.is_global_zero:
        distance = LPIPSDistance(read_trunk(made.files["alexnet"]))
        distance.network.to(fabric.device)
        pictures = pictures_of(made.held_out, count, made.generator.resolution).to(fabric.device)
        found = {"recipe": recipe.model_dump(mode="json"), "training": training.model_dump(mode="json")}
        parameter_count = sum(parameter.numel() for parameter in trained.objective.network.parameters())
        seconds = round(trained.summary["seconds"], 1)
        Run(
            variant=arguments.variant,
            seed=training.seed,
            changes=changes,
            resolution=pictures.shape[-1],
            pictures=measured(trained, pictures, distance),
            training={"parameters": parameter_count, "steps": recipe.steps, "seconds": seconds},
            provenance=provenance(made.files, found),
        ).write(folder)
        unmark(folder)


if __name__ == "__main__":
    main()
