"""VGG16 (Simonyan and Zisserman 2015) up to ``conv4_3``, the perceptual network of in-domain inversion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu_

from fse.checkpoints.shapes import kernel_shape
from fse.sized_network import SizedNetwork

CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
"""Official numbers of the convolutions; ReLUs and poolings, which have no parameters, are counted too."""
POOLED = (5, 10, 17, 24)
"""Those whose input is pooled by two, and whose width is the next."""
LAST = 21
"""``conv4_3``, whose ReLU is the output."""


@dataclass(frozen=True)
class VGG16Size:
    """Channels of the five groups of convolutions."""

    widths: tuple[int, ...] = (64, 128, 256, 512, 512)


class VGG16(SizedNetwork):
    """Picture (B, 3, H, W), RGB in [-1, 1] -> features after the ReLU of ``conv4_3`` (B, 512, H / 8, W / 8).

    The last group of convolutions is in the official file, and not used.
    """

    Size = VGG16Size
    size: VGG16Size
    mean: Tensor

    def __init__(self, size: VGG16Size | None = None) -> None:
        super().__init__()
        self.size = size = size or VGG16Size()
        c_in, group = 3, 0
        for i in CONVOLUTIONS:
            group += i in POOLED
            self.add_module(f"layer{i}", nn.Conv2d(c_in, size.widths[group], 3, padding=1))
            c_in = size.widths[group]
        bgr = torch.tensor([103.939, 116.779, 123.68])
        self.register_buffer("mean", bgr[:, None, None], persistent=False)

    @classmethod
    def size_of(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> VGG16Size:
        """The size of an official network, from its parameters' shapes.

        Raises
        ------
        Refusal
            When a parameter that tells the size is missing.
        """
        return VGG16Size(tuple(kernel_shape(tensors, f"layer{i}.weight")[0] for i in (0, *POOLED)))

    def forward(self, pictures: Tensor) -> Tensor:
        # 0..255, blue first, minus the mean of the pictures it was trained on.
        x = (pictures.flip(1) + 1) * 127.5 - self.mean
        for i in CONVOLUTIONS[: CONVOLUTIONS.index(LAST) + 1]:
            if i in POOLED:
                x = max_pool2d(x, 2)
            x = relu_(self.get_submodule(f"layer{i}")(x))
        return x
