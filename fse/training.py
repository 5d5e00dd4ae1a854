"""One training loop for FSE and every trainable baseline (paper, section 4), on Lightning Fabric.

The batch of step t is a function of (seed, t) alone, and so is all else that is drawn in it. So a run that was killed
continues the same curve from its last state without storing a data loader or a random state, and processes share out
the batch that one would have had: their losses and weights are the same but for the order of sums. Gradient
accumulation shares it out in the same way, over time; batch normalisation, which is taken over all processes
(:mod:`fse.synchronised_norm`), then sees a micro-batch only. That is the one thing in which accumulation is another
training, for as long as batch normalisation is in training mode.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from dvclive.live import Live
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.utils import save_image
from tqdm import tqdm

from fse.generators.style_generator import HasNoise, StyleGenerator
from fse.losses import PerceptualDistance, single
from fse.objective import Batch, Estimate, Objective, Terms
from fse.ranger import Ranger
from fse.refusal import Refusal
from fse.synchronised_norm import synchronise
from fse.training_data import Share, TrainingData

Call = Callable[..., Tensor]
Stateful = nn.Module | torch.optim.Optimizer


@dataclass(frozen=True)
class TrainingSettings:
    """The budget and schedule of a training; the same for every method of a comparison.

    Attributes
    ----------
    steps : int
        Ordinary steps, after the warm start.
    batch : int
        Pictures a step over all processes: synthetic ones, then others (real, or renders pushed off the manifold).
    synthetic : float
        Fraction of the batch that is synthetic; half in the paper.
    learning_rate : float
        After a linear rise over ``rise`` steps; a cosine takes it to a hundredth of it.
    rise : int
        See ``learning_rate``; in the warm start too.
    drop_at : int, optional
        The ordinary step from which the learning rate is a tenth, in the place of the cosine.
    optimiser, betas : str, tuple of float
        Adam, or :class:`~fse.ranger.Ranger`, and its two decays.
    clip : float, optional
        Largest norm of a step's gradient.
    freeze_norm_at : int, optional
        The ordinary step from which the network is in evaluation mode, so that batch normalisation changes no more.
    accumulate : int
        Micro-batches in which a process takes its share of a batch, one after the other.
    fine_from : float
        Fraction of the steps after which losses are taken at the full resolution; before, at the coarse one.
    warm_steps, warm_batch, warm_learning_rate : int, int, float
        The warm start, on synthetic pictures only; 0 steps leave it out.
    average : float
        Decay of the running average of the weights, which is what is validated and shipped.
    keep : {"best", "last"}
        Which validated state is shipped.
    validate_every, save_every, log_every : int
        Steps between validations, between states that a killed run resumes from, and between rows of the log.
    seed : int
        Of everything random in the training.
    compile : bool
        Compile networks with torch.compile where a C++ compiler is there.
    """

    steps: int
    batch: int = 8
    learning_rate: float = 5e-4
    rise: int = 30
    fine_from: float = 0.7
    warm_steps: int = 300
    warm_batch: int = 16
    warm_learning_rate: float = 1e-3
    average: float = 0.98
    validate_every: int = 50
    save_every: int = 25
    seed: int = 0
    compile: bool = True
    synthetic: float = 0.5
    drop_at: int | None = None
    optimiser: Literal["adam", "ranger"] = "adam"
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float | None = 1.0
    freeze_norm_at: int | None = None
    accumulate: int = 1
    keep: Literal["best", "last"] = "best"
    log_every: int = 1

    @property
    def total(self) -> int:
        """Steps of the warm start and ordinary ones."""
        return self.warm_steps + self.steps

    def rate(self, step: int) -> float:
        """Learning rate of a step (0-based, warm start first)."""
        warm = step < self.warm_steps
        peak, length = (self.warm_learning_rate, self.warm_steps) if warm else (self.learning_rate, self.steps)
        at = step if warm else step - self.warm_steps
        rise = min(1.0, (at + 1) / self.rise)
        if self.drop_at is not None and not warm:
            return peak * rise * (1.0 if at < self.drop_at else 0.1)
        cosine = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * at / max(1, length)))
        return peak * cosine * rise

    def is_fine(self, step: int) -> bool:
        """Whether the losses of a step are taken at the full resolution."""
        return step - self.warm_steps >= self.fine_from * self.steps

    def is_norm_frozen(self, step: int) -> bool:
        """Whether batch normalisation changes no more."""
        return self.freeze_norm_at is not None and step - self.warm_steps >= self.freeze_norm_at

    def share(self, step: int, index: int = 0, count: int = 1) -> Share:
        """Share ``index`` of ``count`` of a step's batch."""
        warm = step < self.warm_steps
        total = self.warm_batch if warm else self.batch
        synthetic = total if warm else round(total * self.synthetic)
        return Share(self.seed, step, synthetic, total - synthetic, index, count)


