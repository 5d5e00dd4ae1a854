"""LPIPS on AlexNet, version 0.1 (Zhang et al., "The Unreasonable Effectiveness of Deep Features", CVPR 2018).

The same numbers as the package ``lpips`` with ``net="alex"``, which brings the linear weights; the trunk is
torchvision's. Unlike the package's, a target's features can be kept, and no gradient is NaN where a map is zero.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import lpips
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fse.checkpoints.reader import read_weights

TRUNK = {  # layer of torchvision's AlexNet.features -> weight shape
    0: (64, 3, 11, 11),
    3: (192, 64, 5, 5),
    6: (384, 192, 3, 3),
    8: (256, 384, 3, 3),
    10: (256, 256, 3, 3),
}
_STRIDE_PADDING = {0: (4, 2), 3: (1, 2), 6: (1, 1), 8: (1, 1), 10: (1, 1)}
_POOLED_BEFORE = (3, 6)
_SMALLEST = 32


class LPIPS(nn.Module):
    """Distance (B,) between pictures (B, 3, H, W), RGB in [-1, 1]; 0 for equal pictures, lower is nearer.

    Frozen: the weights are non-persistent buffers, so neither an optimiser nor a checkpoint picks them up. Under
    autocast the maps have the autocast type; the distance is computed in float32.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, trunk: Mapping[str, Tensor]) -> None:
        """``trunk``: as in torchvision's AlexNet (``features.0.weight``, ...)."""
        super().__init__()
        buffers: dict[str, Tensor] = {}
        for number, layer in enumerate(TRUNK):
            buffers[f"weight{number}"] = trunk[f"features.{layer}.weight"]
            buffers[f"bias{number}"] = trunk[f"features.{layer}.bias"]
        with warnings.catch_warnings():  # lpips calls torchvision by its old signature
            warnings.simplefilter("ignore", UserWarning)
            package = lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)
        for number, linear in enumerate(package.lins):
            buffers[f"linear{number}"] = linear.model[-1].weight
        buffers |= {"shift": package.scaling_layer.shift, "scale": package.scaling_layer.scale}
        for name, value in buffers.items():
            self.register_buffer(name, value.detach().clone(), persistent=False)
        self.eval()

    @classmethod
    def load(cls, path: Path) -> LPIPS:
        """With the trunk in ``alexnet-owt-7be5be79.pth``; raises Refusal as :func:`read_trunk` does."""
        return cls(read_trunk(path))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, 3, H, W), (B, 3, H, W), both in [-1, 1] -> (B,) distances."""
        return self.distance(self.features(x), self.features(y))

    def features(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [-1, 1] -> the five ReLU maps, each position scaled to unit length over channels.

        At 256 px: (B, 64, 63, 63), (B, 192, 31, 31), and (B, 384 | 256 | 256, 15, 15). Raises ValueError for any other
        shape than (B, 3, >=32, >=32).
        """
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < _SMALLEST:
            raise ValueError(f"LPIPS takes (B, 3, H, W) with H, W >= {_SMALLEST}, got {tuple(x.shape)}")
        x, maps = (x - self.shift) / self.scale, []
        for number, layer in enumerate(TRUNK):
            if layer in _POOLED_BEFORE:
                x = F.max_pool2d(x, 3, stride=2)
            stride, padding = _STRIDE_PADDING[layer]
            weight, bias = getattr(self, f"weight{number}"), getattr(self, f"bias{number}")
            x = F.relu(F.conv2d(x, weight, bias, stride, padding))
            maps.append(x)
        return [each / (torch.linalg.vector_norm(each, dim=1, keepdim=True) + 1e-10) for each in maps]

    def distance(self, features_x: list[Tensor], features_y: list[Tensor]) -> Tensor:
        """Of two results of ``features``: squared differences, weighted over channels, averaged over positions, summed
        over layers; (B,) in float32 (float64 of a float64 module)."""
        distances = []
        for number, (x, y) in enumerate(zip(features_x, features_y, strict=True)):
            # No convolution: autocast would round what is summed.
            squares = (x.to(self.shift.dtype) - y.to(self.shift.dtype)).square()
            distances.append((squares * getattr(self, f"linear{number}")).sum(1).mean((1, 2)))
        return torch.stack(distances).sum(0)


def read_trunk(path: Path) -> dict[str, Tensor]:
    """The convolutions of torchvision's AlexNet. Raises Refusal if the file holds something else."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, shape in TRUNK.items():
        shapes[f"features.{layer}.weight"], shapes[f"features.{layer}.bias"] = shape, shape[:1]
    return read_weights(path, shapes, remedy="delete it and download it again")
