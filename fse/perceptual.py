"""ST-LPIPS on AlexNet: a learned perceptual distance that tolerates shifts.

A. Ghildyal and F. Liu, "Shift-tolerant Perceptual Similarity Metric", ECCV 2022 (arXiv 2207.13686). The same
numbers as the package ``stlpips-pytorch`` 0.0.2 (``net="alex", variant="shift_tolerant"``) at about half the
cost on a CPU. AlexNet's first convolution has stride 1 here and is followed by a binomial blur that keeps
every second pixel, with no non-linearity between the two. Both are linear, so they are one 13 x 13
convolution of stride 2, evaluated as a 7 x 7 convolution of stride 1 over the 2 x 2 blocks of the picture;
the map of 64 channels at full resolution never exists. Only the blur's reflected border needs care, see
``STLPIPS._stem``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fse.checkpoints.reader import read_weights

_SHAPES = {
    "scaling_layer.shift": (1, 3, 1, 1),
    "scaling_layer.scale": (1, 3, 1, 1),
    "net.slice1.0.weight": (64, 3, 11, 11),
    "net.slice1.0.bias": (64,),
    "net.slice2.5.weight": (192, 64, 5, 5),
    "net.slice2.5.bias": (192,),
    "net.slice3.9.weight": (384, 192, 3, 3),
    "net.slice3.9.bias": (384,),
    "net.slice4.11.weight": (256, 384, 3, 3),
    "net.slice4.11.bias": (256,),
    "net.slice5.13.weight": (256, 256, 3, 3),
    "net.slice5.13.bias": (256,),
    "lin0.model.1.weight": (1, 64, 1, 1),
    "lin1.model.1.weight": (1, 192, 1, 1),
    "lin2.model.1.weight": (1, 384, 1, 1),
    "lin3.model.1.weight": (1, 256, 1, 1),
    "lin4.model.1.weight": (1, 256, 1, 1),
}
_BLUR = (0.25, 0.5, 0.25)
_BLUR_AT_EVEN_END = (0.5, 0.5)  # (.25, .5) and the reflected .25, which falls on the first tap again
_SMALLEST = 32


class STLPIPS(nn.Module):
    """Distance (B,) between pictures (B, 3, H, W), RGB in [-1, 1]; 0 for equal pictures, lower is nearer.

    Frozen: the weights are non-persistent buffers, so neither an optimiser nor a checkpoint picks them up.
    Differentiable with respect to the pictures, also where a map is zero in all channels (the original's
    gradient is NaN there). Under autocast the maps have the autocast type; the distance is summed in float32.
    Calls that share a target should compute ``features(target)`` once and use ``distance``.
    """

    shift: Tensor
    scale: Tensor
    stem: Tensor
    stem_bottom: Tensor
    stem_right: Tensor
    stem_corner: Tensor
    bias1: Tensor
    blur: Tensor

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        """``weights``: as in ``alex_shift_tolerant.pth``; the blur filters there are not needed."""
        super().__init__()
        kernel = weights["net.slice1.0.weight"]
        buffers = {
            "shift": weights["scaling_layer.shift"],
            "scale": weights["scaling_layer.scale"],
            "stem": _blocks(kernel, _BLUR, _BLUR),
            "stem_bottom": _blocks(kernel, _BLUR_AT_EVEN_END, _BLUR),
            "stem_right": _blocks(kernel, _BLUR, _BLUR_AT_EVEN_END),
            "stem_corner": _blocks(kernel, _BLUR_AT_EVEN_END, _BLUR_AT_EVEN_END),
            "bias1": weights["net.slice1.0.bias"],
            "blur": torch.outer(torch.tensor(_BLUR), torch.tensor(_BLUR)).expand(192, 1, 3, 3),
        }
        for layer, name in enumerate(("slice2.5", "slice3.9", "slice4.11", "slice5.13"), start=2):
            buffers[f"conv{layer}"] = weights[f"net.{name}.weight"]
            buffers[f"bias{layer}"] = weights[f"net.{name}.bias"]
        for layer in range(1, 6):
            buffers[f"linear{layer}"] = weights[f"lin{layer - 1}.model.1.weight"]
        for name, value in buffers.items():
            self.register_buffer(name, value.detach().clone(), persistent=False)
        self.eval()

    @classmethod
    def load(cls, path: Path | str) -> STLPIPS:
        """Read ``alex_shift_tolerant.pth``. Raises Refusal if it is absent, damaged, or lacks a parameter."""
        return cls(read_weights(path, _SHAPES))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, 3, H, W), (B, 3, H, W), both in [-1, 1] -> (B,) distances."""
        return self.distance(self.features(x), self.features(y))

    def features(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [-1, 1] -> the five ReLU maps, each position scaled to unit length over channels.

        At 256 px: (B, 64, 126, 126), (B, 192, 63, 63), and (B, 384 | 256 | 256, 32, 32), channels last.
        Raises ValueError for any other shape than (B, 3, >=32, >=32).
        """
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < _SMALLEST:
            raise ValueError(f"ST-LPIPS takes (B, 3, H, W) with H, W >= {_SMALLEST}, got {tuple(x.shape)}")
        maps = [F.relu(self._stem((x - self.shift) / self.scale), inplace=True)]
        for layer, halved, padding in ((2, True, 2), (3, True, 1), (4, False, 1), (5, False, 1)):
            below = self._halve(maps[-1]) if halved else maps[-1]
            kernel, bias = getattr(self, f"conv{layer}"), getattr(self, f"bias{layer}")
            maps.append(F.relu(F.conv2d(below, kernel, bias, padding=padding), inplace=True))
        return [each / (torch.linalg.vector_norm(each, dim=1, keepdim=True) + 1e-10) for each in maps]

    def distance(self, features_x: list[Tensor], features_y: list[Tensor]) -> Tensor:
        """Of two results of ``features``: squared differences, weighted over channels, averaged over
        positions, summed over layers; (B,) in float32 (float64 of a float64 module)."""
        distances = []
        for layer, (x, y) in enumerate(zip(features_x, features_y, strict=True), start=1):
            weighted = F.conv2d((x - y).square(), getattr(self, f"linear{layer}")).flatten(1)
            distances.append(weighted.mean(1, dtype=self.shift.dtype))
        return torch.stack(distances).sum(0)

    def _stem(self, x: Tensor) -> Tensor:
        """Scaled picture (B, 3, H, W) -> the first convolution, blurred, every second pixel (B, 64, H', W').

        The convolution's map has H - 6 rows c[0] ... c[H-7] (11 taps, zero padding 2). The blur reflects it
        by two and starts at c[-2]:

        - its first row (c[2], c[1], c[0]) equals its second (c[0], c[1], c[2]), as the filter is symmetric;
        - for odd H the last row equals the one before it in the same way;
        - for even H the last row is the mean of the last two rows of c: 12 taps on the picture's last rows.

        Columns likewise.
        """
        odd = [size % 2 for size in x.shape[2:]]
        blocks = F.pixel_unshuffle(F.pad(x, (0, odd[1], 0, odd[0])), 2)
        blocks = F.pad(blocks, (1, 1, 1, 1)).contiguous(memory_format=torch.channels_last)
        result = F.conv2d(blocks, self.stem, self.bias1)
        if not odd[0]:
            bottom = F.conv2d(blocks[:, :, -6:], self.stem_bottom, self.bias1)
            result = torch.cat((result, bottom), 2)
        if not odd[1]:
            right = F.conv2d(blocks[..., -6:], self.stem_right, self.bias1)
            if not odd[0]:
                right = torch.cat((right, F.conv2d(blocks[:, :, -6:, -6:], self.stem_corner, self.bias1)), 2)
            result = torch.cat((result, right), 3)
        return F.pad(result, (1, odd[1], 1, odd[0]), mode="replicate")

    def _halve(self, x: Tensor) -> Tensor:
        """Max pooling 3 x 3 of stride 1, then the blur of stride 2 on the map reflected by two."""
        channels = x.shape[1]
        pooled = F.pad(F.max_pool2d(x, 3, stride=1), (2, 2, 2, 2), mode="reflect")
        return F.conv2d(pooled, self.blur[:channels], stride=2, groups=channels)


def _blocks(kernel: Tensor, rows: tuple[float, ...], columns: tuple[float, ...]) -> Tensor:
    """Kernel (O, 3, 11, 11) followed by the symmetric filter rows x columns, as one kernel over 2 x 2 blocks.

    Returns (O, 12, 7, 7), with 6 for 7 where the filter has two taps.
    """
    taps = torch.outer(torch.tensor(rows), torch.tensor(columns)).double()
    full = F.conv2d(kernel.double().flatten(0, 1)[:, None], taps[None, None], padding=(len(rows) - 1, len(columns) - 1))
    full = F.pad(full, (0, full.shape[-1] % 2, 0, full.shape[-2] % 2))
    return F.pixel_unshuffle(full.view(*kernel.shape[:2], *full.shape[2:]), 2).to(kernel.dtype)
