"""CelebA-HQ as CelebAMask-HQ packs it: 30,000 JPEGs of 1024 px, ``CelebA-HQ-img/0.jpg`` to ``29999.jpg``.

Table 1 is measured on the first 1,000, the editing directions come from the first 10,000. pSp, e4e and those after them
measure on the test split instead: 2,824 pictures whose originals are in CelebA's test partition, as
``CelebA-HQ-to-CelebA-mapping.txt`` tells. CelebA's 40 attributes are in ``CelebAMask-HQ-attribute-anno.txt``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.datasets.dataset import DataSet, match, one_folder, pictures
from eval.datasets.tree import Tree, join, open_tree
from fse.refusal import Refusal

COUNT, TEST_COUNT, SIDE = 30_000, 2_824, 1024
FOLDER, MAPPING, ATTRIBUTES = "CelebA-HQ-img", "CelebA-HQ-to-CelebA-mapping.txt", "CelebAMask-HQ-attribute-anno.txt"

FIRST_OF_TEST = 182_638
"""CelebA's partition: training to 162770.jpg, validation to 182637.jpg, test to 202599.jpg. CelebAMask-HQ's own script
compares the number less one, which would tell otherwise of 182638.jpg alone."""

_LARGEST_TEXT = 128 << 20
_OTHER_PACKAGING = re.compile(r"0\d*\.(jpg|png)|\d+\.png|imgHQ\d+\.npy")


def first(path: Path, count: int = 1000, *, allow_partial: bool = False) -> DataSet:
    """The first ``count`` pictures by number.

    Parameters
    ----------
    path : Path
        CelebAMask-HQ.zip, or the folder that it unpacks to, or its ``CelebA-HQ-img``.
    allow_partial : bool
        Take those that are there, if there are any; the set then says so.

    Raises
    ------
    Refusal
        The layout is another one, pictures are missing, or there are other files among them.
    """
    return _pictures(open_tree(path), range(count), f"celeba_hq_{count}", f"CelebA-HQ, first {count:,}", allow_partial)


def official_test(path: Path, *, allow_partial: bool = False) -> DataSet:
    """The 2,824 pictures of CelebA's test partition, by number; parameters and refusals as for :func:`first`.

    ``path`` must hold the mapping, too. The order is that of the numbers in CelebA-HQ.
    """
    tree = open_tree(path)
    mapping = read_mapping(tree, allow_partial=allow_partial)
    numbers = np.flatnonzero(mapping >= FIRST_OF_TEST)
    if len(numbers) != TEST_COUNT and not (allow_partial and len(numbers)):
        raise Refusal(
            f"{tree.where}: by {MAPPING} the test split has {len(numbers):,} pictures and not {TEST_COUNT:,}; "
            "give the official file"
        )
    title = "CelebA-HQ, test split"
    return _pictures(tree, numbers.tolist(), "celeba_hq_test", title, allow_partial, TEST_COUNT)


def _pictures(
    tree: Tree, numbers: Sequence[int], name: str, title: str, allow_partial: bool, count: int | None = None
) -> DataSet:
    if not tree.find(FOLDER):
        _refuse_stargan(tree)
    folder = one_folder(tree, FOLDER, title)
    _refuse_renumbered(tree, folder)
    everything = [f"{number}.jpg" for number in range(COUNT)]
    found = match(tree, folder, [f"{n}.jpg" for n in numbers], title, allow_partial=allow_partial, among=everything)
    return DataSet(name, title, count or len(numbers), tree, pictures(folder, found), (SIDE, SIDE))


def _refuse_stargan(tree: Tree) -> None:
    """StarGAN v2's celeba_hq.zip: train and val, each with female and male, under other numbers."""
    for female in tree.find("female"):
        split, outer = female.rpartition("/")[0], tree.listing(female.rpartition("/")[0])
        if "male" in outer.folders and split.rpartition("/")[2] in ("train", "val"):
            raise Refusal(
                f"{tree.where} is CelebA-HQ as StarGAN v2 packs it (train and val, female and male), whose numbers and "
                "order are others than Table 1's; give CelebAMask-HQ"
            )


def _refuse_renumbered(tree: Tree, folder: str) -> None:
    for name in tree.listing(folder).files:
        if _OTHER_PACKAGING.fullmatch(name) and name != "0.jpg":
            raise Refusal(
                f"{tree.name_of(folder)} holds {name}: it is CelebA-HQ in another packaging, whose numbers need not be "
                "CelebAMask-HQ's (0.jpg to 29999.jpg), which Table 1 goes by; give CelebAMask-HQ"
            )


