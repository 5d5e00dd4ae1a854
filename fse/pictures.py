"""Pictures on disk: read, resized as the protocols of the field do, written, listed and paired by name.

In memory a picture is a float32 tensor (3, H, W), RGB, in [-1, 1]; a batch is (B, 3, R, R). Colour profiles
are not applied, as in every official script of the compared methods.
"""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from fse.refusal import Refusal

ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {  # by suffix: Pillow's name of the format, and its options
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"quality": 95}),
}
SUFFIXES = tuple(ENCODERS)


def open_picture(path: Path | IO[bytes], *, upright: bool = True) -> Image.Image:
    """The picture of a PNG, JPEG or WebP file: upright (EXIF orientation applied), mode RGB, any shape.

    ``path`` may be the file's content, which messages call by its ``str``; ``upright`` False leaves the orientation
    as it is stored, as the official scripts do.

    Greyscale, palette and 1-bit files become RGB; 16-bit files keep their upper 8 bits; an alpha channel is
    dropped if it is opaque everywhere.

    Raises:
        Refusal: the file is absent, damaged, truncated, of another format, animated, CMYK, partly
        transparent, or
            larger than Pillow's limit against decompression bombs (89 megapixels).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as file:
                frames, kind = getattr(file, "n_frames", 1), file.format
                image = ImageOps.exif_transpose(file) if upright else file.copy()
    except FileNotFoundError as error:
        raise Refusal(f"there is no picture {path}; check the name") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise Refusal(f"{path} has more than {Image.MAX_IMAGE_PIXELS} pixels; make it smaller before use") from error
    except UnidentifiedImageError as error:
        raise Refusal(f"{path} is not a PNG, JPEG or WebP picture; convert it to PNG") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        raise Refusal(f"{path} cannot be read as a picture ({error}); replace the file") from error
    if frames > 1 and kind != "MPO":  # the first picture of a camera's MPO file is the photograph
        raise Refusal(f"{path} is animated ({frames} frames); save the wanted frame as a PNG")
    if image.mode == "I;16":
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise Refusal(f"{path} is partly transparent; flatten it onto a background first")
    if image.mode not in ("1", "L", "P", "RGB", "RGBA"):
        raise Refusal(f"{path} has the colour mode {image.mode}; convert it to RGB")
    return image.convert("RGB")


def tensor_from_image(image: Image.Image) -> Tensor:
    """An RGB image as (3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div_(127.5).sub_(1).contiguous()


def image_from_tensor(picture: Tensor) -> Image.Image:
    """(3, H, W), clamped to [-1, 1] and rounded to 8 bits, as an RGB image; raises ValueError on NaN."""
    if picture.ndim != 3 or picture.shape[0] != 3:
        raise ValueError(f"a picture is (3, H, W), not {tuple(picture.shape)}")
    if picture.isnan().any():
        raise ValueError("the picture holds NaN")
    pixels = picture.detach().float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy())


def read_picture(path: Path, resolution: int | None = None) -> Tensor:
    """The square picture of ``path`` as (3, R, R) in [-1, 1], float32.

    ``resolution`` R: resized in 8 bits by PIL bilinear with antialiasing (torchvision's ``Resize`` on a PIL
    image, the resize of the official scripts); None keeps the file's size. Raises Refusal as
    :func:`open_picture` does, and if the picture is not square.
    """
    return square_tensor(open_picture(path), str(path), resolution)


def square_tensor(image: Image.Image, name: str, resolution: int | None = None) -> Tensor:
    """What :func:`read_picture` gives, of an RGB image; ``name`` is for the Refusal of one that is not square."""
    width, height = image.size
    if width != height:
        raise Refusal(f"{name} is {width} x {height} pixels, not square; align the faces or crop it first")
    if resolution is not None and resolution != width:
        image = image.resize((resolution, resolution), Image.Resampling.BILINEAR)
    return tensor_from_image(image)


def write_picture(picture: Tensor | Image.Image, path: Path) -> None:
    """Write (3, H, W) in [-1, 1], or an RGB image, in 8 bits, whole or not at all; parent folders are made.

    The suffix chooses PNG, JPEG or WebP (both at quality 95). Raises Refusal for another, and if it cannot be written.
    """
    if path.suffix.lower() not in ENCODERS:
        raise Refusal(f"{path} was not written: pictures are {', '.join(SUFFIXES)}; choose one of these suffixes")
    kind, options = ENCODERS[path.suffix.lower()]
    image = picture if isinstance(picture, Image.Image) else image_from_tensor(picture)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            image.save(partial, format=kind, **options)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise Refusal(f"the picture {path} cannot be written ({error}); make room or choose another folder") from error


def list_pictures(folder: Path) -> list[Path]:
    """The PNG, JPEG and WebP files directly in ``folder``, sorted by name; raises Refusal if there are
    none."""
    if not folder.is_dir():
        raise Refusal(f"there is no folder of pictures {folder}; check the name")
    paths = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )
    if not paths:
        raise Refusal(f"the folder {folder} holds no picture ({', '.join(SUFFIXES)})")
    return paths


class PictureFolder:
    """The square pictures of a folder under their names (without suffix), read when asked for.

    A map-style data set: ``folder[i]`` is (name, (3, R, R)). Raises Refusal if the folder is absent or empty,
    or if two files differ in their suffix alone.
    """

    def __init__(self, folder: Path, resolution: int | None = None) -> None:
        self.folder, self.resolution = folder, resolution
        self.paths: dict[str, Path] = {}
        for path in list_pictures(folder):
            if (other := self.paths.setdefault(path.stem, path)) is not path:
                raise Refusal(f"{other} and {path.name} have the same name; rename or remove one of them")

    @property
    def names(self) -> list[str]:
        return list(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[str, Tensor]:
        name = self.names[index]
        return name, self.read(name)

    def read(self, name: str) -> Tensor:
        """The picture called ``name``; raises Refusal if there is none."""
        if name not in self.paths:
            raise Refusal(f"{self.folder} holds no picture called {name}; produce it or remove its partner")
        return read_picture(self.paths[name], self.resolution)


def batches(batch_size: int, *folders: PictureFolder) -> Iterator[tuple[list[str], tuple[Tensor, ...]]]:
    """Stream the pictures of ``folders``, paired by name in the first's order: names and a (B, 3, R, R) each.

    At most one batch is in memory. Raises Refusal before the first batch if another folder lacks a name (a
    folder may hold more), and if the sizes within a batch differ.
    """
    for folder in folders[1:]:
        if missing := [name for name in folders[0].names if name not in folder.paths]:
            raise Refusal(
                f"{folder.folder} lacks {missing[0]} and {len(missing) - 1} more of the pictures of "
                f"{folders[0].folder}; produce them or remove their partners"
            )
    remaining = iter(folders[0].names)
    while names := list(islice(remaining, batch_size)):
        yield names, tuple(_stack(folder, names) for folder in folders)


def _stack(folder: PictureFolder, names: list[str]) -> Tensor:
    pictures = [folder.read(name) for name in names]
    for name, picture in zip(names, pictures, strict=True):
        if picture.shape != pictures[0].shape:
            raise Refusal(
                f"{folder.paths[name]} is {picture.shape[-1]} pixels wide but {names[0]} is "
                f"{pictures[0].shape[-1]}; give a resolution or resize it"
            )
    return torch.stack(pictures)
