"""The picture discriminator that the in-domain encoder is trained against (section 3.1, Eq. 4)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from fse.losses import reduce
from fse.objective import Batch, Estimate, Terms


class Discriminator(nn.Module):
    """Picture (B, 3, R, R) -> logit (B,), high for a real one.

    Convolutions with leaky ReLU, halved by averaging, as in StyleGAN; the picture is averaged down to ``side`` first.
    Officially it is the one that the generator was trained with, which MobileStyleGAN has none of.

    Parameters
    ----------
    side : int
        In pixels, a power of two from 8 on.
    widths : sequence of int
        Channels at ``side``, its half, and so on; the last of them at 4 px too.
    """

    def __init__(self, side: int = 64, widths: Sequence[int] = (16, 32, 64, 128, 128)) -> None:
        super().__init__()
        if side != 4 * 2 ** (len(widths) - 1):
            raise ValueError(f"{len(widths)} widths lead from {4 * 2 ** (len(widths) - 1)} px to 4 px, not from {side}")
        self.side = side
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, padding=1), nn.LeakyReLU(0.2)]
        for c_in, c_out in pairwise(widths):
            layers += [nn.Conv2d(c_in, c_out, 3, padding=1), nn.LeakyReLU(0.2), nn.AvgPool2d(2)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * widths[-1], 1))
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, 0.2)

    def forward(self, pictures: Tensor) -> Tensor:
        logits: Tensor = self.layers(reduce(pictures, self.side))
        return logits.squeeze(1)


class PictureCritic(nn.Module):
    """The discriminator's own training: logistic loss, and R1 (Mescheder et al. 2018) on the real pictures.

    Parameters
    ----------
    discriminator : Discriminator
        Tells ``batch.pictures`` from the estimate's.
    learning_rate : float
        1e-4 officially, where encoder and critic go on from the generator's training; the critic starts anew here.
    gamma : float
        Twice the weight of R1, which is taken at every step; 10 officially.
    """

    def __init__(self, discriminator: Discriminator, learning_rate: float = 5e-4, gamma: float = 10.0) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.learning_rate = learning_rate
        self.gamma = gamma

    def forward(self, batch: Batch, estimate: Estimate) -> Terms:
        # In single precision: R1 is a gradient's square. The pictures are small, so that this is cheap.
        with torch.autocast(batch.pictures.device.type, enabled=False):
            side = self.discriminator.side
            real = reduce(batch.pictures.float(), side).detach().requires_grad_()
            logits = self.discriminator(real)
            (slope,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
            terms = {
                "real": softplus(-logits).mean(),
                "found": softplus(self.discriminator(estimate.picture.float())).mean(),
                "r1": slope.square().flatten(1).sum(1).mean(),
            }
        terms["loss"] = terms["real"] + terms["found"] + self.gamma / 2 * terms["r1"]
        return terms

    def deception(self, pictures: Tensor) -> Tensor:
        """What the encoder minimises: softplus(-D), the mean over its pictures (B, 3, R, R); a scalar."""
        return softplus(-self.discriminator(pictures).float()).mean()