@dataclass(frozen=True)
class Validation:
    """Held-out pictures (n, 3, R, R), with the perceptual network that judges them.

    ``name`` is the network's in the log, and ``batch`` how many pictures are reconstructed at a time.
    """

    pictures: Tensor
    perceptual: PerceptualDistance
    name: str = "st_lpips"
    batch: int = 8

    @torch.no_grad()
    def measure(self, objective: Objective) -> tuple[dict[str, float], Tensor]:
        """PSNR and perceptual distance of each reconstruction, their score, and a grid of sources and reconstructions.

        ``score`` = MSE + 0.2 times that distance of the method's own result, the weights of Eq. (5); lower is better.
        """
        sums: dict[str, float] = {}
        rows: list[Tensor] = []
        for pictures in self.pictures.split(self.batch):
            reconstructions = objective.reconstructions(pictures)
            for name, picture in reconstructions.items():
                picture = picture.clamp(-1, 1)
                mse = (picture - pictures).square().mean((1, 2, 3))
                lpips = self.perceptual(picture, pictures)
                values = {"psnr": -10 * torch.log10(mse / 4), self.name: lpips}
                values["score"] = mse + 0.2 * lpips
                for key, value in values.items():
                    sums[f"{key}_{name}"] = sums.get(f"{key}_{name}", 0.0) + value.sum().item()
            if not rows:
                rows = [pictures, *(picture.clamp(-1, 1) for picture in reconstructions.values())]
        means = {key: value / len(self.pictures) for key, value in sums.items()}
        means["score"] = means[f"score_{name}"]
        return {key: value for key, value in means.items() if not key.startswith("score_")}, torch.cat(rows)


def batch_at(data: TrainingData, settings: TrainingSettings, step: int, fabric: Fabric, part: int = 0) -> Batch:
    """This process's share of the batch of a step, or its micro-batch ``part``; see :class:`TrainingSettings`."""
    index, count = fabric.global_rank * settings.accumulate + part, fabric.world_size * settings.accumulate
    share = settings.share(step, index, count)
    pictures, codes = data.batch(share)
    pictures = pictures.to(fabric.device, memory_format=torch.channels_last)
    progress = max(0, step - settings.warm_steps) / settings.steps
    return Batch(pictures, codes.to(fabric.device), progress, share.seeds)


