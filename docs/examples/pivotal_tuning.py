"""Pivotal tuning (Roich et al., "Pivotal Tuning for Latent-based Editing of Real Images", TOG 2022) as a user adds it.

A pivot from another method, then Adam on a copy of the generator's weights until it shows the picture there. Nothing of
the suite knows this file; a package that has it says

    [project.entry-points."fse.methods"]
    pti = "my_package.pivotal_tuning:load"

and ``python -m eval.table1 --images DIR --methods pti,fse`` measures it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from baselines.e4e import load_e4e
from fse.editing import move_codes
from fse.generators.style_generator import StyleGenerator
from fse.inversion import Inversion, InversionMethod
from fse.perceptual import STLPIPS


@dataclass(frozen=True)
class TunedInversion(Inversion):
    """With the weights (B, P) of each picture's own generator."""

    weights: Tensor


class PivotalTuning:
    """Official settings: at most 350 steps, Adam 3e-4, L2 and LPIPS with weight 1; their locality term is left out."""

    def __init__(
        self,
        pivot: InversionMethod,
        generator: StyleGenerator,
        perceptual: STLPIPS,
        steps: int = 350,
        rate: float = 3e-4,
    ) -> None:
        self.pivot, self.generator, self.perceptual = pivot, generator, perceptual
        self.steps, self.rate = steps, rate

    def invert(self, pictures: Tensor) -> TunedInversion:
        """pictures (B, 3, R, R) in [-1, 1] -> the pivot's codes, and G(w) with its own weights."""
        with torch.inference_mode(False):
            pictures = pictures.detach().clone()  # gradients cannot pass by a tensor born in inference mode
            codes = self.pivot.invert(pictures).codes.detach().clone()
            weights = torch.stack([self.tuned(*pair) for pair in zip(pictures, codes, strict=True)])
            return TunedInversion(codes, None, self.synthesize(codes, weights), weights)

    def edit(self, inversion: Inversion, direction: Tensor, strength: float) -> Tensor:
        """G(w + strength * direction) with the same weights."""
        assert isinstance(inversion, TunedInversion)
        return self.synthesize(move_codes(inversion.codes, direction, strength), inversion.weights)

    def tuned(self, picture: Tensor, code: Tensor) -> Tensor:
        """The weights (P,) with which the code (N, 512) gives the picture (3, R, R)."""
        network = cast(nn.Module, self.generator)
        weights = {name: value.detach().clone().requires_grad_() for name, value in network.named_parameters()}
        optimiser, target = torch.optim.Adam(weights.values(), self.rate), self.perceptual.features(picture[None])
        with torch.enable_grad():
            for _ in range(self.steps):
                found = functional_call(network, weights, (code[None],))
                distance = self.perceptual.distance(self.perceptual.features(found), target).sum()
                optimiser.zero_grad()
                ((found - picture).square().mean() + distance).backward()  # the mapping network gets no gradient
                optimiser.step()
        return torch.cat([weight.detach().flatten() for weight in weights.values()])

    @torch.no_grad()
    def synthesize(self, codes: Tensor, weights: Tensor) -> Tensor:
        """G(w) for codes (B, N, 512), each with its own weights (B, P)."""
        network, pictures = cast(nn.Module, self.generator), []
        shapes = {name: value.shape for name, value in network.named_parameters()}
        for code, flat in zip(codes, weights, strict=True):
            parts = flat.split([shape.numel() for shape in shapes.values()])
            own = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
            pictures.append(functional_call(network, own, (code[None],)))
        return torch.cat(pictures)


def load(generator: StyleGenerator, weights: Path, assets: Path) -> PivotalTuning:
    """Around the codes of e4e, as trained here; the release takes the pivot from 450 steps of an optimisation in W."""
    perceptual = STLPIPS.load(assets / "stlpips/alex_shift_tolerant.pth").to(generator.mean_code.device)
    return PivotalTuning(load_e4e(generator, weights), generator, perceptual)
