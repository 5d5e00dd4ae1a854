"""Training an encoder as published (paper, section 4.2): official files and data in, a network and its curve out."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies.ddp import DDPStrategy
from torch import Tensor
from torch.utils.data import Subset
from tqdm import tqdm

from eval.datasets.official import read_official
from eval.provenance import sha256
from fse.bisenet import BiSeNet
from fse.checkpoints.checkpoint import official_network
from fse.checkpoints.network_file import write_network
from fse.checkpoints.reader import read_checkpoint
from fse.encoder import EncoderSize, FeatureStyleEncoder, MarginEncoder, MarginEncoderSize
from fse.face_losses import FaceLosses
from fse.face_recognition import ArcFace
from fse.generators.families import read_generator
from fse.generators.style_generator import HasNoise, StyleGenerator
from fse.generators.stylegan3 import StyleGAN3
from fse.losses import FeatureStyleWeights
from fse.lpips_alexnet import LPIPS
from fse.objective import FeatureStyleObjective
from fse.pictures import square_tensor
from fse.refusal import Refusal
from fse.renders import JPEGRenders
from fse.training import TrainingSettings, Validation, curve_rows, train
from fse.training_data import Pictures, RealAndSynthetic, RenderedOnTheFly, Synthetic
from fse.trunk import start_from_arcface
from pipelines.paper.domains import Domain
from pipelines.paper.recipes import Recipe, Training

SIDE = 256
"""Of the pictures that the encoder sees, in pixels, where F has the side of StyleGAN2's convolution K = 5."""

ARCFACE, PARSER, ALEXNET = "arcface_iresnet50", "bisenet", "alexnet"
GENERATORS = {"psp_ffhq": ("psp_ffhq", "stylegan2_ffhq")}
"""Where an asset's generator may be taken from, in this order: pSp's file has the official FSE's own."""


class OfficialFiles(Protocol):
    """Where an official file is: :meth:`pipelines.paper.surveyed.Surveyed.path`."""

    def __call__(self, asset: str, name: str | None = None, /) -> Path:
        """Raises Refusal, with how to get it, when it is not here."""
        ...


@dataclass(frozen=True)
class Ingredients:
    """What a training is made of, on its device.

    Attributes
    ----------
    generator : StyleGenerator
        Frozen, at the recipe's K.
    perceptual : LPIPS
        V of Eq. (3).
    faces : FaceLosses, optional
        Eq. (6) and (7), of what the recipe gives a weight.
    encoder : FeatureStyleEncoder
        At its first weights: the trunk ArcFace's, the rest PyTorch's initial ones.
    real : Pictures
        To train on.
    held_out : Pictures
        In no batch.
    files : mapping of str to Path
        Official files of networks that decide the result, by what they are.
    """

    generator: StyleGenerator
    perceptual: LPIPS
    faces: FaceLosses | None
    encoder: FeatureStyleEncoder
    real: Pictures
    held_out: Pictures
    files: Mapping[str, Path]

    @property
    def sha256(self) -> dict[str, str]:
        """Of ``files``."""
        return {name: str(sha256(path)) for name, path in self.files.items()}


def read_ingredients(
    domain: Domain, recipe: Recipe, path: OfficialFiles, seed: int, held_out: int, *, allow_partial: bool = False
) -> Ingredients:
    """Read all that a training of ``domain`` needs; the last ``held_out`` real pictures are kept out of it.

    ``seed`` is that of the weights which no official file has.

    Raises
    ------
    Refusal
        An official file is not here, is damaged, or does not fit the others; or there are too few pictures.
    """
    generator_path = _generator_path(domain, path)
    generator = read_generator(generator_path, recipe.feature_layer)
    files = {"generator": generator_path, "arcface": path(ARCFACE), "alexnet": path(ALEXNET)}
    arcface = read_checkpoint(files["arcface"])
    remedy = "obtain backbone.pth again"
    recognition = official_network(ArcFace, arcface.tensors, arcface.options, arcface.path, remedy)
    torch.manual_seed(seed)
    encoder = encoder_for(generator, recognition)
    start_from_arcface(encoder, arcface.tensors, arcface.path)
    faces = None
    if domain.faces and (recipe.identity or recipe.parsing):
        parser = None
        if recipe.parsing:
            files["bisenet"] = path(PARSER)
            checkpoint = read_checkpoint(files["bisenet"])
            remedy = "obtain 79999_iter.pth again"
            parser = official_network(BiSeNet, checkpoint.tensors, checkpoint.options, checkpoint.path, remedy)
        faces = FaceLosses(recognition if recipe.identity else None, parser)
    where = path(domain.train.asset)
    pictures = read_official(domain.train.set, where, allow_partial=allow_partial)
    count = min(int(recipe.real_part * len(pictures)), len(pictures) - held_out)
    if count < max(1, recipe.real):
        raise Refusal(
            f"{where} has {len(pictures)} pictures, of which {held_out} are held out, and that leaves too few to train "
            "on; lower training.validation and training.ablation.pictures, or complete the data set"
        )
    every: Any = pictures
    first, last = Subset(every, range(count)), Subset(every, range(len(pictures) - held_out, len(pictures)))
    return Ingredients(generator, LPIPS.load(files["alexnet"]), faces, encoder, first, last, files)


