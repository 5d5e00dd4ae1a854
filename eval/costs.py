"""What each method cost, so that "an equal budget" can be judged by steps, by time and by the generator's work.

Read from ``reports/training/METHOD.json``, which the training writes; a method that optimises each picture has none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.tables import ABSENT, TextTable
from fse.refusal import Refusal

TRAINED_AS = {
    "fse_w": "fse",
    "fse_long_w": "fse_long",
    "fse_trained_w": "fse_faces",
    "fse_trained": "fse_faces",
}
"""Rows that are another reconstruction by the network of the same training."""


@dataclass(frozen=True)
class Cost:
    """Of a training; None where it was not recorded.

    Attributes
    ----------
    parameters : int
        Of the trained network.
    seconds : float
        On this machine, over all sittings, validations included.
    warm_steps, steps, batch : int
        Steps of the warm start, ordinary steps, and pictures of an ordinary step.
    passes : int
        Forward and backward passes of an ordinary step (ReStyle: an iteration each).
    generator_passes_per_step : float
        Pictures that the generator made in an ordinary step, over the batch; all but HFGI's G(w) with a gradient.
    """

    parameters: int | None = None
    seconds: float | None = None
    warm_steps: int | None = None
    steps: int | None = None
    batch: int | None = None
    passes: int | None = None
    generator_passes_per_step: float | None = None

    @property
    def generated(self) -> float | None:
        """Passes of the generator, a picture each, in the whole training."""
        factors = self.generator_passes_per_step, self.steps, self.batch
        return None if None in factors else float(factors[0] * factors[1] * factors[2])  # type: ignore[operator]


def read_costs(folder: Path, methods: Iterable[str]) -> dict[str, Cost]:
    """METHOD -> what its training cost, from ``folder/METHOD.json``; every field None without that file."""
    return {method: _read(folder / f"{TRAINED_AS.get(method, method)}.json") for method in methods}


def _read(path: Path) -> Cost:
    if not path.is_file():
        return Cost()
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Cost(**{name: values.get(name) for name in Cost.__dataclass_fields__})
    except (ValueError, AttributeError) as error:
        raise Refusal(f"{path} cannot be read ({error}): train the method again, or restore it") from error


def costs_table(costs: Mapping[str, Cost], labels: Mapping[str, str]) -> TextTable:
    """A row a method."""

    def row(method: str, cost: Cost) -> list[str]:
        steps = None if cost.steps is None else f"{cost.warm_steps or 0} + {cost.steps}"
        return [
            labels.get(method, method),
            _scaled(cost.parameters, 1e6, 2),
            _scaled(cost.seconds, 60, 0),
            steps or ABSENT,
            _scaled(cost.batch, 1, 0),
            _scaled(cost.passes, 1, 0),
            _scaled(cost.generator_passes_per_step, 1, 2),
            _scaled(cost.generated, 1e3, 1),
        ]

    headings = ["Method", "Weights", "Minutes", "Steps", "Batch", "Passes", "G each", "G in all"]
    notes = [
        "Weights: parameters that are trained, in millions. The training: minutes on the machine of the provenance, "
        "warm and ordinary steps, pictures an ordinary step, forward and backward passes of the method in it; and "
        "those of the generator G, for each picture and, in thousands, in all. A method that optimises every picture "
        "has no training.",
    ]
    if "hfgi" in costs:
        notes.append(f"{labels.get('hfgi', 'HFGI')} starts from the trained e4e, whose cost comes on top of its own.")
    for longer, first in {"hfgi_long": "hfgi", "fse_long": "fse"}.items():
        if longer in costs:
            start = labels.get(first, first)
            notes.append(f"{labels.get(longer, longer)} starts from the trained {start}, whose cost comes on top.")
    return TextTable("costs", "What the methods cost", headings, [row(*each) for each in costs.items()], notes)


def as_json(costs: Mapping[str, Cost]) -> dict[str, dict[str, Any]]:
    return {method: asdict(cost) | {"generator_passes": cost.generated} for method, cost in costs.items()}


def _scaled(value: float | None, unit: float, decimals: int) -> str:
    return ABSENT if value is None else f"{value / unit:.{decimals}f}"
