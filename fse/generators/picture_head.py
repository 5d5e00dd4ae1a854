"""A picture head for MobileStyleGAN at 128 or 256 px, where the published export has one at 1024 px only.

The network's features at half the wanted size still have two or three blocks before them, and those blocks
change the picture: the best 1x1 convolution to image bands, modulated or not, reaches about 23 dB against the
full picture reduced. So the head *is* the remaining blocks, run at the features' size: where a block's
inverse wavelet would turn four bands into four pixels, the low band goes on as the map, and the detail bands
join through a pointwise convolution that starts at zero. Codes act through the network's own modulations,
which stay as they are; kernels start from the network's own and are fitted.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, leaky_relu_

from fse.generators.mobilestylegan import (
    SLOPE,
    Block,
    MobileStyleGAN,
    MobileStyleGANSize,
    StyledConv,
    WaveletHead,
    read_mobilestylegan,
)
from fse.generators.wavelet import inverse_haar
from fse.refusal import Refusal

HEAD_SIDES = (128, 256)


class FoldedConv(nn.Module):
    """A separable :class:`~fse.generators.mobilestylegan.StyledConv` run at 1 / ``shrink`` of its size.

    On maps without detail the kernel's taps all see the same value, so the depthwise kernel starts with its
    sum in the middle; the noise picture is averaged.
    """

    def __init__(self, conv: StyledConv, shrink: int) -> None:
        super().__init__()
        assert conv.depthwise is not None
        self.modulation = conv.modulation
        self.depthwise = nn.Parameter(torch.zeros_like(conv.depthwise))
        self.depthwise.data[..., 1, 1] = conv.depthwise.detach().sum((2, 3))
        self.weight = nn.Parameter(conv.weight.detach().clone())
        self.noise = nn.Parameter(avg_pool2d(conv.noise.detach(), shrink))
        self.bias = nn.Parameter(conv.bias.detach().clone())

    def forward(self, x: Tensor, code: Tensor, details: Tensor | float = 0.0) -> Tensor:
        x = conv2d(x * self.modulation(code), self.depthwise, padding=1, groups=x.shape[1])
        return leaky_relu_(conv2d(x, self.weight).add_(details).add_(self.noise).add_(self.bias), SLOPE)


class FoldedBlock(nn.Module):
    """A :class:`~fse.generators.mobilestylegan.Block` whose wavelet step does not enlarge."""

    def __init__(self, block: Block, shrink: int) -> None:
        super().__init__()
        self.modulation = block.up.modulation
        self.low = block.conv1.weight.shape[1]
        self.details = nn.Conv2d(3 * self.low, block.conv1.weight.shape[0], 1, bias=False)
        nn.init.zeros_(self.details.weight)
        self.conv1 = FoldedConv(block.conv1, shrink)
        self.conv2 = FoldedConv(block.conv2, shrink)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        x = x * self.modulation(code)
        # A map without detail has low band / 2 in each of its four pixels.
        x = self.conv1(x[:, : self.low] * 0.5, code, self.details(x[:, self.low :]))
        result: Tensor = self.conv2(x, code)
        return result


class PictureHead(nn.Module):
    """Features (B, C, H, W) and a code (B, 512) -> picture (B, 3, 2 H, 2 W).

    Parameters
    ----------
    full : MobileStyleGAN
        The whole network; its modulations are shared, frozen, and not part of the state.
    resolution : int
        Side of the picture, 2 H.
    """

    def __init__(self, full: MobileStyleGAN, resolution: int) -> None:
        super().__init__()
        first = resolution.bit_length() - 4
        blocks = [cast(Block, block) for block in full.blocks[first:]]
        self.blocks = nn.ModuleList(FoldedBlock(block, 2 ** (i + 1)) for i, block in enumerate(blocks))
        assert isinstance(full.head, WaveletHead)
        self.modulation = full.head.modulation
        self.bands = nn.Conv2d(full.head.weight.shape[1], 12, 1)
        self.bands.weight.data.zero_()
        # The full picture is its low band / 2 where it has no detail, and ours will be too.
        self.bands.weight.data[:3] = full.head.weight.data[:3]
        self.bands.bias = nn.Parameter(full.head.bias.data * (torch.arange(12) < 3))
        for name, parameter in self.named_parameters():
            parameter.requires_grad_("modulation" not in name)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, code)
        bands = self.bands(x * self.modulation(code))
        return inverse_haar(bands[:, :3], bands[:, 3:])

    def fitted_state(self) -> dict[str, Tensor]:
        """What fitting changes: everything but the network's own modulations."""
        return {name: tensor for name, tensor in self.state_dict().items() if "modulation" not in name}


def cut(full: MobileStyleGAN, resolution: int, head: nn.Module, feature_layer: int = 5) -> MobileStyleGAN:
    """The first blocks of ``full``, ended by ``head`` at ``resolution`` pixels; weights are shared, not copied."""
    blocks = resolution.bit_length() - 4
    if resolution != 8 * 2**blocks or not 1 <= blocks < len(full.blocks):
        raise ValueError(f"resolution must be a power of two in 16..{full.resolution // 2}, not {resolution}")
    channels = tuple(cast(Block, block).conv2.bias.shape[1] for block in full.blocks[:blocks])
    size = MobileStyleGANSize((full.conv1.bias.shape[1], *channels), full.size.mapping_depth)
    generator = MobileStyleGAN(size, feature_layer, head)
    generator.mapping, generator.constant, generator.conv1 = full.mapping, full.constant, full.conv1
    generator.blocks = full.blocks[:blocks]
    generator.mean_code = full.mean_code[:1].expand(generator.num_codes, -1).clone()
    return generator


def load_generator(folder: Path, heads: Path, resolution: int = 256, feature_layer: int = 5) -> MobileStyleGAN:
    """The embedded profile's pretrained generator, frozen and in eval mode.

    Parameters
    ----------
    folder : Path
        ``random-face``'s IR files.
    heads : Path
        ``picture_head.safetensors``, fitted by ``python -m pipelines.head``: entries ``128.*``, ``256.*``
        (the heads) and ``mean_code`` (512,).
    resolution : int
        128 or 256.
    feature_layer : int
        K.
    """
    if not heads.is_file():
        remedy = f"restore it with `git checkout -- {heads}` or fit it with `python -m pipelines.head`"
        raise Refusal(f"{heads} is missing; {remedy}")
    try:
        state = load_file(heads)
    except SafetensorError as error:
        raise Refusal(f"{heads} is no safetensors file ({error}); restore it with `git checkout -- {heads}`") from error
    full = MobileStyleGAN()
    full.load_state_dict(read_mobilestylegan(folder), strict=False)
    prefix = f"{resolution}."
    fitted = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    if not fitted or "mean_code" not in state:
        raise Refusal(f"{heads} holds no head for {resolution} px; it must be one of {HEAD_SIDES}")
    head = PictureHead(full, resolution)
    _load_fitted(head, fitted, heads)
    full.mean_code.copy_(state["mean_code"].expand(full.num_codes, -1))
    generator = cut(full, resolution, head, feature_layer)
    return generator.requires_grad_(False).eval()


def _load_fitted(head: PictureHead, fitted: dict[str, Tensor], path: Path) -> None:
    for name, tensor in head.fitted_state().items():
        if name not in fitted or fitted[name].shape != tensor.shape:
            found = tuple(fitted[name].shape) if name in fitted else "missing"
            raise Refusal(f"{path}: parameter {name} is {found} instead of {tuple(tensor.shape)}; restore it with git")
    head.load_state_dict(fitted, strict=False)
