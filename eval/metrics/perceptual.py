"""Learned perceptual distances: ST-LPIPS always, LPIPS where its trunk's weights are on the machine."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import ClassVar

import lpips
from torch import Tensor

from eval.metrics.hub_cache import cached_weights
from eval.metrics.metric import Column, Outcome
from fse.lpips_alexnet import read_trunk
from fse.perceptual import STLPIPS


class STLPIPSDistance:
    """ST-LPIPS, AlexNet (``fse.perceptual``)."""

    key: ClassVar[str] = "st_lpips"
    label: ClassVar[str] = "ST-LPIPS"
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = ""
    range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    companions: ClassVar[tuple[Column, ...]] = ()

    def __init__(self, network: STLPIPS) -> None:
        self.network = network

    def features(self, pictures: Tensor) -> list[Tensor]:
        return self.network.features(pictures)

    def compare(self, source: list[Tensor], reconstructions: Tensor) -> Outcome:
        return Outcome({self.key: self.network.distance(source, self.network.features(reconstructions)).tolist()})


class LPIPSDistance:
    """LPIPS v0.1, AlexNet, by the package ``lpips``, which ships the linear weights."""

    key: ClassVar[str] = "lpips"
    label: ClassVar[str] = "LPIPS"
    higher_is_better: ClassVar[bool] = False
    unit: ClassVar[str] = ""
    range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    companions: ClassVar[tuple[Column, ...]] = ()

    def __init__(self, trunk: Mapping[str, Tensor]) -> None:
        """``trunk``: torchvision's AlexNet state dict, of which the convolutions are used."""
        with warnings.catch_warnings():  # lpips calls torchvision by its old signature
            warnings.simplefilter("ignore", UserWarning)
            self.network = lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)
        slices = {
            name: f"features.{name.split('.', 1)[1]}" for name in self.network.net.state_dict()
        }  # slice2.3.weight is features.3.weight
        self.network.net.load_state_dict({name: trunk[source] for name, source in slices.items()})
        self.network.requires_grad_(False)

    @classmethod
    def cached(cls) -> LPIPSDistance | None:
        """With the trunk in torch hub's cache, or None if it is not there."""
        path = cached_weights("alexnet-owt-7be5be79.pth", "7be5be79")
        return None if path is None else cls(read_trunk(path))

    def features(self, pictures: Tensor) -> Tensor:
        return pictures  # the package compares pictures only

    def compare(self, source: Tensor, reconstructions: Tensor) -> Outcome:
        return Outcome({self.key: self.network(source, reconstructions).flatten().tolist()})
