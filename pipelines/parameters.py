"""``params.yaml``, checked: every stage reads its parameters here and fails early on a wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fse.refusal import Refusal

Count = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
FeatureLayer = Annotated[int, Field(ge=1, le=9)]  # nine convolutions lead to 128 px
Sides = Annotated[tuple[Annotated[int, Field(ge=32)], ...], Field(min_length=1)]
# Below 16 channels, PyTorch's 1x1 convolutions of stride 2 write past their memory on CPUs in the gradient
# (channels-last; https://github.com/uxlfoundation/oneDNN/issues/6035).
Width = Annotated[int, Field(ge=16)]


Model = TypeVar("Model", bound=BaseModel)


class Section(BaseModel):
    """A section of the file: unknown names are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Head(Section):
    """Picture heads, :mod:`fse.generators.picture_head_fit`."""

    seed: Seed
    count: Count
    test_seed: Seed
    test_count: Count
    steps: Count
    batch: Count
    learning_rate: Positive


class Data(Section):
    """Test sets, :mod:`pipelines.data`."""

    renders_seed: Seed
    renders: Count
    mean_descriptor_seed: Seed
    mean_descriptor_count: Count


class Train(Section):
    """Budget and schedule, :class:`fse.training.TrainingSettings`."""

    seed: Seed
    renders: Count
    renders_seed: Seed
    validation: Count
    validation_seed: Seed
    warm_steps: Annotated[int, Field(ge=0)]
    warm_batch: Count
    warm_learning_rate: Positive
    steps: Count
    batch: Annotated[int, Field(ge=4, multiple_of=4)]
    learning_rate: Positive
    rise: Count
    fine_from: Fraction
    average: Annotated[float, Field(ge=0, lt=1)]
    validate_every: Count
    save_every: Count
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    accelerator: Literal["auto", "cpu", "cuda", "mps"]
    devices: Count
    compile: bool

    @model_validator(mode="after")
    def _batches_can_be_made(self) -> Train:
        if self.renders < max(self.batch, self.warm_batch):
            raise ValueError("train.renders must be at least train.batch and train.warm_batch")
        if self.batch % (2 * self.devices) or self.warm_batch % self.devices:
            raise ValueError("train.batch must be a multiple of 2 * train.devices, train.warm_batch of train.devices")
        return self


class Encoder(Section):
    """The shared trunk, :class:`fse.trunk.TrunkSize`."""

    widths: tuple[Width, Width, Width, Width]
    depths: tuple[Count, Count, Count, Count]
    stem_width: Width
    stem_stride: Literal[1, 2]


class Pyramid(Section):
    """The heads of pSp's family, :class:`baselines.psp.PyramidSize`."""

    head_width: Count


class FSE(Section):
    """The Feature-Style Encoder and the weights of Eq. (5)."""

    feature_layer: FeatureLayer
    pooling: Count
    feature_stride: Literal[1, 2]
    pixel: Weight
    perceptual: Weight
    perceptual_sides: Sides
    feature: Weight
    pixel_feature: Weight


class Codes(Section):
    """Loss weights that every code-predicting baseline has."""

    pixel: Weight
    perceptual: Weight
    perceptual_sides: Sides


class Longer(Section):
    """What the longer trainings have of their own, with the steps of each; the rest is as in the contest."""

    seed: Seed
    learning_rate: Positive
    fse_long: Count
    hfgi_long: Count


class PSP(Codes):
    """The pSp baseline."""


class E4E(Codes):
    """The e4e baseline."""

    delta: Weight
    adversarial: Weight


class ReStylePSP(Codes):
    """ReStyle on pSp: iterations in training, each with its backward pass, and at inversion."""

    passes: Count
    iterations: Count


class ReStyleE4E(E4E, ReStylePSP):
    """ReStyle on e4e."""


class HFGI(Codes):
    """HFGI: consultation and alignment at ``side`` pixels, on the trained e4e."""

    feature_layer: FeatureLayer
    side: Annotated[int, Field(ge=64, le=256, multiple_of=8)]
    condition_width: Count
    align: Weight


class InDomain(Codes):
    """The in-domain encoder."""

    channels_base: Width
    channels_max: Width
    adversarial: Weight


