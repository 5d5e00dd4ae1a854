"""The embedded profile: which files make up the generator, the perceptual network and the methods."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from fse.generators.mobilestylegan import MobileStyleGAN
from fse.generators.picture_head import load_generator
from fse.inversion import InversionMethod
from fse.perceptual import STLPIPS
from fse.registry import load_method


@dataclass(frozen=True)
class Profile:
    """Where things are, and at which resolution pictures are inverted.

    Attributes
    ----------
    assets : Path
        What ``python -m pipelines.assets`` made.
    weights : Path
        Trained weights: ``picture_head.safetensors`` and one file a method.
    resolution : int
        256, or 128.
    device : torch.device
        Where networks live.
    """

    assets: Path = Path("data/assets")
    weights: Path = Path("weights")
    resolution: int = 256
    device: torch.device = torch.device("cpu")
    name: str = "embedded"

    def generator(self, resolution: int | None = None, feature_layer: int = 5) -> MobileStyleGAN:
        """The pretrained generator, frozen."""
        heads = self.weights / "picture_head.safetensors"
        generator = load_generator(self.assets / "mobilestylegan", heads, resolution or self.resolution, feature_layer)
        return generator.to(self.device)

    def perceptual(self) -> STLPIPS:
        """ST-LPIPS, for losses and for validation."""
        return STLPIPS.load(self.assets / "stlpips/alex_shift_tolerant.pth").to(self.device)

    def method(self, name: str, generator: MobileStyleGAN | None = None) -> InversionMethod:
        """A trained method, for ``generator`` or a fresh one."""
        return load_method(name, generator or self.generator(), self.weights, self.assets)
