"""AFHQ: 512 px, a folder an animal. The paper and the networks of StyleGAN2-ADA use version 1.

Version 1 (afhq.zip) has JPEGs in ``afhq/train/cat`` and ``afhq/val/cat``, its test set; version 2 (afhq_v2.zip) PNGs in
``train/cat`` and ``test/cat``, resized anew, two in a hundred left out. Their files have the same names otherwise
(``flickr_cat_000008``), so they are told apart by folder and suffix, and one is not taken for the other.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from eval.datasets.dataset import DataSet, match, pictures
from eval.datasets.tree import Tree, join, open_tree
from fse.refusal import Refusal

Animal = Literal["cat", "dog", "wild"]
Split = Literal["train", "test"]

SIDE = 512
COUNTS = {
    1: {("cat", "train"): 5_153, ("dog", "train"): 4_739, ("wild", "train"): 4_738}
    | {(animal, "test"): 500 for animal in ("cat", "dog", "wild")},
    2: {("cat", "train"): 5_065, ("dog", "train"): 4_678, ("wild", "train"): 4_593}
    | {("cat", "test"): 493, ("dog", "test"): 491, ("wild", "test"): 483},
}
"""Version -> (animal, split) -> number of pictures; 16,130 and 15,803 in all."""

_TEST_FOLDER = {1: "val", 2: "test"}
_SUFFIX = {1: ".jpg", 2: ".png"}


def read(
    path: Path, animal: Animal, split: Split = "test", *, version: Literal[1, 2] = 1, allow_partial: bool = False
) -> DataSet:
    """The pictures of one animal and split, sorted by file name.

    Parameters
    ----------
    path : Path
        The zip, or the folder that it unpacks to.
    allow_partial : bool
        Take those that are there, if there are any; the set then says so.

    Raises
    ------
    Refusal
        It is the other version, the layout is another one, the number of pictures is wrong, or there are other files.
    """
    tree = open_tree(path)
    title = f"AFHQ{' v2' if version == 2 else ''} {animal}, {split}"
    outer = _root(tree, title)
    found_version = version_of(tree, outer)
    if found_version not in (None, version):
        raise Refusal(
            f"{path} is AFHQ version {found_version} and not {version} (its test set lies in "
            f"{_TEST_FOLDER[found_version or version]}/, as {_SUFFIX[found_version or version]}): ask for version "
            f"{found_version} to measure on it, but its numbers are not the paper's, which are of version 1"
        )
    folder = join(join(outer, "train" if split == "train" else _TEST_FOLDER[version]), animal)
    files = tree.listing(folder).files
    pattern = re.compile(rf"(flickr|pixabay)_{animal}_\d{{6}}{re.escape(_SUFFIX[version])}")
    wanted = [name for name in files if pattern.fullmatch(name)]
    match(tree, folder, wanted, title, allow_partial=allow_partial)  # strangers and links
    count = COUNTS[version][animal, split]
    if len(wanted) > count or not wanted or (len(wanted) < count and not allow_partial):
        raise Refusal(f"{tree.name_of(folder)} holds {len(wanted):,} of the {count:,} pictures of {title}; complete it")
    name = f"afhq{'_v2' if version == 2 else ''}_{animal}_{split}"
    return DataSet(name, title, count, tree, pictures(folder, wanted), (SIDE, SIDE))


def _root(tree: Tree, title: str) -> str:
    """The folder that holds ``train``."""
    found = tree.find("train")
    if len(found) != 1:
        raise Refusal(f"{tree.where} has {len(found)} folders train, and {title} one; give the official folder")
    return found[0].rpartition("/")[0]


def version_of(tree: Tree, outer: str = "") -> int | None:
    """1 or 2, by the name of the test set's folder and the suffix of what lies in it; None where they disagree."""
    folders = tree.listing(outer).folders
    by_folder = {version for version, name in _TEST_FOLDER.items() if name in folders}
    suffixes = set()
    for split in ("train", *(_TEST_FOLDER[version] for version in by_folder)):
        for animal in tree.listing(join(outer, split)).folders:
            suffixes |= {Path(name).suffix for name in tree.listing(join(join(outer, split), animal)).files[:50]}
    by_suffix = {version for version, suffix in _SUFFIX.items() if suffix in suffixes}
    return by_folder.pop() if by_folder == by_suffix and len(by_folder) == 1 else None
