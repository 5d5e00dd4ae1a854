"""A second opinion on identity, which nobody's training loss has seen: insightface's own detector and ArcFace.

SCRFD (``det_10g.onnx``) finds faces in the picture brought to 640 px, the one of the highest score is cut out by its
five landmarks, and ``w600k_r50.onnx`` embeds it. Both are run by the package insightface, as its users run them.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from insightface.model_zoo.arcface_onnx import ArcFaceONNX
from insightface.model_zoo.scrfd import SCRFD
from insightface.utils.face_align import norm_crop
from torch import Tensor
from torch.nn.functional import normalize

from eval.metrics.curricularface import Embeddings, compared, embedded
from eval.metrics.identity import Pixels, pixels_of
from eval.metrics.metric import Column, Outcome
from fse.refusal import Refusal

_SIDE = 640
_SCORE = 0.5


class ArcFaceIdentity:
    """Cosine of ArcFace's embeddings of SCRFD's crops."""

    key: ClassVar[str] = "id_arcface"
    label: ClassVar[str] = "ID (ArcFace)"
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = ""
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    companions: ClassVar[tuple[Column, ...]] = ()

    def __init__(self, detector: Path, recogniser: Path, device: str | torch.device = "cpu") -> None:
        """``det_10g.onnx`` and ``w600k_r50.onnx`` of the pack buffalo_l.

        Raises Refusal if one is missing or is no such network.
        """
        place = 0 if torch.device(device).type == "cuda" else -1
        self._detector = _loaded(SCRFD, detector)
        if not self._detector.use_kps:
            raise Refusal(f"{detector} gives no landmarks, so it is not det_10g.onnx; unpack buffalo_l.zip again")
        self._detector.prepare(place, input_size=(_SIDE, _SIDE), det_thresh=_SCORE)
        self._recogniser = _loaded(ArcFaceONNX, recogniser)
        self._recogniser.prepare(place)

    def features(self, pictures: Tensor) -> Embeddings:
        """(B, 3, H, W), RGB in [-1, 1] -> embeddings."""
        return embedded([self._crop(pixels) for pixels in pixels_of(pictures)], self._embed)

    def _crop(self, pixels: Pixels) -> Pixels | None:
        bgr = np.ascontiguousarray(pixels[:, :, ::-1])
        _, landmarks = self._detector.detect(bgr)  # the highest score first
        if len(landmarks) == 0:
            return None
        with warnings.catch_warnings():  # it calls scikit-image by its old signature
            warnings.simplefilter("ignore", FutureWarning)
            crop: Pixels = norm_crop(bgr, landmarks[0])
        return crop

    def _embed(self, crops: Any) -> Tensor:
        vectors = [self._recogniser.get_feat(crop)[0] for crop in crops]  # the file may be of batches of one
        return normalize(torch.from_numpy(np.stack(vectors)).double())

    def compare(self, source: Embeddings, reconstructions: Tensor) -> Outcome:
        return compared(self.key, source, self.features(reconstructions))


def _loaded(kind: type[Any], path: Path) -> Any:
    if not path.is_file():
        raise Refusal(f"there is no network {path}; unpack buffalo_l.zip")
    try:
        return kind(str(path))
    except Exception as error:  # ONNX Runtime and the package raise their own, and assertions, for other networks
        raise Refusal(f"{path} is no {kind.__name__} ({error}); unpack buffalo_l.zip again") from error
