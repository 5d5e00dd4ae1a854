"""The Inception network of FID, from an explicit file of weights.

The package pytorch-fid, whose blocks these are, only takes its weights from torch hub's cache or the network.
"""

from __future__ import annotations

from pathlib import Path

import torchvision
from pytorch_fid.inception import FIDInceptionA, FIDInceptionC, FIDInceptionE_1, FIDInceptionE_2
from torch import Tensor, nn
from torch.nn.functional import interpolate

from fse.checkpoints.reader import read_weights

_SIDE = 299
_CLASSIFIER = ("dropout", "fc")


class FIDInception(nn.Module):
    """TensorFlow's Inception-v3 of 2015 in pytorch-fid's form, up to the average pooling."""

    def __init__(self) -> None:
        super().__init__()
        network = torchvision.models.inception_v3(weights=None, num_classes=1, aux_logits=False, init_weights=False)
        for name, width in (("5b", 192), ("5c", 256), ("5d", 288)):
            setattr(network, f"Mixed_{name}", FIDInceptionA(width, pool_features=32 if name == "5b" else 64))
        for name, width in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
            setattr(network, f"Mixed_{name}", FIDInceptionC(768, channels_7x7=width))
        network.Mixed_7b, network.Mixed_7c = FIDInceptionE_1(1280), FIDInceptionE_2(2048)
        layers = {name: layer for name, layer in network.named_children() if name not in _CLASSIFIER}
        self.layers = nn.ModuleDict(layers)
        self.eval().requires_grad_(False)

    @classmethod
    def load(cls, path: Path) -> FIDInception:
        """``pt_inception-2015-12-05-6726825d.pth``. Raises Refusal if it is missing or another network's."""
        network = cls()
        shapes = {
            name: tuple(value.shape)
            for name, value in network.layers.state_dict().items()
            if not name.endswith("num_batches_tracked")  # counts, which older files do not have
        }
        tensors = read_weights(path, shapes, remedy="obtain pytorch-fid's weights again")
        network.layers.load_state_dict(tensors, strict=False)  # nothing but those counts is left out
        return network

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """(B, 3, H, W) in [0, 1] -> [(B, 2048, 1, 1)], as the package gives it."""
        x = interpolate(pictures, size=(_SIDE, _SIDE), mode="bilinear", align_corners=False) * 2 - 1
        for layer in self.layers.values():
            x = layer(x)
        return [x]
