"""A data set: pictures by name in one order, checked against what is official, and laid out for the measurements.

The measurements (:mod:`eval.measurement`) work on folders with a picture file a name. :meth:`DataSet.prepare` makes
such a folder: the official files as they are where the protocol takes them so, PNG where it resizes or pads them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor

from eval.datasets.tree import Tree, join
from fse.pictures import SUFFIXES, open_picture, tensor_from_image, write_picture
from fse.refusal import Refusal

Item = TypeVar("Item")

FILES = "files.sha256"
DESCRIPTION = "dataset.json"
_JOURNAL = ".prepared.csv"


@dataclass(frozen=True)
class Form:
    """How the protocol takes a picture.

    Attributes
    ----------
    key : str
        In folder names; "" for pictures as they are stored.
    size : tuple of int, optional
        Width and height after it; None where that is the stored picture's own.
    apply : callable, optional
        A function of a module, so that data sets can be sent to worker processes.
    """

    key: str = ""
    size: tuple[int, int] | None = None
    apply: Callable[[Image.Image], Image.Image] | None = None


AS_STORED = Form()


@dataclass(frozen=True)
class Picture:
    """``name``: by which everything pairs, the file's own without its suffix. ``path``: in the official layout."""

    name: str
    path: str


class _Member(io.BytesIO):
    """A file's content with its name, which messages print."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self._name = name

    def __str__(self) -> str:
        return self._name


@dataclass(frozen=True)
class DataSet:
    """Pictures of an official data set; ``dataset[i]`` is (name, RGB image in the protocol's form), read at that time.

    Attributes
    ----------
    name, title : str
        In files, and in print.
    official_count : int
        How many pictures the official set has.
    tree : Tree
        Where they are read.
    pictures : tuple of Picture
        In the official order.
    stored : tuple of int, optional
        Width and height that every official file has.
    form : Form
        What the protocol makes of them.
    """

    name: str
    title: str
    official_count: int
    tree: Tree
    pictures: tuple[Picture, ...]
    stored: tuple[int, int] | None = None
    form: Form = AS_STORED

    def __post_init__(self) -> None:
        seen: dict[str, Picture] = {}
        for picture in self.pictures:
            if (other := seen.setdefault(picture.name.casefold(), picture)) is not picture:
                where = self.tree.where
                raise Refusal(f"{where}: {other.path} and {picture.path} have the same name; remove the wrong one")

    @property
    def is_partial(self) -> bool:
        return len(self.pictures) < self.official_count

    @property
    def described(self) -> str:
        """The title, and how many pictures there are if not all: for every table and page that shows the set."""
        if not self.is_partial:
            return self.title
        return f"{self.title} (PARTIAL: {len(self.pictures):,} of {self.official_count:,} pictures)"

    @property
    def names(self) -> list[str]:
        return [picture.name for picture in self.pictures]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[str, Image.Image]:
        picture = self.pictures[index]
        return picture.name, self._formed(self.tree.read(picture.path), picture)

    def __iter__(self) -> Iterator[tuple[str, Image.Image]]:
        return (self[index] for index in range(len(self)))

    def tensor(self, index: int) -> tuple[str, Tensor]:
        """(name, (3, H, W) in [-1, 1])."""
        name, image = self[index]
        return name, tensor_from_image(image)

    def _formed(self, content: bytes, picture: Picture) -> Image.Image:
        image = self._decoded(content, picture)
        return self.form.apply(image) if self.form.apply else image

    def _decoded(self, content: bytes, picture: Picture) -> Image.Image:
        name = self.tree.name_of(picture.path)
        image = open_picture(_Member(content, name), upright=False)  # as the official scripts read
        if self.stored and image.size != self.stored:
            width, height = self.stored
            raise Refusal(
                f"{name} is {image.size[0]} x {image.size[1]} pixels, not {width} x {height} as all of {self.title}; "
                "give the official files"
            )
        return image

    def sha256(self) -> dict[str, str]:
        """Path in the official layout -> SHA-256 of the file, in the order of the set."""
        paths = [picture.path for picture in self.pictures]
        return {
            path: hashlib.sha256(self.tree.read(path)).hexdigest() for path in _shown(paths, f"hashing {self.name}")
        }

    def file_list(self, path: Path) -> None:
        """Write the official files' SHA-256 to ``path``, in the order of the set.

        ``sha256sum --check`` reads it in the folder that the set was read from.
        """
        _write_file_list(self, self.sha256(), path)

    def check_md5(self, official: Mapping[str, str]) -> None:
        """Refuse files whose MD5 differs from ``official`` (path -> MD5), naming how many and the first ones."""
        wrong = [
            picture.path
            for picture in _shown(self.pictures, f"checking {self.name}")
            if hashlib.md5(self.tree.read(picture.path)).hexdigest() != official.get(picture.path)
        ]
        if wrong:
            raise Refusal(f"{self.tree.where}: {some(wrong)} differ from the official MD5; download them again")

    def prepare(self, folder: Path) -> list[Path]:
        """Write every picture in the protocol's form to ``folder``, and give the files in the order of the set.

        Pictures that the protocol takes as they are stay the official files, byte for byte, once they were read
        completely; others become PNG. Beside them come the file list and ``dataset.json``, which says what they are.
        A call that was interrupted goes on; a file is written anew if its source has changed.

        Raises
        ------
        Refusal
            Naming how many pictures cannot be read and the first reason, when the others have been written; or when
            the folder holds pictures of something else.
        """
        targets = {picture: folder / self._prepared_name(picture) for picture in self.pictures}
        self._refuse_strangers(folder, set(targets.values()))
        journal = _Journal(folder / _JOURNAL, self.form.key or "as stored")
        digests: dict[str, str] = {}
        broken: list[str] = []
        for picture, target in _shown(targets.items(), f"preparing {self.name}"):
            try:
                content = self.tree.read(picture.path)
                digests[picture.path] = digest = hashlib.sha256(content).hexdigest()
                if journal.written.get(target.name) == digest and target.is_file():
                    continue
                image = self._formed(content, picture)
            except Refusal as refusal:
                broken.append(str(refusal))
                continue
            if self.form.apply:
                write_picture(image, target)
            else:
                _write_bytes(content, target)
            journal.enter(target.name, digest)
        if broken:
            raise Refusal(f"{len(broken)} of {len(self):,} pictures of {self.title} cannot be used: {broken[0]}")
        _write_file_list(self, digests, folder / FILES)
        description = {
            "count": len(self),
            "form": self.form.key or "as stored",
            "name": self.name,
            "official_count": self.official_count,
            "partial": self.is_partial,
            "size": self.form.size or self.stored,
            "title": self.described,
        }
        _write_bytes((json.dumps(description, indent=2) + "\n").encode(), folder / DESCRIPTION)
        return list(targets.values())

    def _prepared_name(self, picture: Picture) -> str:
        suffix = ".png" if self.form.apply else PurePosixPath(picture.path).suffix
        return f"{picture.name}{suffix}"

    def _refuse_strangers(self, folder: Path, expected: set[Path]) -> None:
        present = folder.iterdir() if folder.is_dir() else ()
        strangers = sorted(
            path.name
            for path in present
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path not in expected
        )
        if strangers:
            raise Refusal(f"{folder} holds {some(strangers)}, which are none of {self.described}; remove that folder")


class _Journal:
    """What was written of which source, a line a file: the last one may be cut short."""

    def __init__(self, path: Path, made_how: str) -> None:
        self.path = path
        self.written: dict[str, str] = {}
        rows = list(csv.reader(path.read_text().splitlines())) if path.is_file() else []
        if rows and rows[0] == [made_how]:
            self.written = {row[0]: row[1] for row in rows[1:] if len(row) == 3 and row[2] == "."}
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{made_how}\n")

    def enter(self, name: str, digest: str) -> None:
        with self.path.open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow([name, digest, "."])


def match(
    tree: Tree,
    folder: str,
    wanted: Sequence[str],
    title: str,
    *,
    allow_partial: bool,
    among: Sequence[str] | None = None,
    allowed: Iterable[str] = (),
) -> list[str]:
    """Which of the file names ``wanted`` are in ``folder``, in their order: all of them, or some if that is allowed.

    Parameters
    ----------
    among : sequence of str, optional
        Every file name that the official folder has, if more than the wanted ones.
    allowed : iterable of str
        Other files that may lie there.

    Raises
    ------
    Refusal
        Names are missing (how many, and the first ones), or files are there that the official folder has not.
    """
    listing, where = tree.listing(folder), tree.name_of(folder)
    if listing.links:
        raise Refusal(f"{where} holds {some(listing.links)}, which are links and not followed; put the files there")
    present, official = set(listing.files), set(among if among is not None else wanted)
    strangers = [name for name in listing.files if name not in official and name not in set(allowed)]
    if strangers:
        by_case = {name.casefold(): name for name in official}
        expected = by_case.get(strangers[0].casefold())
        hint = f" (it is called {expected} officially)" if expected else ""
        raise Refusal(f"{where} holds {some(strangers)}{hint}, which {title} has not; give the official folder")
    found = [name for name in wanted if name in present]
    if len(found) < len(wanted) and not (allow_partial and found):
        missing = [name for name in wanted if name not in present]
        remedy = "complete the download" if found else "give the official folder"
        raise Refusal(f"{where} lacks {some(missing)} of the {len(wanted):,} pictures of {title}; {remedy}")
    return found


def one_folder(tree: Tree, name: str, title: str) -> str:
    """The folder called ``name``; raises Refusal when there is none, or several."""
    found = tree.find(name)
    if not found:
        there = tree.listing()
        seen = ", ".join([*(f"{each}/" for each in there.folders), *there.files, *there.links][:5]) or "nothing"
        raise Refusal(
            f"{tree.where} has no folder {name}, which {title} lies in (it holds {seen}); give the official one"
        )
    if len(found) > 1:
        raise Refusal(f"{tree.where} has several folders {name} ({', '.join(found[:3])}); give the one that is meant")
    return found[0]


def pictures(folder: str, files: Iterable[str]) -> tuple[Picture, ...]:
    return tuple(Picture(PurePosixPath(name).stem, join(folder, name)) for name in files)


def some(names: Sequence[str]) -> str:
    """For messages: the only name, or how many and the first three."""
    if len(names) == 1:
        return names[0]
    return f"{len(names):,} files ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def _shown(items: Iterable[Item], what: str) -> Iterable[Item]:
    return track(items, what, console=Console(stderr=True))


def _write_file_list(dataset: DataSet, digests: Mapping[str, str], path: Path) -> None:
    lines = [f"# {dataset.described}", *(f"{digest}  {name}" for name, digest in digests.items())]
    _write_bytes(("\n".join(lines) + "\n").encode(), path)


def _write_bytes(content: bytes, path: Path) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(content)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise Refusal(f"{path} cannot be written ({error.strerror}); make room or choose another folder") from error