def train(
    objective: Objective,
    coarse: StyleGenerator,
    fine: StyleGenerator,
    data: TrainingData,
    validation: Validation,
    settings: TrainingSettings,
    fabric: Fabric,
    folder: Path,
) -> dict[str, Any]:
    """Train ``objective.network`` and leave in it the average weights that validated best.

    Parameters
    ----------
    objective : Objective
        An nn.Module; trained on ``fabric``'s device.
    coarse, fine : StyleGenerator
        Generators whose pictures the losses see before and after ``settings.fine_from``.
    data : TrainingData
        Training pictures.
    validation : Validation
        Pictures that are in no training batch.
    settings : TrainingSettings
        Budget and schedule.
    fabric : Fabric
        Device, precision, number of processes. Several machines need ``folder`` on a file system that they share.
    folder : Path
        Keeps ``last.pt`` and ``best.pt`` (states), DVCLive's logs and sample grids. A run whose ``last.pt``
        is there continues it.

    Returns
    -------
    dict
        ``step`` (of the best validation), its measures, ``seconds`` of training over all sittings, and
        ``renders_per_picture``: how many pictures the generator made for each that was trained on.

    Raises
    ------
    Refusal
        When ``last.pt`` is damaged or belongs to another training, the loss is no longer finite, or a batch cannot be
        shared out evenly.
    """
    _check_shares(objective, settings, fabric)
    if fabric.world_size > 1:
        synchronise(objective.network)
    module, parameters = _module(objective), list(objective.network.parameters())
    kind = {"adam": torch.optim.Adam, "ranger": Ranger}[settings.optimiser]
    optimiser = kind(parameters, settings.learning_rate, settings.betas)
    wrapped, optimiser = fabric.setup(module, optimiser)
    critic = _Adversary.of(objective, fabric)
    average = AveragedModel(objective.network, multi_avg_fn=get_ema_multi_avg_fn(settings.average), use_buffers=True)
    folder.mkdir(parents=True, exist_ok=True)
    stateful = {"network": objective.network, "average": average, "optimiser": optimiser}
    state = _State({**stateful, **(critic.parts if critic else {})}, settings)
    state.resume(folder / "last.pt")
    if state.step == 0 and fabric.is_global_zero:
        (folder / "best.pt").unlink(missing_ok=True)  # of an earlier training
    if settings.compile:
        coarse, fine = compiled(coarse), compiled(fine)

    def counted(generator: StyleGenerator) -> StyleGenerator:
        def synthesize(codes: Tensor, feature: Tensor | None = None, **noise: Any) -> Tensor:
            state.rendered += len(codes)
            return generator.synthesize(codes, feature, **noise)

        return _Called(generator, synthesize, generator.feature)

    coarse, fine = counted(coarse), counted(fine)

    live = _live(folder / "live", state.step) if fabric.is_global_zero else None
    started = time.monotonic() - state.seconds
    steps = range(state.step, settings.total)
    silent = not fabric.is_global_zero
    bar = tqdm(steps, "training", settings.total, initial=state.step, unit="step", disable=silent)
    try:
        for step in bar:
            for group in optimiser.param_groups:
                group["lr"] = settings.rate(step)
            generator = None if step < settings.warm_steps else fine if settings.is_fine(step) else coarse
            objective.network.train(not settings.is_norm_frozen(step))
            parts: list[Terms] = []
            for part in range(settings.accumulate):
                batch, estimate = batch_at(data, settings, step, fabric, part), None
                # Processes tell each other their gradients once a step, with the last micro-batch.
                alone = fabric.world_size > 1 and part + 1 < settings.accumulate
                with fabric.no_backward_sync(wrapped, enabled=alone):
                    for _ in range(objective.passes if generator else 1):
                        terms, estimate = wrapped(batch, generator, estimate)
                        fabric.backward(terms["loss"] / settings.accumulate)
                parts.append({name: term.detach() for name, term in terms.items()})
            terms = _mean(parts, fabric)
            if settings.clip is not None:
                fabric.clip_gradients(wrapped, optimiser, max_norm=settings.clip)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            average.update_parameters(objective.network)
            if critic and estimate is not None:
                terms = {**terms, **critic.step(batch, estimate)}
            state.step, state.seconds = step + 1, time.monotonic() - started

            last = state.step == settings.total
            saved = state.step % settings.save_every == 0 or last
            logs: dict[str, float] = {}
            # Reading a number off a GPU waits for it; but no state is kept that may not be finite.
            if saved or state.step % settings.log_every == 0:
                logs = {f"train/{name}": value.item() for name, value in terms.items()}
                logs |= {"train/learning_rate": settings.rate(step), "seconds": state.seconds}
                bar.set_postfix_str(f"loss {logs['train/loss']:.4f}")
            if not math.isfinite(logs.get("train/loss", 0)):
                raise Refusal(f"the loss of step {step} is not finite; lower train.learning_rate and delete {folder}")
            if state.step % settings.validate_every == 0 or last:
                with _averaged(objective.network, average), fabric.autocast():
                    measures, grid = validation.measure(objective)
                logs |= {f"validation/{name}": value for name, value in measures.items()}
                if fabric.is_global_zero:
                    path = folder / "samples" / f"{state.step:06}.png"
                    path.parent.mkdir(exist_ok=True)
                    columns = min(8, len(validation.pictures))
                    save_image(grid.float(), path, nrow=columns, value_range=(-1, 1), normalize=True)
                better = settings.keep == "last" or measures["score"] < state.best.get("score", math.inf)
                if step >= settings.warm_steps and better:
                    state.best = {"step": state.step, **measures}
                    if fabric.is_global_zero:
                        _save({"network": average.module.state_dict(), "best": state.best}, folder / "best.pt")
            if live is not None and logs:
                live.step = step
                for name, value in logs.items():
                    live.log_metric(name, value)
                live.next_step()
            if fabric.is_global_zero and saved:
                state.save(folder / "last.pt")
    finally:
        bar.close()
        if live is not None:
            live.end()
    fabric.barrier()
    best = torch.load(folder / "best.pt", map_location="cpu", weights_only=True)
    objective.network.load_state_dict(best["network"])
    objective.network.eval()
    seen = settings.steps * settings.batch / fabric.world_size
    return {**best["best"], "seconds": state.seconds, "renders_per_picture": state.rendered / max(1, seen)}


