"""MTCNN (Zhang et al., IEEE SPL 2016), the face detector in front of the pSp family's identity metric.

Three small networks look at a pyramid of the picture, at the places that the first has found, and at those that the
second has left. The form is that of TreB1eN's port as pSp, e4e, ReStyle and HFGI ship it (faces from 20 px, thresholds
.15, .25 and .35, non-maximum suppression at .7), with four habits of it that other ports have not, and that change
which face is found where. The field's identity numbers are measured with them, so they are kept:

- The first network's softmax runs along the rows of its map and not over its two classes: a place is proposed that has
  more than 15 % of its row. So each row of each scale proposes at most six places, however clear the face is.
- A square that reaches beyond the picture is filled up with black for the network, and then cut off at the edge: what
  the network said of the square is applied to what is left of it.
- Of the faces that are found the one of the highest score counts, wherever it lies.
- The crop's similarity transform is fitted from the template to the face and inverted, with and without a mirror, and
  both are compared with the *mirrored* template (the script overwrites its copy): a face turned far aside, whose
  landmarks lie closer than about half of a frontal face's, comes out mirrored and stretched.

Held against that procedure with the official arrays on 78 pictures (real faces, whole, reduced, cut and turned): the
same faces, landmarks within 0.0002 px, crops within one grey level.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from eval.metrics.identity import Pixels
from fse.checkpoints.checkpoint import load_parameters
from fse.checkpoints.numpy_file import read_numpy_dictionary

Boxes = NDArray[np.float64]
"""(N, 5): left, top, right, bottom in pixels, both ends inside, and the score."""

Landmarks = NDArray[np.float64]
"""(N, 5, 2): eyes, tip of the nose, corners of the mouth, from left to right; x and y in pixels."""

SMALLEST_FACE = 20.0
"""Pixels."""

CROP = 112

TEMPLATE = np.array(
    [(38.29459953, 51.69630051), (73.53179932, 51.50139999), (56.02519989, 71.73660278), (41.54930115, 92.3655014),
     (70.72990036, 92.20410156)]
)  # fmt: skip
"""Where ArcFace's networks expect the five landmarks in a crop of 112 px."""

_THRESHOLDS = (0.15, 0.25, 0.35)
_OVERLAP = 0.7
_OVERLAP_WITHIN_A_SCALE = 0.5
_STEP = 0.707
_WINDOW, _STRIDE = 12, 2  # of the first network
_LARGEST = 4  # times the picture's longer side
_REMEDY = "take the three arrays out of the repository of pSp or ReStyle again"


