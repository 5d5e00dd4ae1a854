"""What the trainings of the embedded profile, those of the contest and those of the ablations, begin with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.fabric import Fabric
from tqdm import tqdm

from fse.generators.style_generator import StyleGenerator
from fse.renders import Renders
from fse.training import TrainingSettings, compiled
from pipelines.parameters import Train

MANY = 1000
"""Renders from which on compiling the generator first, which takes a minute, pays."""


def fabric_of(budget: Train) -> Fabric:
    """Started, and seeded."""
    fabric = Fabric(accelerator=budget.accelerator, devices=budget.devices, precision=budget.precision)
    fabric.launch()
    fabric.seed_everything(budget.seed, verbose=False)
    return fabric


def settings_of(budget: Train, **further: Any) -> TrainingSettings:
    """The budget as the training loop takes it."""
    names = TrainingSettings.__dataclass_fields__
    return TrainingSettings(**{name: value for name, value in budget.model_dump().items() if name in names}, **further)


def run_key(stage: str, parameters: Mapping[str, Any], inputs: Sequence[Any], but: tuple[str, ...] = ()) -> str:
    """Tells trainings apart, so that none continues another's state: parameters, inputs, and the code that decides.

    What that code is, ``dvc.yaml`` says: the dependencies of ``stage``; paths that begin with one of ``but`` are not.
    """
    digest = hashlib.sha256(json.dumps([parameters, inputs], sort_keys=True).encode())
    for path in yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]["deps"]:
        if path.endswith(".py") and not path.startswith(but):
            digest.update(Path(path).read_bytes())
    return digest.hexdigest()[:12]


def rendered(generator: StyleGenerator, seed: int, count: int, folder: Path, budget: Train, fabric: Fabric) -> Renders:
    """Renders in ``folder``, made by the first process where they are missing."""
    renders = Renders(generator, seed, count, folder)
    if fabric.is_global_zero:
        fast = budget.compile and count > MANY
        renders.render(_progress, compiled(generator).synthesize if fast else None)
    fabric.barrier()
    return renders


def _progress(items: Iterable[int], name: str) -> Iterable[int]:
    bar: Iterable[int] = tqdm(items, desc=name, unit="chunk")
    return bar
