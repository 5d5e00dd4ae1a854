"""Identity as the pSp family and the paper measure it: cosine of CurricularFace embeddings of MTCNN's crops.

CurricularFace is an IR-101 (Huang et al., CVPR 2020). Each picture on its own goes through :mod:`eval.metrics.mtcnn`
at the size that it has on disk; the official scripts leave a pair out of the mean where either picture has no face.
Here such a pair has no value and the reason is stated; :mod:`eval.protocol` also has the mean with it as 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from eval.metrics.identity import Pixels, pixels_of
from eval.metrics.metric import Column, Outcome
from eval.metrics.mtcnn import MTCNN
from fse.checkpoints.checkpoint import official_network
from fse.checkpoints.reader import read_checkpoint
from fse.face_recognition import IRFace

Embeddings = list[Tensor | None]
"""A vector (512,) of length 1 a picture, on the CPU; None where it has no face."""


class CurricularFace:
    """MTCNN's crop, and IR-101's embedding of it."""

    key: ClassVar[str] = "id_curricular"
    label: ClassVar[str] = "ID"
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = ""
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    companions: ClassVar[tuple[Column, ...]] = ()

    def __init__(self, detector: MTCNN, network: IRFace) -> None:
        self.detector, self.network = detector, network.eval()

    @classmethod
    def load(cls, backbone: Path, mtcnn: Mapping[str, Path], device: str | torch.device = "cpu") -> CurricularFace:
        """``CurricularFace_Backbone.pth``; ``pnet``, ``rnet`` and ``onet`` -> ``.npy`` files.

        Raises Refusal if one is missing, damaged, or holds another network.
        """
        checkpoint = read_checkpoint(backbone)
        remedy = "obtain CurricularFace_Backbone.pth again"
        network = official_network(IRFace, checkpoint.tensors, checkpoint.options, backbone, remedy)
        return cls(MTCNN.load(mtcnn).to(device), network.to(device))

    @torch.inference_mode()
    def features(self, pictures: Tensor) -> Embeddings:
        """(B, 3, H, W), RGB in [-1, 1] -> embeddings."""
        crops = [self.detector.crop(pixels) for pixels in pixels_of(pictures)]
        return embedded(crops, self._embed)

    def _embed(self, crops: Sequence[Pixels]) -> Tensor:
        device = next(self.network.parameters()).device
        faces = torch.stack([torch.from_numpy(crop) for crop in crops]).to(device)
        vectors: Tensor = self.network(faces.permute(0, 3, 1, 2).float().div(127.5).sub(1))
        return vectors.float().cpu()

    def compare(self, source: Embeddings, reconstructions: Tensor) -> Outcome:
        return compared(self.key, source, self.features(reconstructions))


def embedded(crops: Sequence[Pixels | None], embed: Callable[[Sequence[Pixels]], Tensor]) -> Embeddings:
    """The embeddings of the crops that are there, in their places."""
    found = [crop for crop in crops if crop is not None]
    vectors = iter(embed(found) if found else ())
    return [None if crop is None else next(vectors) for crop in crops]


def compared(key: str, source: Embeddings, reconstructions: Embeddings) -> Outcome:
    """Cosines of embeddings of length 1; a pair without one of its faces is a failure."""
    cosines, failures = [], {}
    for index, (x, y) in enumerate(zip(source, reconstructions, strict=True)):
        if x is None or y is None:
            failures[index] = f"no face found in the {'source' if x is None else 'reconstruction'}"
        cosines.append(math.nan if x is None or y is None else float(x.double() @ y.double()))
    return Outcome({key: cosines}, failures)
