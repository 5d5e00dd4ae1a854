"""The encoder into W that HyperStyle starts from: one code for all rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fse.checkpoints.shapes import kernel_shape
from fse.generators.mapping import EqualLinear
from fse.trunk import Trunk, TrunkSize, ir_size


@dataclass(frozen=True)
class WEncoderSize:
    """Size of an encoder into W; the defaults are the official ones.

    Attributes
    ----------
    code_dim : int
        Length of the code.
    trunk : TrunkSize
        IR-SE-50.
    """

    code_dim: int = 512
    trunk: TrunkSize = field(default_factory=lambda: TrunkSize(form="ir_se"))


class WEncoder(Trunk):
    """Picture (B, 3, S, S) in [-1, 1], S = 256 officially -> offset of the one code in W (B, 1, 512).

    The mean of the trunk's last stage over the picture, and an equalised linear layer. Parameter names are those under
    ``encoder.`` in the official ``faces_w_encoder.pt``.
    """

    Size = WEncoderSize
    size: WEncoderSize

    def __init__(self, size: WEncoderSize | None = None) -> None:
        size = size or WEncoderSize()
        super().__init__(size.trunk)
        self.size = size
        self.linear = EqualLinear(size.trunk.widths[3], size.code_dim)

    @classmethod
    def size_of(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> WEncoderSize:
        """Size of the encoder with the parameters ``tensors``; raises Refusal naming one that is missing."""
        return WEncoderSize(kernel_shape(tensors, "linear.weight", 2)[0], ir_size(tensors))

    def forward(self, pictures: Tensor) -> Tensor:
        offset: Tensor = self.linear(self.stages(pictures)[-1].mean((2, 3)))
        return offset[:, None]
