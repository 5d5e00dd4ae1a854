"""The embedded profile: which files make up the generator, the perceptual network and the methods."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from eval.metrics.clip_suite import ClipSuite, build_clip_suite
from eval.metrics.suite import Suite, build_suite
from fse.generators.mobilestylegan import MobileStyleGAN
from fse.generators.picture_head import load_generator
from fse.generators.style_generator import StyleGenerator
from fse.inversion import InversionMethod
from fse.perceptual import STLPIPS
from fse.pictures import read_picture
from fse.registry import load_method

WEIGHTS = {
    "fse_w": ("fse",),
    "fse_long_w": ("fse_long",),
    "hfgi": ("e4e", "hfgi"),
    "hfgi_long": ("e4e", "hfgi_long"),
    "wplus": (),
}
"""METHOD -> the files of trained weights that it reads, where that is not the one of its own name."""


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

    @property
    def measured(self) -> int | tuple[int, int]:
        """Side, or height and width, of the pictures that the metrics see."""
        return self.resolution

    def read(self, path: Path) -> torch.Tensor:
        """A source as methods take it: (3, R, R) in [-1, 1]."""
        return read_picture(path, self.resolution)

    def perceptual(self) -> STLPIPS:
        """ST-LPIPS, for losses and for validation."""
        return STLPIPS.load(self.assets / "stlpips/alex_shift_tolerant.pth").to(self.device)

    def has_weights(self, method: str) -> bool:
        """Whether the files of a method's trained weights are there; one that is not trained needs none."""
        return all((self.weights / f"{name}.safetensors").is_file() for name in WEIGHTS.get(method, (method,)))

    def method(self, name: str, generator: StyleGenerator | None = None) -> InversionMethod:
        """A trained method, for ``generator`` or a fresh one."""
        return load_method(name, generator or self.generator(), self.weights, self.assets)

    def suite(self, mean_descriptor: Path) -> Suite:
        """The metrics of single pictures and of sets; ``mean_descriptor`` is a file of the test data."""
        return build_suite(self.assets, mean_descriptor, self.device)

    def clip_suite(self, mean_descriptor: Path) -> ClipSuite:
        """The metrics of clips."""
        return build_clip_suite(self.assets, mean_descriptor, self.device)

    @property
    def inputs(self) -> dict[str, Path]:
        """What the provenance of a result hashes, by name."""
        return {"assets": self.assets, "weights": self.weights}

    def weights_of(self, method: str) -> list[Path]:
        """The files that decide what a method makes: the picture heads and its own, or all where none has its name."""
        if not self.has_weights(method):
            return sorted(self.weights.glob("*.safetensors"))
        names = ("picture_head", *WEIGHTS.get(method, (method,)))
        return [self.weights / f"{name}.safetensors" for name in names]