def _check_shares(objective: Objective, settings: TrainingSettings, fabric: Fabric) -> None:
    count = fabric.world_size * settings.accumulate
    for step in {0, settings.warm_steps}:
        whole = settings.share(step)
        if whole.synthetic % count or whole.others % count:
            raise Refusal(
                f"a batch of {whole.synthetic} synthetic and {whole.others} other pictures cannot be shared out evenly "
                f"to {fabric.world_size} processes with {settings.accumulate} micro-batches each; choose fewer, or a "
                "larger batch"
            )
    if settings.accumulate > 1 and objective.critic is not None:
        raise Refusal("a method with a critic is not trained with accumulated gradients; set accumulate to 1")


def _mean(parts: Sequence[Terms], fabric: Fabric) -> Terms:
    """Terms averaged over micro-batches and processes, which are all of one size."""
    if len(parts) == fabric.world_size == 1:
        return parts[0]
    rows = torch.stack([torch.stack([single(part[name]) for name in parts[0]]) for part in parts])
    means = fabric.all_reduce(rows.mean(0), reduce_op="mean")
    return dict(zip(parts[0], means, strict=True))


class _Adversary:
    """A critic and its optimiser: it learns on the estimates of the step that was just made."""

    def __init__(self, critic: nn.Module, learning_rate: float, fabric: Fabric) -> None:
        self.critic, self.fabric = critic.requires_grad_(True), fabric
        optimiser = torch.optim.Adam(critic.parameters(), learning_rate, (0.0, 0.99))
        self.wrapped, self.optimiser = fabric.setup(critic, optimiser)
        critic.requires_grad_(False)
        self.parts: dict[str, Stateful] = {"critic": critic, "critic_optimiser": self.optimiser}

    @classmethod
    def of(cls, objective: Objective, fabric: Fabric) -> _Adversary | None:
        critic = objective.critic
        if critic is None:
            return None
        if not isinstance(critic, nn.Module):
            raise TypeError("a critic must be an nn.Module")
        return cls(critic, critic.learning_rate, fabric)

    def step(self, batch: Batch, estimate: Estimate) -> Terms:
        """One step of the critic; frozen before and after, so that the method's losses reach the method only."""
        self.critic.requires_grad_(True)
        terms: Terms = self.wrapped(batch, estimate)
        self.fabric.backward(terms["loss"])
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.critic.requires_grad_(False)
        return {f"critic_{name}": value for name, value in terms.items()}


class _State:
    """All that a training needs to continue."""

    def __init__(self, parts: Mapping[str, Stateful], settings: TrainingSettings) -> None:
        self.parts = parts
        self.settings = asdict(replace(settings, compile=False, save_every=0))  # these two do not change the curve
        self.step = 0
        self.seconds = 0.0
        self.rendered = 0
        self.best: dict[str, float] = {}

    def save(self, path: Path) -> None:
        values = {name: part.state_dict() for name, part in self.parts.items()}
        rest = {name: getattr(self, name) for name in ("step", "seconds", "rendered", "best", "settings")}
        _save({**values, **rest}, path)

    def resume(self, path: Path) -> None:
        if not path.is_file():
            return
        remedy = f"delete {path.parent} to train anew"
        try:
            stored = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # bytes that are no state can end in any exception
            raise Refusal(f"{path} is damaged ({str(error).strip().partition(chr(10))[0]}); {remedy}") from error
        settings = stored["settings"] if isinstance(stored, Mapping) and "settings" in stored else {}
        changed = [name for name in settings if settings[name] != self.settings.get(name)]
        if changed:
            shown = ", ".join(f"{name} = {settings[name]}" for name in changed)
            raise Refusal(f"{path} belongs to a training with {shown}; set it back, or {remedy}")
        try:
            for name, part in self.parts.items():
                part.load_state_dict(stored[name])
            self.step, self.seconds, self.best = stored["step"], stored["seconds"], stored["best"]
            self.rendered = stored["rendered"]
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise Refusal(f"{path} holds the state of another network; {remedy}") from error


