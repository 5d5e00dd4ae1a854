"""pSp's map-to-style block, which e4e, ReStyle and HFGI share."""

from __future__ import annotations

from math import log2

from torch import Tensor, nn

from fse.generators.mapping import EqualLinear


class MapToStyle(nn.Module):
    """A map (B, C, S, S) -> one code (B, 512): 3x3 convolutions of stride 2 down to 1x1, then a linear layer.

    Parameters
    ----------
    c_in, width : int
        Channels of the map and of the convolutions; both 512 officially.
    side : int
        S, a power of two: log2(S) convolutions, each followed by leaky ReLU 0.01.
    code_dim : int
        Length of the code.
    """

    def __init__(self, c_in: int, width: int, side: int, code_dim: int = 512) -> None:
        super().__init__()
        convs = [nn.Conv2d(width if i else c_in, width, 3, 2, padding=1) for i in range(int(log2(side)))]
        self.convs = nn.Sequential(*(layer for conv in convs for layer in (conv, nn.LeakyReLU(0.01))))
        self.linear = EqualLinear(width, code_dim)
        # The official initialisation lets the signal fade over five convolutions and starts a standard deviation
        # from the mean code; long trainings forget that, the embedded profile's short ones do not.
        for conv in convs:
            nn.init.kaiming_normal_(conv.weight, a=0.01)
        nn.init.normal_(self.linear.weight, std=0.1)

    def forward(self, x: Tensor) -> Tensor:
        code: Tensor = self.linear(self.convs(x).flatten(1))
        return code
