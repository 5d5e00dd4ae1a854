"""e4e's critic of codes: it tells w = map(z) from the rows that an encoder predicts (Tov et al. 2021, section 4.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from fse.generators.style_generator import StyleGenerator
from fse.latents import sample_z
from fse.objective import Batch, Estimate, Terms


class LatentDiscriminator(nn.Sequential):
    """Codes (..., 512) -> logits (..., 1), high for codes of W: linear layers with leaky ReLU 0.2 between them.

    Always in float32, since R1 takes the gradient of a gradient. The size is that of the official
    ``LatentCodesDiscriminator``.
    """

    def __init__(self, code_dim: int = 512, depth: int = 4) -> None:
        hidden = [layer for _ in range(depth - 1) for layer in (nn.Linear(code_dim, code_dim), nn.LeakyReLU(0.2))]
        super().__init__(*hidden, nn.Linear(code_dim, 1))

    def forward(self, codes: Tensor) -> Tensor:
        with torch.autocast(codes.device.type, enabled=False):
            x = codes.float()
            for layer in self:
                x = layer(x)
            return x


class LatentCritic(nn.Module):
    """Trains the discriminator: the non-saturating logistic loss, and R1 on the real codes.

    Real are as many fresh w as there are rows to judge. Officially one row of a picture is drawn, partly out of a pool
    of former ones, and R1 has 16 times its weight at every 16th step.

    Parameters
    ----------
    discriminator : LatentDiscriminator
        What learns.
    generator : StyleGenerator
        Whose W it is; frozen.
    r1 : float
        gamma of R1 (Mescheder et al. 2018, "Which Training Methods for GANs do actually Converge?", Eq. 9).
    learning_rate : float
        The official one.
    """

    def __init__(
        self,
        discriminator: LatentDiscriminator,
        generator: StyleGenerator,
        r1: float = 10.0,
        learning_rate: float = 2e-5,
    ) -> None:
        super().__init__()
        self.discriminator = discriminator
        self.map = generator.map  # and not the generator, whose parameters would become the critic's
        self.r1 = r1
        self.learning_rate = learning_rate

    def forward(self, batch: Batch, estimate: Estimate) -> Terms:
        rows = estimate.codes.flatten(0, 1)
        # Of the step alone, so that a training that was broken off continues the same curve.
        z = sample_z(round(batch.progress * 2**32), *rows.shape).to(rows.device)
        with torch.autocast(rows.device.type, enabled=False):
            with torch.no_grad():
                real = self.map(z)[:, 0]
            real.requires_grad_()
            logits = self.discriminator(real)
            (slope,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
            terms = {
                "real": softplus(-logits).mean(),
                "fake": softplus(self.discriminator(rows)).mean(),
                "r1": slope.square().sum(1).mean(),
            }
        terms["loss"] = terms["real"] + terms["fake"] + self.r1 / 2 * terms["r1"]
        return terms
