"""Pictures for the stand-ins of data sets: faces by the embedded generator, and photographs that scikit-image ships."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image, ImageOps
from skimage import data

from fse.generators.style_generator import StyleGenerator
from fse.latents import sample_z, truncate
from fse.pictures import image_from_tensor

_TRUNCATION = 0.7
CATS: Sequence[str] = ("chelsea",)
DOGS: Sequence[str] = ("rocket", "coffee")
CARS: Sequence[str] = ("rocket", "coffee", "astronaut")
"""Names in ``skimage.data`` of photographs inside the package. One is a cat; the others only have to decode."""


@torch.no_grad()
def faces(generator: StyleGenerator, seed: int, count: int, side: int) -> Iterator[Image.Image]:
    """Renders of different people, enlarged to ``side``."""
    codes = truncate(generator.map(sample_z(seed, count)), generator.mean_code, _TRUNCATION)
    for code in codes:
        render = image_from_tensor(generator.synthesize(code[None])[0])
        yield render.resize((side, side), Image.Resampling.BICUBIC)


def photographs(names: Sequence[str], seed: int, count: int, size: tuple[int, int]) -> Iterator[Image.Image]:
    """``count`` different cuts of (width, height), some mirrored, out of the photographs ``names``."""
    random = np.random.default_rng(seed)
    images = [Image.fromarray(getattr(data, name)()) for name in names]
    for number in range(count):
        image = images[number % len(images)]
        width, height = (round(side * random.uniform(0.6, 0.9)) for side in image.size)
        left, top = int(random.integers(image.width - width)), int(random.integers(image.height - height))
        cut = ImageOps.fit(image.crop((left, top, left + width, top + height)), size, Image.Resampling.BICUBIC)
        yield ImageOps.mirror(cut) if random.random() < 0.5 else cut


def encoded(image: Image.Image, kind: str) -> bytes:
    """As a file: ``JPEG``, or ``PNG`` without much compression, which takes long at 1024 px."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 92} if kind == "JPEG" else {"compress_level": 1}))
    return buffer.getvalue()