def tensor_of(pictures: Pictures, count: int, resolution: int) -> Tensor:
    """The first ``count`` pictures, (count, 3, R, R) in [-1, 1], read as those of the batches."""
    read = (pictures[index] for index in range(count))
    return torch.stack([square_tensor(image, name, resolution) for name, image in read])


def missing_files(domain: Domain, recipe: Recipe, path: OfficialFiles) -> str:
    """Which official files of a training are not here, and how to get them; "" if all are."""
    wanted = [ARCFACE, ALEXNET, *[PARSER] * (domain.faces and recipe.parsing > 0), domain.train.asset]
    reasons = []
    searches: list[Callable[[], Path]] = [partial(_generator_path, domain, path)]
    for search in searches + [partial(path, asset) for asset in wanted]:
        try:
            search()
        except Refusal as refusal:
            reasons.append(str(refusal))
    return "; ".join(reasons)


def provenance_of(recipe: Recipe, training: Training, made: Ingredients) -> dict[str, Any]:
    """What the trained network comes from, for the header of its file."""
    return {
        "parameters": {"recipe": recipe.model_dump(mode="json"), "training": training.model_dump(mode="json")},
        "inputs": made.sha256,
        "pictures": len(made.real),
    }


def _generator_path(domain: Domain, path: OfficialFiles) -> Path:
    refusals: list[Refusal] = []
    for asset in GENERATORS.get(domain.generator, (domain.generator,)):
        try:
            return path(asset)
        except Refusal as refusal:
            refusals.append(refusal)
    raise refusals[0]