class _Flatten(nn.Module):
    """Columns first, as in Caffe, where the weights are from."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(3, 2).flatten(1)


class ProposalNet(nn.Module):
    """P-Net: pictures (B, 3, H, W) -> logits (B, 2, h, w) of "no face" and "face", offsets (B, 4, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential()
        _add_convolutions(self.features, (3, 10, 16, 32), (3, 3, 3), (2, 0, 0))
        self.conv4_1 = nn.Conv2d(32, 2, 1)
        self.conv4_2 = nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.features(x)
        return self.conv4_1(x), self.conv4_2(x)


class RefinementNet(nn.Module):
    """R-Net: (B, 3, 24, 24) -> logits (B, 2), offsets (B, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential()
        _add_convolutions(self.features, (3, 28, 48, 64), (3, 3, 2), (3, 3, 0))
        self.features.add_module("flatten", _Flatten())
        self.features.add_module("conv4", nn.Linear(576, 128))
        self.features.add_module("prelu4", nn.PReLU(128))
        self.conv5_1 = nn.Linear(128, 2)
        self.conv5_2 = nn.Linear(128, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.features(x)
        return self.conv5_1(x), self.conv5_2(x)


class OutputNet(nn.Module):
    """O-Net: (B, 3, 48, 48) -> logits (B, 2), offsets (B, 4), landmarks (B, 10): five x, then five y."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential()
        _add_convolutions(self.features, (3, 32, 64, 64, 128), (3, 3, 3, 2), (3, 3, 2, 0))
        self.features.add_module("flatten", _Flatten())
        self.features.add_module("conv5", nn.Linear(1152, 256))  # dropout follows in training
        self.features.add_module("prelu5", nn.PReLU(256))
        self.conv6_1 = nn.Linear(256, 2)
        self.conv6_2 = nn.Linear(256, 4)
        self.conv6_3 = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.features(x)
        return self.conv6_1(x), self.conv6_2(x), self.conv6_3(x)


def _add_convolutions(
    features: nn.Sequential, widths: tuple[int, ...], kernels: tuple[int, ...], pools: tuple[int, ...]
) -> None:
    """Convolution, PReLU and, where its kernel is not 0, a maximum of stride 2; by the official names."""
    for i, (kernel, pool) in enumerate(zip(kernels, pools, strict=True), 1):
        features.add_module(f"conv{i}", nn.Conv2d(widths[i - 1], widths[i], kernel))
        features.add_module(f"prelu{i}", nn.PReLU(widths[i]))
        if pool:
            features.add_module(f"pool{i}", nn.MaxPool2d(pool, 2, ceil_mode=True))


class MTCNN(nn.Module):
    """The detector, and ArcFace's crop of the first face that it finds."""

    def __init__(self) -> None:
        super().__init__()
        self.pnet, self.rnet, self.onet = ProposalNet(), RefinementNet(), OutputNet()
        self.eval().requires_grad_(False)

    @classmethod
    def load(cls, files: Mapping[str, Path]) -> MTCNN:
        """From ``pnet``, ``rnet`` and ``onet`` -> the official ``.npy`` files.

        Raises Refusal if one is missing, damaged, or holds another network.
        """
        detector = cls()
        for name, network in detector.named_children():
            load_parameters(network, read_numpy_dictionary(files[name], _REMEDY), files[name], _REMEDY)
        return detector

    def crop(self, picture: Pixels) -> Pixels | None:
        """The first face of an RGB picture (H, W, 3), 8 bits, cut to (112, 112, 3); None where none is found."""
        _, landmarks = self.detect(picture)
        return None if len(landmarks) == 0 else warp_to_template(picture, landmarks[0])

    @torch.inference_mode()
    def detect(self, picture: Pixels) -> tuple[Boxes, Landmarks]:
        """All faces of an RGB picture (H, W, 3), 8 bits, the highest score first."""
        none = np.empty((0, 5)), np.empty((0, 5, 2))
        image = Image.fromarray(picture)
        found = [self._propose(image, scale) for scale in _scales(*image.size)]
        if not sum(map(len, found)):
            return none
        proposals = np.concatenate(found)
        proposals = proposals[suppressed(proposals[:, :5], _OVERLAP)]
        boxes = self._sensible(_rounded_square(_moved(proposals[:, :5], proposals[:, 5:])), picture)

        logits, offsets = self.rnet(self._cut(picture, boxes, 24))
        boxes, kept = _scored(_clipped(boxes, picture), logits, _THRESHOLDS[1])
        moves = _array(offsets)[kept]
        chosen = suppressed(boxes, _OVERLAP)
        boxes = self._sensible(_rounded_square(_moved(boxes[chosen], moves[chosen])), picture)

        logits, offsets, points = self.onet(self._cut(picture, boxes, 48))
        boxes, kept = _scored(_clipped(boxes, picture), logits, _THRESHOLDS[2])
        sides = boxes[:, 2:4] - boxes[:, :2] + 1
        landmarks = boxes[:, None, :2] + sides[:, None] * _array(points)[kept].reshape(-1, 2, 5).transpose(0, 2, 1)
        boxes = _moved(boxes, _array(offsets)[kept])
        chosen = suppressed(boxes, _OVERLAP, of_the_smaller=True)
        return boxes[chosen], landmarks[chosen]

    @property
    def _device(self) -> torch.device:
        return self.pnet.conv4_1.weight.device

    def _propose(self, image: Image.Image, scale: float) -> NDArray[np.float64]:
        """Of one scale: (N, 9), boxes with score and offsets."""
        width, height = (math.ceil(side * scale) for side in image.size)
        reduced = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
        logits, offsets = self.pnet(_normalised(torch.from_numpy(reduced[None].copy()).to(self._device)))
        share = _array(logits[0, 1].softmax(-1))  # along the row: see above
        rows, columns = np.nonzero(share > _THRESHOLDS[0])
        corners = np.stack((columns, rows), 1) * _STRIDE + 1.0
        boxes = np.concatenate((np.round(corners / scale), np.round((corners + _WINDOW) / scale)), 1)
        found = np.column_stack((boxes, share[rows, columns], _array(offsets[0])[:, rows, columns].T))
        return found[suppressed(found[:, :5], _OVERLAP_WITHIN_A_SCALE)]

    @staticmethod
    def _sensible(boxes: Boxes, picture: Pixels) -> Boxes:
        """Without squares of no size, or of many times the picture's: weights that are no detector's give such."""
        side = boxes[:, 2] - boxes[:, 0] + 1
        sensible: Boxes = boxes[(side >= 1) & (side <= _LARGEST * max(picture.shape[:2]))]
        return sensible

    def _cut(self, picture: Pixels, boxes: Boxes, side: int) -> Tensor:
        """The squares of ``boxes``, black outside the picture, brought to ``side``: (N, 3, side, side)."""
        height, width = picture.shape[:2]
        cuts = np.zeros((len(boxes), side, side, 3), dtype=np.uint8)
        for cut, (left, top, right, bottom) in zip(cuts, boxes[:, :4].astype(int).tolist(), strict=True):
            square = np.zeros((bottom - top + 1, right - left + 1, 3), dtype=np.uint8)
            x, y, past_x, past_y = max(left, 0), max(top, 0), min(right + 1, width), min(bottom + 1, height)
            if x < past_x and y < past_y:
                square[y - top : past_y - top, x - left : past_x - left] = picture[y:past_y, x:past_x]
            cut[:] = np.asarray(Image.fromarray(square).resize((side, side), Image.Resampling.BILINEAR))
        return _normalised(torch.from_numpy(cuts).to(self._device))


def suppressed(boxes: Boxes, overlap: float, *, of_the_smaller: bool = False) -> list[int]:
    """Non-maximum suppression: the indices of the boxes that stay, the highest score first.

    A box goes if it shares more than ``overlap`` with one that stays: of their union, or of the smaller one's area.
    """
    left, top, right, bottom, score = boxes.T
    area = (right - left + 1) * (bottom - top + 1)
    waiting, kept = np.argsort(score), []
    while len(waiting):
        best, others = waiting[-1], waiting[:-1]
        kept.append(int(best))
        width = np.maximum(0, np.minimum(right[best], right[others]) - np.maximum(left[best], left[others]) + 1)
        height = np.maximum(0, np.minimum(bottom[best], bottom[others]) - np.maximum(top[best], top[others]) + 1)
        shared = width * height
        whole = np.minimum(area[best], area[others]) if of_the_smaller else area[best] + area[others] - shared
        waiting = others[~(shared / whole > overlap)]
    return kept


def warp_to_template(picture: Pixels, landmarks: NDArray[np.float64]) -> Pixels:
    """A picture (H, W, 3) cut to (112, 112, 3) so that five landmarks (5, 2) lie on the template's; black outside."""
    warped: Pixels = cv2.warpAffine(picture, similarity(landmarks, TEMPLATE), (CROP, CROP)).astype(np.uint8)
    return warped


def similarity(points: NDArray[np.float64], template: NDArray[np.float64]) -> NDArray[np.float64]:
    """The transform (2, 3) from ``points`` to ``template``, (N, 2) each, as pSp's script finds it: see above."""
    points, template = (each.astype(np.float32).astype(np.float64) for each in (points, template))  # as there
    mirrored = template * (-1, 1)
    plain = _inverse_fit(points, template)
    other = np.diag((-1.0, 1.0)) @ _inverse_fit(points, mirrored)
    plain_error, other_error = (
        np.linalg.norm(points @ each[:, :2].T + each[:, 2] - mirrored) for each in (plain, other)
    )
    return plain if plain_error <= other_error else other


def _inverse_fit(points: NDArray[np.float64], template: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares of rotation, scale and shift from the template to the points; its inverse (2, 3)."""
    x, y = template.T
    one, zero = np.ones_like(x), np.zeros_like(x)
    equations = np.concatenate((np.stack((x, y, one, zero), 1), np.stack((y, -x, zero, one), 1)))
    (a, b, right, down), *_ = np.linalg.lstsq(equations, points.T.ravel(), rcond=None)
    inverse: NDArray[np.float64] = np.linalg.inv(np.array([[a, b, right], [-b, a, down], [0, 0, 1]]))[:2]
    return inverse


def _scales(width: int, height: int) -> list[float]:
    """Of the pyramid, until a face of the smallest size fills the picture's shorter side."""
    largest, scales = _WINDOW / SMALLEST_FACE, list[float]()
    side = min(width, height) * largest
    while side > _WINDOW:
        scales.append(largest * _STEP ** len(scales))
        side *= _STEP
    return scales


def _normalised(pictures: Tensor) -> Tensor:
    """(B, H, W, 3), 8 bits -> (B, 3, H, W), float32 in about [-1, 1]."""
    return (pictures.permute(0, 3, 1, 2).float() - 127.5) * 0.0078125


def _scored(boxes: Boxes, logits: Tensor, threshold: float) -> tuple[Boxes, NDArray[np.bool_]]:
    """The boxes whose probability of a face is above ``threshold``, with it as their score, and which they are."""
    probability = _array(logits.softmax(-1)[:, 1])
    kept = probability > threshold
    return np.column_stack((boxes[kept, :4], probability[kept])), kept


def _moved(boxes: Boxes, offsets: NDArray[np.float64]) -> Boxes:
    """Each edge by its offset, in sides of the box."""
    sides = np.tile(boxes[:, 2:4] - boxes[:, :2] + 1, 2)
    return np.column_stack((boxes[:, :4] + sides * offsets, boxes[:, 4]))


def _clipped(boxes: Boxes, picture: Pixels) -> Boxes:
    """Cut off at the picture's edges."""
    height, width = picture.shape[:2]
    corners = np.maximum(boxes[:, :2], 0), np.minimum(boxes[:, 2:4], (width - 1, height - 1))
    return np.column_stack((*corners, boxes[:, 4]))


def _rounded_square(boxes: Boxes) -> Boxes:
    """Of the longer side about the same centre, on whole pixels."""
    sides = boxes[:, 2:4] - boxes[:, :2] + 1
    side = sides.max(1, keepdims=True)
    corner = boxes[:, :2] + sides * 0.5 - side * 0.5
    return np.column_stack((np.round(corner), np.round(corner + side - 1), boxes[:, 4]))


def _array(x: Tensor) -> NDArray[np.float64]:
    return x.double().cpu().numpy()
