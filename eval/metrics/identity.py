"""Identity by dlib: does the reconstruction show the same person?

Each picture on its own goes through dlib's frontal face detector (HOG, faces from 80 px, and from 40 px by doubling
the picture if none is found), the 68 landmarks of the largest face, a similarity transform to dlib's 150 px chip with
a padding of .25, and the ResNet descriptor of 128 numbers. Detecting in the reconstruction too is the field's
protocol; where either picture has no face, the pair has no value and the reason is stated.

Raw descriptors of different people have an average cosine of .83, as they share a large common part. ``id``
is therefore the cosine after a fixed mean descriptor is subtracted, which averages about 0 between different
people. Beside it, ``id_same`` tells whether dlib calls the pair one person: Euclidean distance of raw
descriptors under .6.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import dlib
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from eval.metrics.metric import Column, Outcome
from fse.refusal import Refusal

Descriptor = NDArray[np.float64]
"""(128,)"""

Pixels = NDArray[np.uint8]

Box = tuple[int, int, int, int]
"""Left, top, right and bottom edge in pixels."""

SAME_PERSON = 0.6
"""dlib's threshold for the Euclidean distance of two descriptors."""

_LENGTH, _CHIP, _PADDING = 128, 150, 0.25


@dataclass(frozen=True)
class Face:
    """What the detector and the descriptor network say of a face."""

    box: Box
    descriptor: Descriptor


class FaceDescriptor:
    """dlib's detector, landmark predictor and descriptor network; on the CPU."""

    def __init__(self, folder: Path) -> None:
        """``folder`` holds ``shape_predictor_68_face_landmarks.dat`` and
        ``dlib_face_recognition_resnet_model_v1.dat``.

        Raises Refusal if one is absent or damaged.
        """
        self._detector = dlib.get_frontal_face_detector()
        self._landmarks = _model(dlib.shape_predictor, folder / "shape_predictor_68_face_landmarks.dat")
        self._network = _model(dlib.face_recognition_model_v1, folder / "dlib_face_recognition_resnet_model_v1.dat")

    def __call__(self, pictures: Tensor) -> list[Descriptor | None]:
        """(B, 3, H, W), RGB in [-1, 1] (rounded to 8 bits) -> the largest face of each, or None without a
        face.
        """
        return [None if face is None else face.descriptor for face in self.faces(pictures)]

    def faces(self, pictures: Tensor) -> list[Face | None]:
        """The same, with the box that each was found in."""
        return [self._face(each) for each in pixels_of(pictures)]

    def landmarks(self, pixels: Pixels, box: Box) -> NDArray[np.float64]:
        """The 68 landmarks (68, 2), x and y, that the predictor sees in a box of 8-bit RGB ``pixels`` (H, W, 3)."""
        found = self._landmarks(pixels, dlib.rectangle(*box))
        return np.array([(point.x, point.y) for point in found.parts()], dtype=np.float64)

    def _face(self, pixels: Pixels) -> Face | None:
        faces = self._detector(pixels, 0) or self._detector(pixels, 1)
        if not faces:
            return None
        box = max(faces, key=lambda face: face.area())
        chip = dlib.get_face_chip(pixels, self._landmarks(pixels, box), _CHIP, _PADDING)
        descriptor = np.array(self._network.compute_face_descriptor(chip), dtype=np.float64)
        return Face((box.left(), box.top(), box.right(), box.bottom()), descriptor)


def pixels_of(pictures: Tensor) -> list[Pixels]:
    """(B, 3, H, W) in [-1, 1] -> B pictures (H, W, 3) of 8 bits, as dlib and OpenCV take them."""
    rounded = pictures.add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [np.ascontiguousarray(each) for each in rounded]


@dataclass(frozen=True)
class MeanDescriptor:
    """The common part of descriptors, and how many pictures it was averaged over and how many had no face."""

    values: Descriptor
    count: int
    failed: int = 0

    def write(self, path: Path, provenance: Mapping[str, Any] | None = None) -> None:
        record = {"count": self.count, "failed": self.failed, "provenance": dict(provenance or {})}
        path.write_text(json.dumps(record | {"values": self.values.tolist()}, indent=1, sort_keys=True) + "\n")

    @classmethod
    def read(cls, path: Path) -> MeanDescriptor:
        """What ``write`` wrote. Raises Refusal if the file is absent or of another form."""
        try:
            record = json.loads(path.read_text())
            values = np.array(record["values"], dtype=np.float64)
            mean = cls(values, int(record["count"]), int(record["failed"]))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise Refusal(f"the mean descriptor {path} cannot be read ({error!r}); run `dvc repro`") from error
        if values.shape != (_LENGTH,) or not np.isfinite(values).all():
            raise Refusal(f"the mean descriptor {path} does not hold {_LENGTH} finite numbers; run `dvc repro`")
        return mean


def mean_descriptor(pictures: Iterable[Tensor], describe: FaceDescriptor) -> MeanDescriptor:
    """Average over batches (B, 3, H, W) in [-1, 1]. Raises Refusal if no picture has a face."""
    total, count, failed = np.zeros(_LENGTH), 0, 0
    for batch in pictures:
        for descriptor in describe(batch):
            if descriptor is None:
                failed += 1
            else:
                total, count = total + descriptor, count + 1
    if count == 0:
        raise Refusal(f"no face was found in any of {failed} pictures, so there is no mean descriptor; use portraits")
    return MeanDescriptor(total / count, count, failed)


def centred_cosine(x: Descriptor, y: Descriptor, mean: Descriptor) -> float:
    """Cosine of the angle between x - mean and y - mean."""
    x, y = x - mean, y - mean
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


class Identity:
    """Cosine of centred dlib descriptors, and dlib's own verdict beside it."""

    key: ClassVar[str] = "id"
    label: ClassVar[str] = "ID (dlib)"
    higher_is_better: ClassVar[bool] = True
    unit: ClassVar[str] = ""
    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    companions: ClassVar[tuple[Column, ...]] = (Column("id_same", "ID same (dlib)", True, "", (0.0, 1.0)),)

    def __init__(self, describe: FaceDescriptor, mean: MeanDescriptor) -> None:
        self.describe = describe
        self.mean = mean

    def features(self, pictures: Tensor) -> list[Descriptor | None]:
        return self.describe(pictures)

    def compare(self, source: Sequence[Descriptor | None], reconstructions: Tensor) -> Outcome:
        cosines, same, failures = [], [], {}
        for index, (x, y) in enumerate(zip(source, self.describe(reconstructions), strict=True)):
            if x is None or y is None:
                failures[index] = f"no face found in the {'source' if x is None else 'reconstruction'}"
                cosines.append(math.nan)
                same.append(math.nan)
            else:
                cosines.append(centred_cosine(x, y, self.mean.values))
                same.append(float(np.linalg.norm(x - y) < SAME_PERSON))
        return Outcome({"id": cosines, "id_same": same}, failures)


def _model(kind: type[Any], path: Path) -> Any:
    if not path.is_file():
        raise Refusal(f"there is no dlib model {path}; run `python -m pipelines.assets`")
    try:
        return kind(str(path))
    except RuntimeError as error:
        raise Refusal(f"{path} is no {kind.__name__} of dlib ({error}); run `python -m pipelines.assets`") from error
