"""Stage: train an encoder for a domain as published; without its official files, say which are missing.

On several GPUs, set ``training.devices``; on several machines ``training.nodes`` too, and start this command on each
process: ``torchrun --nnodes 2 --nproc-per-node 2 -m pipelines.paper.train faces``, or ``srun``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fse.allocator import keep_freed_memory
from fse.device import usable_device
from fse.refusal import exit_on_refusal
from pipelines.paper.absence import mark_absent, unmark
from pipelines.paper.domains import DOMAINS
from pipelines.paper.domains import domain as domain_named
from pipelines.paper.parameters import read_parameters
from pipelines.paper.surveyed import Surveyed
from pipelines.paper.training import (
    fabric_for,
    missing_files,
    provenance_of,
    read_ingredients,
    train_encoder,
    write_trained,
)


@exit_on_refusal
def main() -> None:
    """Write ``weights/DOMAIN/fse.safetensors``, ``training.csv`` and ``training.json``, or ``absent.json`` there."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.paper.train", description=__doc__)
    parser.add_argument("domain", help=f"one of {', '.join(DOMAINS)}")
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="states and renders (default: %(default)s)")
    arguments = parser.parse_args()
    keep_freed_memory()
    parameters, domain, path = read_parameters(), domain_named(arguments.domain), Surveyed.read().path
    training, folder = parameters.training, arguments.weights / arguments.domain
    recipe = training.in_force
    if reason := missing_files(domain, recipe, path):
        mark_absent(folder, reason)
        return
    fabric = fabric_for(recipe, training, usable_device(parameters.device))
    made = read_ingredients(
        domain, recipe, path, training.seed, training.validation, allow_partial=parameters.allow_partial
    )
    trained = train_encoder(made, recipe, training, fabric, arguments.runs / arguments.domain)
    if fabric.is_global_zero:
        write_trained(trained, folder, provenance_of(recipe, training, made))
        unmark(folder)


if __name__ == "__main__":
    main()
