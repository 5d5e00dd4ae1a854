"""Face recognition networks, which measure identity: ArcFace's iResNet; the IR networks of pSp and CurricularFace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cosine_similarity, interpolate, normalize

from fse.checkpoints.shapes import kernel_shape
from fse.sized_network import SizedNetwork
from fse.trunk import Trunk, TrunkSize, ir_size, iresnet_size, stage


@dataclass(frozen=True)
class FaceRecognitionSize:
    """Size of a face recognition network; the defaults are those of ArcFace's iResNet-50.

    Attributes
    ----------
    trunk : TrunkSize
        With a stem of stride 1, so that the last stage is a sixteenth of the picture.
    side : int
        Of the pictures, in pixels.
    embedding_dim : int
        Length of the embedding.
    affine : bool
        Whether the last normalisation has a gain and a bias.
    """

    trunk: TrunkSize = field(default_factory=TrunkSize)
    side: int = 112
    embedding_dim: int = 512
    affine: bool = True


IRESNET_50 = FaceRecognitionSize()
"""ArcFace, as the FSE release uses it in training (``backbone.pth``)."""

IR_SE_50 = FaceRecognitionSize(TrunkSize(form="ir_se"))
"""The identity network of pSp, e4e, ReStyle and HFGI (``model_ir_se50.pth``)."""

CURRICULARFACE = FaceRecognitionSize(TrunkSize(depths=(3, 13, 30, 3), form="ir"), affine=False)
"""IR-101 (Huang et al. 2020), which the pSp family and the paper measure identity with."""


class ArcFace(SizedNetwork):
    """iResNet (Deng et al. 2019): pictures (B, 3, 112, 112) in [-1, 1] -> embeddings (B, 512), not normalised.

    The same trunk as FSE's encoder, which starts from its weights, under the names of ArcFace's release.
    """

    Size = FaceRecognitionSize
    size: FaceRecognitionSize

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self, size: FaceRecognitionSize | None = None) -> None:
        super().__init__()
        self.size = size = size or IRESNET_50
        trunk = size.trunk
        self.conv1 = nn.Conv2d(trunk.input_channels, trunk.stem_width, 3, trunk.stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(trunk.stem_width)
        self.prelu = nn.PReLU(trunk.stem_width)
        widths = pairwise((trunk.stem_width, *trunk.widths))
        for i, (pair, depth) in enumerate(zip(widths, trunk.depths, strict=True), start=1):
            self.add_module(f"layer{i}", nn.Sequential(*stage(*pair, depth, trunk.form)))
        self.bn2 = nn.BatchNorm2d(trunk.widths[3])
        self.fc = nn.Linear(_flat(size), size.embedding_dim)
        self.features = nn.BatchNorm1d(size.embedding_dim, affine=size.affine)

    @classmethod
    def size_of(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> FaceRecognitionSize:
        """Size of the network with the parameters ``tensors``; raises Refusal naming one that is missing."""
        trunk = iresnet_size(tensors, "conv1", "layer{}")
        return _size(trunk, kernel_shape(tensors, "fc.weight", 2), "features.weight" in tensors)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.levels(pictures)[-1]

    def levels(self, pictures: Tensor) -> list[Tensor]:
        """The five features of Eq. (6): outputs of the four stages, and the embedding.

        Pictures of another side are brought to 112 px by nearest neighbour, whole and uncropped, as in the FSE release.
        """
        x = interpolate(pictures, size=(self.size.side, self.size.side), mode="nearest")
        x = self.prelu(self.bn1(self.conv1(x)))
        levels = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            levels.append(x)
        levels.append(self.features(self.fc(self.bn2(x).flatten(1))))
        return levels


def identity_distances(levels: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """Terms of Eq. (6): 1 - cosine of two pictures' flattened features, (levels, B); the paper's L_id is their sum.

    The last row, the embedding's, is the identity loss of a single level.
    """
    pairs = zip(levels, target, strict=True)
    return torch.stack([1 - cosine_similarity(a.flatten(1), b.flatten(1)) for a, b in pairs])


class IRFace(Trunk):
    """IR network: faces (B, 3, 112, 112) in [-1, 1] -> embeddings (B, 512) of length 1.

    IR-SE-50 by default; CurricularFace at its size. Parameter names are those of the official ``Backbone``.
    """

    Size = FaceRecognitionSize
    size: FaceRecognitionSize

    def __init__(self, size: FaceRecognitionSize | None = None) -> None:
        size = size or IR_SE_50
        super().__init__(size.trunk)
        self.size = size
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(size.trunk.widths[3]),
            nn.Dropout(0.6),
            nn.Flatten(),
            nn.Linear(_flat(size), size.embedding_dim),
            nn.BatchNorm1d(size.embedding_dim, affine=size.affine),
        )

    @classmethod
    def size_of(cls, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> FaceRecognitionSize:
        """Size of the network with the parameters ``tensors``; raises Refusal naming one that is missing."""
        weight = kernel_shape(tensors, "output_layer.3.weight", 2)
        return _size(ir_size(tensors), weight, "output_layer.4.weight" in tensors)

    def forward(self, faces: Tensor) -> Tensor:
        return normalize(self.output_layer(self.stages(faces)[-1]))


def loss_crop(pictures: Tensor) -> Tensor:
    """Aligned pictures (B, 3, 256, 256) -> faces (B, 3, 112, 112), as the pSp family's identity loss cuts them."""
    return adaptive_avg_pool2d(pictures[:, :, 35:223, 32:220], 112)


def _flat(size: FaceRecognitionSize) -> int:
    return size.trunk.widths[3] * (size.side // (16 * size.trunk.stem_stride)) ** 2


def _size(trunk: TrunkSize, weight: torch.Size, affine: bool) -> FaceRecognitionSize:
    embedding_dim, flat = weight
    return FaceRecognitionSize(trunk, 16 * isqrt(flat // trunk.widths[3]), embedding_dim, affine)
