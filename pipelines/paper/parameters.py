"""``paper/params.yaml``, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipelines.paper.recipes import Training
from pipelines.parameters import Count, Section, Seed, read_checked


class Evaluate(Section):
    """Inversion and measurement of the test sets."""

    batch: Count
    limit: Count | None
    processes: Count
    fewest: Annotated[int, Field(ge=3)]


class References(Section):
    """Sets that FID is taken to besides the sources: how many pictures of each, the first ones; 0 for none."""

    ffhq: Annotated[int, Field(ge=0)]
    celeba_hq_test: Annotated[int, Field(ge=0)]


class Noise(Section):
    """How many pictures, under how many draws of the generator's noise."""

    pictures: Count
    draws: Annotated[int, Field(ge=2)]


class Clips(Section):
    """RAVDESS: how many clips are drawn, by which seed, and how many frames of each at most."""

    count: Count
    seed: Seed
    frames: Annotated[int, Field(ge=3)]
    batch: Count


class Directions(Section):
    """InterFaceGAN on the codes of the first pictures of CelebA-HQ, by CelebA's attributes."""

    pictures: Count
    attributes: Annotated[dict[str, str], Field(min_length=1)]
    train: Annotated[float, Field(gt=0, lt=1)]
    cost: Annotated[float, Field(gt=0)]
    seed: Seed
    batch: Count


class Editing(Section):
    """Edits of the first test pictures."""

    pictures: Count
    strengths: Annotated[tuple[float, ...], Field(min_length=1)]
    batch: Count


class PaperParameters(Section):
    """The whole file.

    Attributes
    ----------
    code : Path
        This project, on whose files the stages depend.
    official, assets : Path
        Official files, and what the embedded profile's ``python -m pipelines.assets`` made: the landmarks of dlib.
    device : str
        Where everything runs.
    allow_partial : bool
        Whether data sets count as here that have some of their pictures; tables then say PARTIAL.
    training : Training
        See :mod:`pipelines.paper.recipes`.
    """

    code: Path
    official: Path
    assets: Path
    device: str
    allow_partial: bool
    training: Training
    references: References
    evaluate: Evaluate
    noise: Noise
    clips: Clips
    directions: Directions
    editing: Editing


def read_parameters(path: Path = Path("params.yaml")) -> PaperParameters:
    """The file in the folder that the pipeline runs in; raises Refusal as ``read_checked`` does."""
    return read_checked(path, PaperParameters)