def read_mapping(tree: Tree, *, allow_partial: bool = False) -> NDArray[np.int64]:
    """CelebA-HQ's number -> number of the file in CelebA (1 to 202,599), of ``CelebA-HQ-to-CelebA-mapping.txt``.

    Its lines are ``idx orig_idx orig_file``, in the order of idx, below a line with these words (which some copies
    lack); ``orig_file`` is ``orig_idx + 1`` in six digits. Raises Refusal where they are not.
    """
    path = join(_folder_of(tree, MAPPING), MAPPING)
    lines = [line.split() for line in _text(tree, path).splitlines() if line.strip()]
    if lines and lines[0][:3] == ["idx", "orig_idx", "orig_file"]:
        del lines[0]
    numbers = []
    for index, line in enumerate(lines):
        if len(line) < 3 or line[0] != str(index) or not re.fullmatch(r"\d{6}\.jpg", line[2]):
            raise Refusal(
                f"{tree.name_of(path)}: the line of picture {index} is {' '.join(line)[:60]!a}; replace the file"
            )
        if line[1] != str(int(line[2][:6]) - 1):
            raise Refusal(f"{tree.name_of(path)}: picture {index} has two numbers that do not fit; replace the file")
        numbers.append(int(line[2][:6]))
    if len(set(numbers)) < len(numbers) or (len(numbers) != COUNT and not (allow_partial and numbers)):
        raise Refusal(f"{tree.name_of(path)} names {len(set(numbers)):,} pictures and not {COUNT:,}; replace the file")
    return np.array(numbers)


@dataclass(frozen=True)
class Attributes:
    """CelebA's labels.

    Attributes
    ----------
    names : tuple of str
        ``5_o_Clock_Shadow`` ... ``Young``, 40 of them.
    pictures : tuple of str
        Names of pictures of CelebA-HQ, as in :attr:`DataSet.names`.
    labels : array of bool
        (pictures, attributes).
    """

    names: tuple[str, ...]
    pictures: tuple[str, ...]
    labels: NDArray[np.bool_]

    def of(self, attribute: str) -> NDArray[np.bool_]:
        """(pictures,); raises Refusal if there is no such attribute."""
        if attribute not in self.names:
            raise Refusal(f"CelebA has no attribute {attribute!r}; choose one of {', '.join(self.names)}")
        return self.labels[:, self.names.index(attribute)]


def read_attributes(dataset: DataSet, file: Path | None = None) -> Attributes:
    """The labels of the pictures of ``dataset``, in its order.

    Parameters
    ----------
    dataset : DataSet
        Of this module.
    file : Path, optional
        CelebA's own ``list_attr_celeba.txt``, whose numbers are CelebA's: the mapping is then needed. By default
        ``CelebAMask-HQ-attribute-anno.txt`` of the data set.

    Raises
    ------
    Refusal
        A file is missing or malformed, or lacks a picture.
    """
    tree = dataset.tree
    if file is None:
        path = join(_folder_of(tree, ATTRIBUTES), ATTRIBUTES)
        where, text = tree.name_of(path), _text(tree, path)
        keys = {name: f"{name}.jpg" for name in dataset.names}
    else:
        where, text = str(file), _decoded(_read(file), str(file))
        mapping = read_mapping(tree, allow_partial=dataset.is_partial)
        keys = {name: f"{mapping[int(name)]:06}.jpg" for name in dataset.names if int(name) < len(mapping)}
    names, rows = _attribute_rows(text, where)
    missing = [name for name in dataset.names if keys.get(name) not in rows]
    if missing:
        raise Refusal(
            f"{where} has no attributes of {len(missing)} pictures ({', '.join(missing[:3])}); replace the file"
        )
    labels = np.array([rows[keys[name]] for name in dataset.names], dtype=np.int8).reshape(-1, len(names))
    return Attributes(names, tuple(dataset.names), labels == 1)


def _attribute_rows(text: str, where: str) -> tuple[tuple[str, ...], dict[str, list[int]]]:
    """Line 1 the number of pictures, line 2 the names, then ``FILE  -1 1 ...``."""
    lines = text.splitlines()
    if len(lines) < 2 or not lines[0].strip().isdecimal():
        raise Refusal(f"{where} does not begin with the number of its pictures; give the official file")
    count, names = int(lines[0]), tuple(lines[1].split())
    rows: dict[str, list[int]] = {}
    for line in lines[2:]:
        name, *values = line.split() or [""]
        if not name:
            continue
        if len(values) != len(names) or not {"1", "-1"}.issuperset(values):
            raise Refusal(
                f"{where}: the line of {name[:40]!a} has not {len(names)} labels of 1 or -1; replace the file"
            )
        rows[name] = [int(value) for value in values]
    if len(rows) != count:
        raise Refusal(f"{where} holds {len(rows):,} pictures, but says {count:,}; it is cut short, replace it")
    return names, rows


def _folder_of(tree: Tree, file: str) -> str:
    """The folder that ``file`` lies in: that of the pictures' folder."""
    outer = one_folder(tree, FOLDER, "CelebA-HQ").rpartition("/")[0]
    if file not in tree.listing(outer).files:
        raise Refusal(f"{tree.name_of(outer)} has no {file}; give the whole of CelebAMask-HQ")
    return outer


def _text(tree: Tree, path: str) -> str:
    return _decoded(tree.read(path, _LARGEST_TEXT), tree.name_of(path))


def _read(file: Path) -> bytes:
    return open_tree(file.parent).read(file.name, _LARGEST_TEXT)


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.decode("ascii")
    except UnicodeDecodeError as error:
        raise Refusal(f"{where} is no text; replace the file") from error