def encoder_for(generator: StyleGenerator, recognition: ArcFace) -> FeatureStyleEncoder:
    """The official encoder where the generator is the official one, and else one of the same plan that fits.

    N and F's shape are the generator's, the trunk ArcFace's. The stride of the feature branch makes of the third
    stage's 32x32, for a picture of 256 px, what F has at K.

    Raises
    ------
    Refusal
        F has another side at this K than a stride of 1, 2 or 4 gives.
    """
    trunk = recognition.size.trunk
    channels, side, _ = generator.feature_shape
    common: dict[str, Any] = {"num_codes": generator.num_codes, "code_dim": generator.code_dim, "trunk": trunk}
    common |= {"feature_channels": channels, "feature_layer": generator.feature_layer}
    if isinstance(generator, StyleGAN3):
        rate = generator.size.signal(generator.feature_layer - 1).rate
        margin = (side - rate) // 2
        return MarginEncoder(MarginEncoderSize(**common, feature_stride=1, rate=rate, margin=margin))
    given = SIDE // (8 * trunk.stem_stride)
    if given % side or given // side not in (1, 2, 4):
        raise Refusal(
            f"the generator's convolution K = {generator.feature_layer} has {side} x {side} samples, and the encoder's "
            f"map of {given} x {given} cannot be brought to that; choose another training.changes.feature_layer"
        )
    return FeatureStyleEncoder(EncoderSize(**common, feature_stride=given // side))


def objective_for(recipe: Recipe, made: Ingredients) -> FeatureStyleObjective:
    """Eq. (8), or Eq. (5) where there are no losses of faces, as the recipe has it."""
    generator, encoder = made.generator, made.encoder
    resolution = generator.resolution
    # LPIPS' AlexNet has no map left below 32 px: only stand-ins are that small.
    sides = [resolution // 2**scale for scale in range(recipe.scales) if resolution // 2**scale >= 32]
    weights = FeatureStyleWeights(recipe.pixel, recipe.perceptual, recipe.feature, 0.0, recipe.identity, recipe.parsing)
    return FeatureStyleObjective(
        encoder,
        generator,
        made.perceptual,
        sides,
        weights,
        recipe.receive_feature,
        faces=made.faces,
        side=encoder.picture_side(generator.feature_shape[1]),
        fresh_noise=recipe.fresh_noise and isinstance(generator, HasNoise),
        ramp=min(1.0, recipe.ramp / recipe.steps),
    )


def settings_for(recipe: Recipe, training: Training) -> TrainingSettings:
    """The recipe's schedule, with no warm start, no average of weights, no choice of a state and no clipping."""
    return TrainingSettings(
        steps=recipe.steps,
        batch=recipe.real + recipe.synthetic,
        synthetic=recipe.synthetic / (recipe.real + recipe.synthetic),
        learning_rate=recipe.learning_rate,
        rise=1,
        drop_at=recipe.lower_from * recipe.iterations,
        fine_from=0.0,
        warm_steps=0,
        average=0.0,
        clip=None,
        optimiser=recipe.optimiser,
        betas=recipe.betas,
        freeze_norm_at=recipe.frozen_norm_from and recipe.frozen_norm_from * recipe.iterations,
        accumulate=training.accumulate,
        keep="last",
        validate_every=training.validate_every,
        save_every=training.save_every,
        log_every=training.log_every,
        seed=training.seed,
        compile=training.compile,
    )


def fabric_for(recipe: Recipe, training: Training, device: torch.device) -> Fabric:
    """Started on every process. Under torchrun or SLURM, these are the processes that they started.

    Raises
    ------
    Refusal
        Something started another number of processes than the parameters say: each would train on its own.
    """
    processes = training.devices * training.nodes
    if (started := os.environ.get("WORLD_SIZE", str(processes))) != str(processes):
        raise Refusal(
            f"{started} processes were started, and training.devices * training.nodes = {processes} in params.yaml; "
            "make them equal"
        )
    # Where both reconstructions receive F, no loss may reach the first codes.
    ddp = DDPStrategy(find_unused_parameters=recipe.receive_feature == 2, broadcast_buffers=False)
    fabric = Fabric(
        accelerator=device.type,
        devices=training.devices,
        num_nodes=training.nodes,
        precision=training.precision,
        strategy=ddp if processes > 1 else "auto",
    )
    fabric.launch()
    return fabric


@dataclass(frozen=True)
class Trained:
    """An encoder after its training.

    Attributes
    ----------
    objective : FeatureStyleObjective
        With the trained network, in evaluation mode.
    summary : dict
        Step, measures of the validation, and seconds.
    curve : list of mapping
        As :func:`fse.training.curve_rows`.
    settings : TrainingSettings
    """

    objective: FeatureStyleObjective
    summary: dict[str, Any]
    curve: list[Mapping[str, float]]
    settings: TrainingSettings


def train_encoder(made: Ingredients, recipe: Recipe, training: Training, fabric: Fabric, runs: Path) -> Trained:
    """Train ``made.encoder``, or go on where a run of the same recipe and ingredients was stopped.

    Parameters
    ----------
    fabric : Fabric
        Launched, as :func:`fabric_for` does.
    runs : Path
        Folder of states and renders; on several machines, on a file system that they share.

    Raises
    ------
    Refusal
        As :func:`fse.training.train` does.
    """
    objective = objective_for(recipe, made).to(fabric.device)  # with everything that it is made of
    settings = settings_for(recipe, training)
    resolution = made.generator.resolution
    data = RealAndSynthetic(
        made.real, synthetic_for(recipe, made, fabric, runs), resolution, fabric.device, readers=training.readers
    )
    pictures = tensor_of(made.held_out, training.validation, resolution)
    kind = torch.float64 if training.precision == "64-true" else torch.float32
    validation = Validation(pictures.to(fabric.device, kind), made.perceptual, "lpips", batch=4)
    run = runs / "train" / _key(recipe, training, made)
    summary = train(objective, made.generator, made.generator, data, validation, settings, fabric, run)
    objective.network.eval()
    return Trained(objective, summary, list(curve_rows(run)) if fabric.is_global_zero else [], settings)


def synthetic_for(recipe: Recipe, made: Ingredients, fabric: Fabric, runs: Path) -> Synthetic:
    """Renders made for each batch, or those of the recipe's fixed number, made here where they are missing."""
    if recipe.renders is None:
        return RenderedOnTheFly(made.generator)
    folder = runs / "renders" / f"{made.sha256['generator'][:12]}"
    used = max(1, int(recipe.renders_part * recipe.renders))
    renders = JPEGRenders(made.generator, folder, recipe.renders, used)
    renders.render(_progress if fabric.is_global_zero else _silent, fabric.global_rank, fabric.world_size)
    fabric.barrier()
    return renders


def _key(recipe: Recipe, training: Training, made: Ingredients) -> str:
    """Tells trainings apart, so that none goes on with another's state."""
    kept = {"seed", "precision", "accumulate", "validation"}
    options = [recipe.model_dump(mode="json"), training.model_dump(mode="json", include=kept)]
    values = [*options, made.sha256, len(made.real)]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def write_trained(trained: Trained, folder: Path, provenance: Mapping[str, Any]) -> None:
    """Write ``fse.safetensors``, ``training.csv`` (the curve) and ``training.json`` (the summary) to ``folder``."""
    network = trained.objective.network
    write_network(folder / "fse.safetensors", network, provenance)
    pd.DataFrame(trained.curve).to_csv(folder / "training.csv", index=False, float_format="%.6g")
    summary = {key: round(value, 5) for key, value in trained.summary.items()}
    summary["generator_passes_per_step"] = summary.pop("renders_per_picture")
    summary |= {"parameters": sum(parameter.numel() for parameter in network.parameters())}
    summary |= {"steps": trained.settings.steps, "batch": trained.settings.batch}
    (folder / "training.json").write_text(json.dumps(summary, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _progress(items: Iterable[int], name: str) -> Iterable[int]:
    bar: Iterable[int] = tqdm(items, desc=name, unit="picture")
    return bar


def _silent(items: Iterable[int], name: str) -> Iterable[int]:
    return items
