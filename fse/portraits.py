"""What a user hands in (files, folders, images, arrays, tensors) as named pictures of the generator's size."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from fse.alignment import FaceAligner, cut_square, face_square
from fse.pictures import image_from_tensor, list_pictures, open_picture, square_tensor, tensor_from_image
from fse.refusal import Refusal

Source: TypeAlias = "str | os.PathLike[str] | Image.Image | NDArray[np.uint8] | Tensor"
"""One thing that holds pictures: a PNG, JPEG or WebP file, or a folder of them; an image of Pillow; an array (H, W, 3)
or (B, H, W, 3) of 8 bits; a tensor (3, H, W) or (B, 3, H, W) in [-1, 1]. Always RGB."""

Align: TypeAlias = "bool | Literal['every']"
"""False: pictures are aligned already. True: the largest face of each is cut out in the FFHQ template. ``"every"``:
every face of each, from left to right."""


@dataclass(frozen=True)
class Portrait:
    """One picture, (3, R, R) in [-1, 1], and its name."""

    name: str
    picture: Tensor


class PortraitReader:
    """Reads what a user hands in, at ``resolution`` pixels; aligning faces needs dlib's file ``landmarks_model``."""

    def __init__(self, resolution: int, landmarks_model: Path | None = None) -> None:
        self.resolution = resolution
        self.landmarks_model = landmarks_model

    @cached_property
    def aligner(self) -> FaceAligner:
        """Loaded when it is first wanted."""
        if self.landmarks_model is None:
            raise Refusal("faces cannot be aligned without the landmark model; give its file, or aligned pictures")
        return FaceAligner(self.landmarks_model)

    def read(self, sources: Source | Sequence[Source], align: Align = False) -> list[Portrait]:
        """Every picture of ``sources``, in order; files keep their names, without suffix.

        Pictures of another size are resized as the official scripts do it.

        Raises
        ------
        Refusal
            When a file cannot be read, has no face where one is to be aligned, or is neither square nor to be aligned.
        TypeError, ValueError
            When an object is no picture.
        """
        return [portrait for source in _listed(sources) for portrait in self._read(source, align)]

    def _read(self, source: Source, align: Align) -> list[Portrait]:
        if isinstance(source, str | os.PathLike):
            path = Path(source).expanduser()
            files = list_pictures(path) if path.is_dir() else [path]
            return [
                each for file in files for each in self._from_image(open_picture(file), file.stem, str(file), align)
            ]
        if isinstance(source, Image.Image):
            return self._from_image(source.convert("RGB"), *_name_of(source), align)
        if isinstance(source, Tensor):
            return self._from_tensor(source, align)
        if isinstance(source, np.ndarray):
            return [
                each for image in _images(source) for each in self._from_image(image, "picture", "the picture", align)
            ]
        raise TypeError(f"a picture is a path, an image, an array or a tensor, not {type(source).__name__}")

    def _from_image(self, image: Image.Image, name: str, called: str, align: Align) -> list[Portrait]:
        if not align:
            return [Portrait(name, square_tensor(image, called, self.resolution))]
        faces = self.aligner.landmarks(image)
        if not faces:
            raise Refusal(f"no face was found in {called}; use a frontal face of at least 40 pixels")
        if align != "every":
            faces = [max(faces, key=lambda points: face_square(points).side)]
        return [
            Portrait(
                name if len(faces) == 1 else f"{name}_{number}",
                tensor_from_image(cut_square(image, face_square(points), self.resolution)),
            )
            for number, points in enumerate(faces)
        ]

    def _from_tensor(self, pictures: Tensor, align: Align) -> list[Portrait]:
        batch = pictures[None] if pictures.ndim == 3 else pictures
        if batch.ndim != 4 or batch.shape[1] != 3 or not batch.is_floating_point():
            shape = tuple(pictures.shape)
            raise ValueError(f"a tensor of pictures is (3, H, W) or (B, 3, H, W), floats, not {shape} {pictures.dtype}")
        if not batch.isfinite().all() or batch.abs().max() > 4:  # renders are about [-1, 1]
            raise ValueError("pictures lie in [-1, 1], and this tensor does not")
        if align:
            return [
                each
                for picture in batch
                for each in self._from_image(image_from_tensor(picture), "picture", "the picture", align)
            ]
        height, width = batch.shape[2:]
        if height != width:
            raise Refusal(f"the picture is {width} x {height} pixels, not square; align the faces or crop it first")
        if width != self.resolution:  # as Pillow does with images
            size = (self.resolution, self.resolution)
            batch = interpolate(batch.float(), size=size, mode="bilinear", antialias=True)
        return [Portrait("picture", picture) for picture in batch.float()]


def _listed(sources: Source | Sequence[Source]) -> Iterator[Source]:
    if isinstance(sources, list | tuple):
        yield from sources
    else:
        yield sources  # type: ignore[misc]


def _name_of(image: Image.Image) -> tuple[str, str]:
    """The stem of the file that Pillow opened, and how a message calls the image."""
    filename = str(getattr(image, "filename", ""))
    return (Path(filename).stem, filename) if filename else ("picture", "the picture")


def _images(pictures: NDArray[Any]) -> list[Image.Image]:
    batch = pictures[None] if pictures.ndim == 3 else pictures
    if batch.ndim != 4 or batch.shape[3] != 3 or batch.dtype != np.uint8:
        shape = tuple(pictures.shape)
        raise ValueError(f"an array of pictures is (H, W, 3) or (B, H, W, 3), uint8, not {shape} {pictures.dtype}")
    return [Image.fromarray(np.ascontiguousarray(picture)) for picture in batch]


def stacked(portraits: Sequence[Portrait]) -> Tensor:
    """(B, 3, R, R)."""
    return torch.stack([portrait.picture for portrait in portraits])
