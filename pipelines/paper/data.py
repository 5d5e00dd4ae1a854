"""Stage: the test pictures of every domain, in the protocol's form, out of the official data sets."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from eval.contest import Places
from eval.datasets.dataset import DataSet
from eval.datasets.official import read_official
from eval.metrics.identity import FaceDescriptor, mean_descriptor
from eval.table1 import MEAN_DESCRIPTOR
from fse.pictures import list_pictures, read_picture
from fse.refusal import Refusal, exit_on_refusal
from pipelines.paper.absence import mark_absent, unmark
from pipelines.paper.domains import DOMAINS, Domain
from pipelines.paper.parameters import read_parameters
from pipelines.paper.surveyed import Surveyed

DESCRIBED = 128
"""Faces whose dlib descriptors are averaged: the common part that identity over time is measured without."""


def chosen_pictures(domain: Domain, surveyed: Surveyed, *, allow_partial: bool, limit: int | None = None) -> DataSet:
    """The test set of a domain, or its first pictures; raises Refusal where it is not here."""
    found = read_official(domain.test.set, surveyed.path(domain.test.asset), allow_partial=allow_partial)
    wanted = min((number for number in (domain.limit, limit) if number is not None), default=len(found))
    return replace(found, pictures=found.pictures[:wanted])


@exit_on_refusal
def main() -> None:
    """Write ``data/test/DOMAIN`` with its file list, and ``data/test/mean_descriptor.json``."""
    argparse.ArgumentParser(prog="python -m pipelines.paper.data", description=__doc__).parse_args()
    parameters, surveyed, places = read_parameters(), Surveyed.read(), Places()
    for name, domain in DOMAINS.items():
        folder = places.test / name
        try:
            chosen = chosen_pictures(
                domain, surveyed, allow_partial=parameters.allow_partial, limit=parameters.evaluate.limit
            )
            chosen.prepare(folder)
        except Refusal as refusal:
            mark_absent(folder, str(refusal))
            continue
        unmark(folder)
    write_mean_descriptor(places.test, parameters.assets / "dlib")


def write_mean_descriptor(test: Path, dlib: Path) -> None:
    """Of the first faces, at 256 px; nothing without faces."""
    try:
        faces = list_pictures(test / "faces")[:DESCRIBED]
    except Refusal:
        return
    batches = (torch.stack([read_picture(path, 256)]) for path in faces)
    mean_descriptor(batches, FaceDescriptor(dlib)).write(test / MEAN_DESCRIPTOR, {"pictures": len(faces)})


if __name__ == "__main__":
    main()