def compiled(generator: StyleGenerator) -> StyleGenerator:
    """The generator with its two costly calls compiled, where that is possible: a CPU needs a C++ compiler.

    Its many elementwise layers are fused that way; in bf16 on a CPU a step takes a third of the time.
    """
    if generator.mean_code.device.type == "cpu" and not shutil.which("c++"):
        return generator
    return _Called(generator, torch.compile(generator.synthesize), torch.compile(generator.feature))


class _Called:
    """A generator that calls other forms of ``synthesize`` and ``feature``; the rest is the generator's."""

    def __init__(self, generator: StyleGenerator, synthesize: Call, feature: Call) -> None:
        self.resolution, self.num_codes, self.code_dim = generator.resolution, generator.num_codes, generator.code_dim
        self.feature_layer, self.feature_shape = generator.feature_layer, generator.feature_shape
        self.feature_codes, self.rgb_skip = generator.feature_codes, generator.rgb_skip
        self.mean_code, self.map = generator.mean_code, generator.map
        self.synthesize, self.feature = synthesize, feature
        if isinstance(generator, HasNoise):
            self.fresh_noise = generator.fresh_noise


class _averaged:
    """Inside, the network has the average's weights and is in eval mode."""

    def __init__(self, network: nn.Module, average: AveragedModel) -> None:
        self.network, self.average = network, average

    def __enter__(self) -> None:
        self.own = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.network.load_state_dict(self.average.module.state_dict())
        self.network.eval()

    def __exit__(self, *_: object) -> None:
        self.network.load_state_dict(self.own)
        self.network.train()


def _module(objective: Objective) -> nn.Module:
    if not isinstance(objective, nn.Module):
        raise TypeError("an objective must be an nn.Module")
    for name, parameter in objective.named_parameters():
        parameter.requires_grad_(name.startswith("network."))
    return objective


def _save(values: Mapping[str, Any], path: Path) -> None:
    part = path.with_suffix(".part")
    torch.save(dict(values), part)
    part.replace(path)


def _live(folder: Path, step: int) -> Live:
    """DVCLive's log, cut back to the step that training resumes from, whatever a killed run was writing."""
    for path in folder.glob("plots/metrics/**/*.tsv"):
        header, *rows = path.read_text().split("\n")[:-1] or [""]  # what follows the last line end is half a row
        kept = [row for row in rows if int(row.split("\t")[header.split("\t").index("step")]) < step]
        if kept:
            path.write_text("\n".join([header, *kept]) + "\n")
        else:
            path.unlink()
    (folder / "metrics.json").unlink(missing_ok=True)
    live = Live(str(folder), resume=True, save_dvc_exp=False, dvcyaml=None, monitor_system=False)
    live.step = step
    return live


def curve_rows(folder: Path) -> Sequence[Mapping[str, float]]:
    """The curves that DVCLive wrote below ``folder``, a row a step, columns by metric name."""
    rows: dict[int, dict[str, float]] = {}
    for path in sorted((folder / "live/plots/metrics").glob("**/*.tsv")):
        name = str(path.relative_to(folder / "live/plots/metrics").with_suffix(""))
        header, *lines = (line.split("\t") for line in path.read_text().splitlines())
        step, value = header.index("step"), header.index(Path(name).name)
        for line in lines:
            rows.setdefault(int(line[step]), {})[name] = float(line[value])
    return [{"step": step, **rows[step]} for step in sorted(rows)]
