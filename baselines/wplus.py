"""Direct optimisation in W+ (Abdal et al., "Image2StyleGAN", ICCV 2019): the slow reference, without an encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from fse.editing import move_codes
from fse.generators.style_generator import StyleGenerator
from fse.inversion import Inversion
from fse.losses import reduce
from fse.perceptual import STLPIPS


def optimised(start: Tensor, total: Callable[[Tensor], Tensor], learning_rates: Iterable[float]) -> Tensor:
    """Codes (B, N, 512) that Adam makes of ``start``, one step a learning rate.

    Each picture's optimisation is its own: ``total`` gives one loss for every picture (B,), these are summed, and
    Adam works on single entries. Works within ``no_grad`` and ``inference_mode``, if what ``total`` uses was not made
    in the latter; the networks' parameters get no gradient.
    """
    with torch.inference_mode(False), torch.enable_grad():
        codes = start.detach().clone().requires_grad_()
        optimiser = torch.optim.Adam([codes])
        for rate in learning_rates:
            optimiser.param_groups[0]["lr"] = rate
            (codes.grad,) = torch.autograd.grad(total(codes).sum(), codes)
            optimiser.step()
        return codes.detach()


def mean_square(a: Tensor, b: Tensor) -> Tensor:
    """The mean squared difference for each picture (B,), of (B, ...)."""
    return mse_loss(a, b, reduction="none").flatten(1).mean(1)


@dataclass(frozen=True)
class OptimisationWeights:
    """Image2StyleGAN's: both terms count alike. Its perceptual network is VGG16, where this takes ST-LPIPS."""

    pixel: float = 1.0
    perceptual: float = 1.0


class OptimisedInverter:
    """G(w), with w from the mean code on fitted to the picture by Adam.

    Parameters
    ----------
    generator : StyleGenerator
        Frozen.
    perceptual : STLPIPS
        On the same device.
    steps : int
        Of the optimisation; the paper's 5000 at its rate of 0.01 are out of reach here.
    learning_rate : float
        Adam's, in units of the codes, after a linear rise over a twentieth of the steps; it falls linearly to 0 over
        the last quarter, as in StyleGAN2's projector (which uses a cosine).
    weights : OptimisationWeights
        Of the terms.
    side : int
        At which the perceptual term of larger pictures is taken, in pixels.
    """

    def __init__(
        self,
        generator: StyleGenerator,
        perceptual: STLPIPS,
        *,
        steps: int = 100,
        learning_rate: float = 0.05,
        weights: OptimisationWeights | None = None,
        side: int = 128,
    ) -> None:
        self.generator = generator
        self.perceptual = perceptual
        self.steps = steps
        self.learning_rate = learning_rate
        self.weights = weights or OptimisationWeights()
        self.side = min(side, generator.resolution)

    def invert(self, pictures: Tensor) -> Inversion:
        """pictures (B, 3, R, R) in [-1, 1] -> codes and G(w). Works within ``no_grad`` and ``inference_mode``, too."""
        with torch.inference_mode(False), torch.no_grad():
            pictures = pictures.detach().clone()  # gradients cannot pass by a tensor born in inference mode
            features = self.perceptual.features(reduce(pictures, self.side))
            start = self.generator.mean_code.expand(len(pictures), -1, -1)
            codes = optimised(start, lambda codes: self.total(codes, pictures, features), self.learning_rates())
            return Inversion(codes, None, self.generator.synthesize(codes))

    @torch.no_grad()
    def edit(self, inversion: Inversion, direction: Tensor, strength: float) -> Tensor:
        """G(w + strength * direction)."""
        return self.generator.synthesize(move_codes(inversion.codes, direction, strength))

    def total(self, codes: Tensor, pictures: Tensor, features: list[Tensor]) -> Tensor:
        """The loss (B,) of codes (B, N, 512) for pictures whose perceptual features are known."""
        found = self.generator.synthesize(codes)
        distance = self.perceptual.distance(self.perceptual.features(reduce(found, self.side)), features)
        return self.weights.pixel * mean_square(found, pictures) + self.weights.perceptual * distance

    def learning_rates(self) -> list[float]:
        """One a step."""
        at = [(step + 1) / self.steps for step in range(self.steps)]
        return [self.learning_rate * min(1.0, 20 * t, 4 * (1 - t) + 4 / self.steps) for t in at]


def load_wplus(generator: StyleGenerator, weights: Path, assets: Path) -> OptimisedInverter:
    """The optimisation with ST-LPIPS from the folder ``assets``; there is nothing trained in ``weights``."""
    perceptual = STLPIPS.load(assets / "stlpips/alex_shift_tolerant.pth")
    return OptimisedInverter(generator, perceptual.to(generator.mean_code.device))