class Variant(BaseModel):
    """What a variant of FSE changes: parameters of `fse`, `encoder` or `train`, and two of its own."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    synthetic: Fraction = 0.5  # fse.training.TrainingSettings
    receive_feature: Literal[0, 1, 2] = 1  # fse.objective.FeatureStyleObjective

    @property
    def changes(self) -> dict[str, Any]:
        """Parameters of other sections, by name."""
        return dict(self.model_extra or {})


class Ablation(Section):
    """The ablations of FSE, :mod:`pipelines.ablate`."""

    steps: Count
    warm_steps: Annotated[int, Field(ge=0)]
    seed: Seed
    pictures: Count
    variants: Annotated[dict[str, Variant], Field(min_length=1)]


class Evaluate(Section):
    """Inversion and measurement of the test sets."""

    batch: Count
    limit: Count | None
    subset: dict[str, Count]


class EvaluateClips(Section):
    """Inversion and measurement of the clips, :mod:`eval.table2`."""

    batch: Count
    clips: Count | None
    frames: Annotated[int, Field(ge=3)] | None  # second differences take three
    subset: dict[str, Count]


class Speed(Section):
    """How much :mod:`eval.speed` times."""

    batch: Count
    repeats: Annotated[int, Field(ge=2)]
    seconds: Positive
    frames: Count


class Directions(Section):
    """Editing directions, :mod:`pipelines.directions`."""

    seed: Seed
    count: Count
    fraction: Annotated[float, Field(gt=0, le=0.5)]
    train: Annotated[float, Field(gt=0, lt=1)]
    cost: Positive
    svm_seed: Seed
    least_effect: Weight
    batch: Count
    components: Count
    effect_seed: Seed
    effect_pictures: Count
    effect_strength: Positive


class Editing(Section):
    """Edits and their measurement, :mod:`eval.edit_measurement`."""

    pictures: Annotated[dict[str, Count], Field(min_length=1)]
    directions: Annotated[tuple[str, ...], Field(min_length=1)]
    strengths: Annotated[tuple[float, ...], Field(min_length=1)]
    change: Positive
    consistency_strength: float
    shown: Count
    pairs: Count
    left_out: tuple[str, ...]
    batch: Count
    shown_strength: Positive

    @model_validator(mode="after")
    def _strengths_move(self) -> Editing:
        if 0 in self.strengths or self.consistency_strength == 0 or len(set(self.strengths)) < len(self.strengths):
            raise ValueError("editing.strengths must differ from each other, and they and consistency_strength from 0")
        return self


class Clips(Section):
    """Talking faces, :mod:`pipelines.clips`."""

    seed: Seed
    count: Annotated[int, Field(gt=0, le=100)]  # names have two digits
    frames: Annotated[int, Field(gt=1, le=1000)]
    rate: Count


class Parameters(BaseModel):
    """The whole file. Sections of other commands (``tolerance``) are theirs to check."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    head: Head
    data: Data
    train: Train
    encoder: Encoder
    pyramid: Pyramid
    fse: FSE
    longer: Longer
    psp: PSP
    e4e: E4E
    restyle_psp: ReStylePSP
    restyle_e4e: ReStyleE4E
    hfgi: HFGI
    idinvert: InDomain
    ablation: Ablation
    evaluate: Evaluate
    evaluate_clips: EvaluateClips
    speed: Speed
    directions: Directions
    clips: Clips
    editing: Editing

    @model_validator(mode="after")
    def _pictures_are_held_out(self) -> Parameters:
        seeds = {
            "data.renders_seed": self.data.renders_seed,
            "data.mean_descriptor_seed": self.data.mean_descriptor_seed,
            "train.renders_seed": self.train.renders_seed,
            "train.validation_seed": self.train.validation_seed,
            "ablation.seed": self.ablation.seed,
            "directions.seed": self.directions.seed,
            "directions.effect_seed": self.directions.effect_seed,
            "clips.seed": self.clips.seed,
        }
        if len(set(seeds.values())) < len(seeds):
            raise ValueError(f"{', '.join(seeds)} must differ, or pictures are judged that were trained on")
        return self


def read_parameters(path: Path = Path("params.yaml")) -> Parameters:
    """The file of the embedded profile; raises Refusal as :func:`read_checked` does."""
    return read_checked(path, Parameters)


def read_checked(path: Path, model: type[Model]) -> Model:
    """Read a file of parameters and check it.

    Raises
    ------
    Refusal
        Naming the first wrong parameter as ``section.name``, what is wrong with it, and what it was.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise Refusal(
            f"{path} is missing; run from the project's root, or restore it with `git checkout -- {path}`"
        ) from error
    except yaml.YAMLError as error:
        raise Refusal(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "value_error":  # one of those above, which name their parameters
            raise Refusal(f"{path}: {first['ctx']['error']}; correct it there") from error
        name = ".".join(str(part) for part in first["loc"]) or "the file"
        shown = "" if first["type"] == "missing" else f" (it is {first['input']!r})"
        raise Refusal(f"{path}: {name}: {first['msg']}{shown}; correct it there") from error
