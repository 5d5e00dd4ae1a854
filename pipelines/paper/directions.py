"""Stage: editing directions by InterFaceGAN, on each method's own codes of CelebA-HQ by CelebA's labels (section 5.2).

Directions that are measured have the name of an attribute of :data:`eval.attributes.ATTRIBUTES`; others, such as
eyeglasses, are for the command line. Codes and measured attributes are kept under ``runs``, so that a run that was
stopped goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eval.attributes import ATTRIBUTES, AttributeMeter
from eval.contest import SHARED_CODES, Places
from eval.datasets.celeba_hq import Attributes, read_attributes
from eval.datasets.dataset import DataSet
from eval.datasets.official import read_official
from fse.alignment import FaceAligner
from fse.allocator import keep_freed_memory
from fse.device import usable_device
from fse.directions import Direction, interfacegan, scaled, write_directions
from fse.inverter import CodeEncoder
from fse.losses import reduce
from fse.refusal import Refusal, exit_on_refusal
from pipelines.directions import in_chunks, measured
from pipelines.paper.absence import mark_absent, reason_of, unmark
from pipelines.paper.domains import DOMAINS
from pipelines.paper.parameters import Directions, PaperParameters, read_parameters
from pipelines.paper.profile import PaperProfile
from pipelines.paper.surveyed import Surveyed

ENCODED = tuple(row for row in DOMAINS["faces"].rows if row != "idinvert" and row not in SHARED_CODES)
"""Rows with codes of their own in one or a few passes; the in-domain method optimises, which takes days."""


def pictures_of(dataset: DataSet, places: range) -> Tensor:
    """(B, 3, H, W) in [-1, 1]."""
    return torch.stack([dataset.tensor(place)[1] for place in places])


def found_for(
    codes: Tensor, labels: Attributes, deviations: Mapping[str, float], row: str, settings: Directions
) -> tuple[list[Direction], dict[str, Any]]:
    """A direction for each attribute that has enough pictures with and without it, and what is known of each."""
    directions: list[Direction] = []
    known: dict[str, Any] = {}
    for name, attribute in settings.attributes.items():
        scores = labels.of(attribute.removeprefix("-")).astype(np.float64)
        if attribute.startswith("-"):
            scores = 1 - scores
        share = min(scores.mean(), 1 - scores.mean())  # labels have no degrees: all of the rarer kind, as many others
        try:
            boundary = interfacegan(
                codes, scores, fraction=share, train=settings.train, cost=settings.cost, seed=settings.seed
            )
        except ValueError as error:
            known[name] = {"attribute": attribute, "reason": str(error)}
            continue
        source: dict[str, Any] = {"method": "InterFaceGAN", "codes": row, "attribute": attribute}
        source |= {"svm_seed": settings.seed, "attributes_standard_deviations": dict(deviations)}
        known[name] = source | boundary.accuracies()
        directions.append(scaled(name, boundary.normal, codes, known[name]))
    return directions, known


class Encoding:
    """The first pictures of CelebA-HQ as each row encodes them."""

    def __init__(self, parameters: PaperParameters, surveyed: Surveyed, runs: Path) -> None:
        self.parameters, self.surveyed, self.runs = parameters, surveyed, runs
        asset = surveyed.path(DOMAINS["faces"].test.asset)
        whole = read_official("celeba_hq_10000", asset, allow_partial=parameters.allow_partial)
        self.dataset = replace(whole, pictures=whole.pictures[: parameters.directions.pictures])
        self.labels = read_attributes(self.dataset)

    def attributes(self) -> NDArray[np.float32]:
        """(pictures, attributes), measured at 256 px; NaN where one cannot be measured."""
        meter = AttributeMeter(FaceAligner(self.parameters.assets / "dlib/shape_predictor_68_face_landmarks.dat"))
        return in_chunks(
            self.runs / f"attributes-{len(self.dataset)}",
            len(self.dataset),
            lambda places: measured(reduce(pictures_of(self.dataset, places), 256), meter),
            "measuring attributes",
        )

    def codes(self, row: str) -> Tensor:
        """(pictures, N, 512)."""
        device = usable_device(self.parameters.device)
        profile = PaperProfile.of("faces", self.parameters.assets, device, self.surveyed)
        method = profile.method(row)
        read = method.codes if isinstance(method, CodeEncoder) else lambda pictures: method.invert(pictures).codes

        def encode(places: range) -> NDArray[np.float32]:
            parts = pictures_of(self.dataset, places).split(self.parameters.directions.batch)
            return torch.cat([read(part.to(device)) for part in parts]).cpu().numpy()

        digest = "-".join(path.stem for path in profile.weights_of(row))
        return torch.from_numpy(in_chunks(self.runs / f"{row}-{digest}", len(self.dataset), encode, f"codes of {row}"))


@exit_on_refusal
def main() -> None:
    """Write ``directions/ROW.safetensors`` and ``directions/accuracies.json``."""
    argparse.ArgumentParser(prog="python -m pipelines.paper.directions", description=__doc__).parse_args()
    keep_freed_memory()
    parameters, surveyed, places = read_parameters(), Surveyed.read(), Places()
    places.directions.mkdir(exist_ok=True)
    rows = [row for row in ENCODED if reason_of(places.inversions / row / "faces") is None]
    try:
        if not rows:
            raise Refusal("no method can encode pictures; see the rows of Table 1")
        encoding = Encoding(parameters, surveyed, Path("runs/directions"))
    except Refusal as refusal:
        mark_absent(places.directions, str(refusal))
        return
    unmark(places.directions)
    values = encoding.attributes().astype(np.float64)
    columns = {key: values[np.isfinite(values[:, place]), place] for place, key in enumerate(ATTRIBUTES)}
    deviations = {key: float(f"{column.std():.6g}") for key, column in columns.items() if column.size > 1}
    known = {}
    for row in rows:
        directions, known[row] = found_for(encoding.codes(row), encoding.labels, deviations, row, parameters.directions)
        if directions:
            write_directions(places.directions / f"{row}.safetensors", directions)
    text = json.dumps(known, indent=1, sort_keys=True) + "\n"
    (places.directions / "accuracies.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
