"""The losses of faces: Eq. (6), identity at several levels of ArcFace, and Eq. (7), agreement of a face parser's maps.

Both are applied to both reconstructions (paper, section 4.1), so what they need of the picture is computed once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fse.bisenet import BiSeNet, Logits, parsing_terms
from fse.face_recognition import ArcFace, identity_distances
from fse.losses import single


class FaceFeatures(NamedTuple):
    """Of pictures: ArcFace's five levels, and the parser's three maps of logits; None without that network."""

    levels: list[Tensor] | None
    logits: Logits | None


class FaceLosses(nn.Module):
    """L_id and L_parse of reconstructions (B, 3, R, R) in [-1, 1], averaged over the batch.

    Parameters
    ----------
    recognition : ArcFace, optional
        R of Eq. (6), which sees pictures whole, at 112 px by nearest neighbour, as in the FSE release. The equation's
        five levels are the four stages and the embedding. None leaves the loss out.
    parsing : BiSeNet, optional
        P of Eq. (7), at 512 px. The equation sums five levels; the release, and this, the three maps that the published
        network gives. None leaves the loss out.
    """

    def __init__(self, recognition: ArcFace | None, parsing: BiSeNet | None) -> None:
        super().__init__()
        self.recognition, self.parsing = recognition, parsing
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def target(self, pictures: Tensor) -> FaceFeatures:
        """What pictures (B, 3, R, R) are compared by, without gradient; for any number of reconstructions."""
        return self._features(pictures)

    def forward(self, reconstruction: Tensor, target: FaceFeatures) -> dict[str, Tensor]:
        """``identity`` (Eq. 6) and ``parsing`` (Eq. 7), each a scalar in single precision, of the networks given."""
        found, terms = self._features(reconstruction), {}
        if found.levels is not None and target.levels is not None:
            # The cosine of a good reconstruction is nearly 1, which half precision cannot tell from it.
            levels, wanted = ([single(level) for level in each] for each in (found.levels, target.levels))
            terms["identity"] = identity_distances(levels, wanted).sum(0).mean()
        if found.logits is not None and target.logits is not None:
            terms["parsing"] = parsing_terms(found.logits, target.logits).sum(0).mean()
        return terms

    def _features(self, pictures: Tensor) -> FaceFeatures:
        levels = self.recognition.levels(pictures) if self.recognition is not None else None
        logits = self.parsing(self.parsing.prepare(pictures)) if self.parsing is not None else None
        return FaceFeatures(levels, logits)
