"""FFHQ: 70,000 PNGs of 1024 px, ``images1024x1024/00000/00000.png`` to ``69000/69999.png``, a thousand a folder.

All of them in one folder, as some mirrors pack them, is read as well. ``ffhq-dataset-v2.json`` has the MD5 of each.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eval.datasets.dataset import DataSet, Picture, match, one_folder, pictures
from eval.datasets.tree import join, open_tree
from fse.refusal import Refusal

COUNT, PER_FOLDER, SIDE = 70_000, 1_000, 1024
FOLDER, TITLE = "images1024x1024", "FFHQ"
_LICENCE = ("LICENSE.txt",)


def read(path: Path, *, allow_partial: bool = False) -> DataSet:
    """All of FFHQ, by number.

    Parameters
    ----------
    path : Path
        The folder ``images1024x1024`` or the one around it, or a zip of it.
    allow_partial : bool
        Take those that are there, if there are any; the set then says so.

    Raises
    ------
    Refusal
        The layout is another one, pictures are missing, or there are other files among them.
    """
    tree = open_tree(path)
    outer = one_folder(tree, FOLDER, TITLE)
    listing = tree.listing(outer)
    if not listing.folders:
        names = [f"{number:05}.png" for number in range(COUNT)]
        found = match(tree, outer, names, TITLE, allow_partial=allow_partial, allowed=_LICENCE)
        return DataSet("ffhq", TITLE, COUNT, tree, pictures(outer, found), (SIDE, SIDE))

    starts = {f"{start:05}": start for start in range(0, COUNT, PER_FOLDER)}
    strangers = [name for name in [*listing.folders, *listing.links] if name not in starts or name in listing.links]
    loose = [name for name in listing.files if name not in _LICENCE]
    if strangers or loose:
        raise Refusal(
            f"{tree.name_of(outer)} holds {(strangers + loose)[0]}, which FFHQ has not; give the official folder"
        )
    lacking = [name for name in starts if name not in listing.folders]
    if lacking and not allow_partial:
        raise Refusal(f"{tree.name_of(outer)} lacks {len(lacking)} of 70 folders, {lacking[0]} the first; complete it")
    found_pictures: list[Picture] = []
    for name in listing.folders:
        names = [f"{number:05}.png" for number in range(starts[name], starts[name] + PER_FOLDER)]
        folder = join(outer, name)
        found_pictures += pictures(folder, match(tree, folder, names, TITLE, allow_partial=allow_partial))
    return DataSet("ffhq", TITLE, COUNT, tree, tuple(found_pictures), (SIDE, SIDE))


def official_md5(metadata: Path, dataset: DataSet) -> dict[str, str]:
    """Path of each picture in ``dataset`` -> MD5 by ``ffhq-dataset-v2.json``, for :meth:`DataSet.check_md5`.

    Raises Refusal where the file is missing or has no such entry.
    """
    by_name: dict[str, str] = {}

    def keep(entry: dict[str, Any]) -> dict[str, Any] | None:
        """Of a parsed object what is needed: the file is large, and mostly landmarks."""
        file, md5 = entry.get("file_path"), entry.get("file_md5")
        if isinstance(file, str) and isinstance(md5, str) and file.startswith(f"{FOLDER}/"):
            by_name[file.rpartition("/")[2].removesuffix(".png")] = md5
        return None

    try:
        json.loads(metadata.read_bytes(), object_hook=keep)
    except (OSError, ValueError) as error:
        raise Refusal(f"{metadata} cannot be read as JSON ({error}); download it again") from error
    missing = [name for name in dataset.names if name not in by_name]
    if missing:
        raise Refusal(f"{metadata} has no MD5 of {len(missing):,} pictures ({missing[0]}); give ffhq-dataset-v2.json")
    return {picture.path: by_name[picture.name] for picture in dataset.pictures}
