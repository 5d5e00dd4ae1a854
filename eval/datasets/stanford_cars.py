"""Stanford Cars: JPEGs of any size, ``cars_train/00001.jpg`` to ``08144``, ``cars_test/00001.jpg`` to ``08041.jpg``.

Read from ``cars_train.tgz`` and ``cars_test.tgz``, what they unpack to, or the mirrors' ``cars_test/cars_test``.

Cars are 512 x 384 here. The official FSE code resizes the picture to that, whatever its shape, and pads 64 rows of
black above and below; the family of pSp resizes it to 256 x 192 and cuts the generator's output, rows 64 to 447 of 512.
Both resizes are of the file itself, so each is a form of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from PIL import Image, ImageOps

from eval.datasets.dataset import DataSet, Form, match, one_folder, pictures
from eval.datasets.tree import join, open_tree

COUNTS = {"train": 8_144, "test": 8_041}
WIDTH, HEIGHT = 512, 384
MARGIN = (WIDTH - HEIGHT) // 2

Split = Literal["train", "test"]


def _full(image: Image.Image) -> Image.Image:
    return image.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)


def _padded(image: Image.Image) -> Image.Image:
    return ImageOps.expand(_full(image), (0, MARGIN, 0, MARGIN), fill=(0, 0, 0))


def _half(image: Image.Image) -> Image.Image:
    return image.resize((WIDTH // 2, HEIGHT // 2), Image.Resampling.BILINEAR)


FORMS = {
    "padded": Form("padded", (WIDTH, WIDTH), _padded),
    "full": Form("full", (WIDTH, HEIGHT), _full),
    "half": Form("half", (WIDTH // 2, HEIGHT // 2), _half),
}
"""``padded`` for FSE (512 x 512), ``half`` for the family of pSp (256 x 192), ``full`` (512 x 384) for measuring."""


def read(
    path: Path,
    split: Split = "test",
    form: str = "padded",
    *,
    allow_partial: bool = False,
    unpacked: Path | None = None,
) -> DataSet:
    """One split, by number.

    Parameters
    ----------
    path : Path
        The .tgz, the folder, or the one around it.
    form : str
        Of :data:`FORMS`.
    allow_partial : bool
        Take those that are there, if there are any; the set then says so.
    unpacked : Path, optional
        Where the .tgz is unpacked to; beside it by default.

    Raises
    ------
    Refusal
        The layout is another one, pictures are missing, or there are other files among them.
    """
    tree = open_tree(path, unpacked)
    title = f"Stanford Cars, {split}"
    folder = one_folder(tree, f"cars_{split}", title)
    inner = tree.listing(folder)
    if not inner.files and inner.folders == [f"cars_{split}"]:
        folder = join(folder, f"cars_{split}")
    names = [f"{number:05}.jpg" for number in range(1, COUNTS[split] + 1)]
    found = match(tree, folder, names, title, allow_partial=allow_partial)
    name = f"stanford_cars_{split}{'' if form == 'padded' else f'_{form}'}"
    return DataSet(name, title, COUNTS[split], tree, pictures(folder, found), form=FORMS[form])
