"""How the paper's encoder is trained: the recipe of its text, and that of the code which was released with it.

They differ in a dozen ways (section 9 of the protocol facts). The text is the default, because it is what the paper's
numbers are published with and what a reader would reproduce: its L_mse and its losses on G(w) train the codes that
edits need, where the released configuration shows no loss a picture of codes alone. What the text leaves open is said
at each field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from fse.refusal import Refusal
from pipelines.parameters import Count, FeatureLayer, Fraction, Positive, Section, Seed, Weight

Steps = Annotated[int, Field(ge=0)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class Recipe(Section):
    """What decides the result of a training, apart from its data and its machine. Defaults are the paper's text.

    Attributes
    ----------
    real, synthetic : int
        Pictures of each kind in a batch, over all processes.
    epochs, iterations : int
        Section 4.2: 12 epochs of 10,000 iterations, whatever the size of the data set.
    learning_rate, lower_from : float, int
        Divided by ten after so many epochs.
    optimiser, betas : str, (float, float)
        The text names no optimiser. Adam with its usual decays, as the one that needs no further choice; the released
        code has Ranger.
    frozen_norm_from : int, optional
        Epochs after which batch normalisation stays as it is; None never.
    feature_layer : int
        K.
    receive_feature, fresh_noise : int, bool
        As :class:`fse.objective.FeatureStyleObjective`. The text has no noise drawn; the stored one is its default.
        A generator without noise (StyleGAN3) leaves ``fresh_noise`` without effect.
    ramp : int
        Iterations over which F comes in.
    scales : int
        Of Eq. (3): R, R/2, R/4, ...; 1 is plain LPIPS.
    pixel, perceptual, feature, identity, parsing : float
        Weights of Eq. (2), (3), (4), (6), (7); the last two for faces only.
    real_part : float
        Which part of the data set, from its beginning, is trained on.
    renders, renders_part : int, float
        Synthetic pictures that are rendered once, to JPEG, and which part of them is trained on; None renders new ones
        for every batch.
    """

    real: Steps = 2
    synthetic: Steps = 2
    epochs: Count = 12
    iterations: Count = 10_000
    learning_rate: Positive = 1e-4
    lower_from: Count = 10
    optimiser: Literal["adam", "ranger"] = "adam"
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    frozen_norm_from: Steps | None = None
    feature_layer: FeatureLayer = 5
    receive_feature: Literal[0, 1, 2] = 1
    fresh_noise: bool = False
    ramp: Steps = 0
    scales: Annotated[int, Field(ge=1, le=4)] = 3
    pixel: Weight = 1.0
    perceptual: Weight = 0.2
    feature: Weight = 0.01
    identity: Weight = 0.1
    parsing: Weight = 0.1
    real_part: Annotated[float, Field(gt=0, le=1)] = 1.0
    renders: Count | None = None
    renders_part: Fraction = 1.0

    @model_validator(mode="after")
    def _batch_is_not_empty(self) -> Recipe:
        if self.real + self.synthetic == 0:
            raise ValueError("a batch must have a picture: real or synthetic must be more than 0")
        return self

    @property
    def steps(self) -> int:
        return self.epochs * self.iterations


RECIPES: Mapping[str, Recipe] = {
    "paper": Recipe(),
    "released": Recipe(
        real=1,
        synthetic=1,
        optimiser="ranger",
        betas=(0.95, 0.999),
        frozen_norm_from=1,
        receive_feature=2,
        fresh_noise=True,
        ramp=10_000,
        real_part=0.9,
        renders=100_000,
        renders_part=0.9,
    ),
}


class Ablation(Section):
    """The variants of :mod:`pipelines.paper.ablate`: their budget, and how many held-out pictures measure them."""

    epochs: Count = 1
    lower_from: Count = 1
    pictures: Count = 200


class Training(Section):
    """The section ``training`` of ``paper/params.yaml``.

    Attributes
    ----------
    recipe : str
        Of :data:`RECIPES`.
    changes : dict
        Fields of the recipe that get another value.
    seed : int
        Of first weights, batches and noise.
    devices, nodes : int
        Processes on a machine, and machines. On several, start the command once a process (``torchrun``, ``srun``);
        Lightning Fabric finds the others by what those two leave in the environment.
    accumulate : int
        Micro-batches in which a process takes its share, where memory is short: see :mod:`fse.training`.
    precision : str
        The published training had single precision; bf16-mixed takes about half the time and memory.
    compile : bool
        Compile the generator.
    readers : int
        Threads that read pictures, for each process.
    validation : int
        The last pictures of the data set, which are then in no batch: the curve is drawn with them. The last state is
        what is shipped, whatever they show.
    validate_every, save_every, log_every : int
        Iterations.
    """

    recipe: Literal["paper", "released"] = "paper"
    changes: dict[str, Any] = Field(default_factory=dict)
    seed: Seed = 0
    devices: Count = 1
    nodes: Count = 1
    accumulate: Count = 1
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "64-true"] = "32-true"
    compile: bool = False
    readers: Count = 4
    validation: Count = 10
    validate_every: Count = 2_000
    save_every: Count = 1_000
    log_every: Count = 50
    ablation: Ablation = Field(default_factory=Ablation)

    @property
    def in_force(self) -> Recipe:
        """The recipe with its changes; raises Refusal as :func:`changed` does."""
        return changed(RECIPES[self.recipe], self.changes, "training.changes")

    @model_validator(mode="after")
    def _changes_fit(self) -> Training:
        _ = self.in_force
        return self


def changed(recipe: Recipe, changes: Mapping[str, Any], where: str) -> Recipe:
    """``recipe`` with other values; raises Refusal naming the field, under ``where``, that has no such value."""
    try:
        return Recipe.model_validate({**recipe.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "the recipe"
        raise Refusal(f"{where}: {name}: {first['msg']} (it is {first['input']!r}); correct it there") from error
