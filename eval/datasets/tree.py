"""The files of a folder or an archive, read where they lie: never outside of it, through no link, none too large.

Folders and zips are read in place. A tar archive that is compressed cannot be read in any order but its own, so it is
unpacked once, beside itself, and then read as a folder. What an archive is, its content says and not its name.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from rich.console import Console
from rich.progress import Progress

from fse.refusal import Refusal

LARGEST_FILE = 64 << 20
"""Bytes that a file may have when it is read into memory; the largest official picture has a tenth."""

_MOST_FILES = 1_000_000  # CelebAMask-HQ.zip has 500,000
_MOST_TIMES = 20  # unpacked against packed; pictures hardly shrink
_ALWAYS_ALLOWED = 256 << 20
_LITTER = re.compile(r"(^|/)(\.[^/]*|__MACOSX|Thumbs\.db|desktop\.ini)(/|$)")  # of operating systems
_OFFICIAL_DEPTH = 3


@dataclass
class Listing:
    """What lies directly in a folder, by name, sorted: what operating systems leave there is not told."""

    folders: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)


class Tree(ABC):
    """Files by their paths, relative to ``where`` and with forward slashes. Can be pickled."""

    where: Path

    @abstractmethod
    def listing(self, folder: str = "") -> Listing:
        """What lies directly in ``folder``; raises Refusal if there is no such folder, or it is a link."""

    @abstractmethod
    def read(self, path: str, largest: int = LARGEST_FILE) -> bytes:
        """The content of a file; raises Refusal if it is absent, a link, damaged or larger than ``largest`` bytes."""

    def name_of(self, path: str) -> str:
        """For messages."""
        return f"{self.where}/{path}" if path else str(self.where)

    def find(self, name: str) -> list[str]:
        """Folders called ``name``, the outermost level at which there are any, at most three levels down.

        ``where`` itself counts as the level 0.
        """
        if self.where.name == name and self.where.is_dir():
            return [""]
        level = [""]
        for _ in range(_OFFICIAL_DEPTH):
            level = [join(folder, each) for folder in level for each in self.listing(folder).folders]
            if found := [folder for folder in level if PurePosixPath(folder).name == name]:
                return found
        return []


def join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def open_tree(path: Path, unpacked: Path | None = None) -> Tree:
    """The files of the folder or archive ``path``.

    Parameters
    ----------
    path : Path
        A folder, which may be a link itself, a zip, or a tar, plain or compressed.
    unpacked : Path, optional
        Where a tar is unpacked to; ``NAME.unpacked`` beside it by default.

    Raises
    ------
    Refusal
        There is nothing, it is none of these, it is damaged, or an archive has a path out of it, a link, a device,
        the same name twice, or holds far more than it should.
    """
    if path.is_dir():
        return Folder(path)
    if not path.is_file():
        raise Refusal(f"there is no data set {path}; give its folder or its archive")
    if zipfile.is_zipfile(path):
        return Zip(path)
    if tarfile.is_tarfile(path):
        return Folder(unpack(path, unpacked or path.with_name(f"{path.name}.unpacked")))
    raise Refusal(f"{path} is neither a folder nor a zip or tar archive; download it again")


class Folder(Tree):
    """A folder. Links in it are listed as such, and not followed."""

    def __init__(self, where: Path) -> None:
        self.where = where

    def listing(self, folder: str = "") -> Listing:
        found = Listing()
        try:
            with os.scandir(self._real(folder)) as entries:
                for entry in entries:
                    if _LITTER.search(entry.name):
                        continue
                    if entry.is_symlink():
                        found.links.append(entry.name)
                    elif entry.is_dir(follow_symlinks=False):
                        found.folders.append(entry.name)
                    elif entry.is_file(follow_symlinks=False):
                        found.files.append(entry.name)
        except OSError as error:
            raise Refusal(f"{self.name_of(folder)} cannot be read ({error.strerror}); check the path") from error
        for names in (found.folders, found.files, found.links):
            names.sort()
        return found

    def read(self, path: str, largest: int = LARGEST_FILE) -> bytes:
        real = self._real(path)
        try:
            size = real.stat().st_size
            if not real.is_file():
                raise Refusal(f"{real} is no file; restore it from the archive")
            if size > largest:
                raise Refusal(f"{real} has {size:,} bytes, which is too large for what it should be; replace it")
            return real.read_bytes()
        except OSError as error:
            raise Refusal(f"{real} cannot be read ({error.strerror}); restore it from the archive") from error

    def _real(self, path: str) -> Path:
        _refuse_outside(path, self.where)
        real = self.where
        for part in PurePosixPath(path).parts:
            real = real / part
            if real.is_symlink():
                raise Refusal(f"{real} is a link, which is not followed; put the files themselves there")
        return real


class Zip(Tree):
    """A zip archive, read in place. Its members are vetted when it is opened."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self._open: dict[int, zipfile.ZipFile] = {}
        self._members: dict[str, zipfile.ZipInfo] = {}
        self._folders: dict[str, Listing] = {"": Listing()}
        vetted = _Vetted(where)
        for info in self._archive().infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise vetted.refusal(info.filename, "is a link or a device")
            if info.flag_bits & 1:
                raise Refusal(f"{where} is encrypted ({info.filename!a}); unpack it with its password first")
            if "\0" in info.orig_filename:
                raise vetted.refusal(info.orig_filename, "has a name with a zero byte")
            path = vetted.folder(info.filename) if info.is_dir() else vetted.file(info.filename, info.file_size)
            if not _LITTER.search(path):
                self._enter(path, info)
        for listing in self._folders.values():
            listing.folders.sort()
            listing.files.sort()

    def _enter(self, path: str, info: zipfile.ZipInfo) -> None:
        folder, _, name = path.rpartition("/")
        if info.is_dir():
            self._enter_folder(path)
        else:
            self._enter_folder(folder)
            self._folders[folder].files.append(name)
            self._members[path] = info

    def _enter_folder(self, path: str) -> None:
        if path not in self._folders:
            outer, _, name = path.rpartition("/")
            self._enter_folder(outer)
            self._folders[outer].folders.append(name)
            self._folders[path] = Listing()

    def _archive(self) -> zipfile.ZipFile:
        """Of this process: worker processes that share a file handle would read at each other's position."""
        if os.getpid() not in self._open:
            try:
                self._open = {os.getpid(): zipfile.ZipFile(self.where)}
            except (OSError, zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError) as error:
                raise Refusal(f"{self.where} cannot be read as a zip ({error}); download it again") from error
        return self._open[os.getpid()]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open": {}}

    def listing(self, folder: str = "") -> Listing:
        if folder not in self._folders:
            raise Refusal(f"{self.where} holds no folder {folder}; give the official archive")
        return self._folders[folder]

    def read(self, path: str, largest: int = LARGEST_FILE) -> bytes:
        info = self._members.get(path)
        if info is None:
            raise Refusal(f"{self.where} holds no file {path}; give the official archive")
        if info.file_size > largest:
            raise Refusal(
                f"{self.name_of(path)} has {info.file_size:,} bytes, which is too large for what it should be; "
                "download the archive again"
            )
        try:
            with self._archive().open(info) as stream:
                content = stream.read(info.file_size + 1)  # bounds what is decompressed, whatever the header says
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise Refusal(f"{self.name_of(path)} is damaged ({error}); download the archive again") from error
        if len(content) != info.file_size:
            raise Refusal(f"{self.name_of(path)} is cut short; download the archive again")
        return content


def unpack(archive: Path, target: Path) -> Path:
    """Unpack the regular files of a tar, plain or compressed, to the folder ``target``, and give it back.

    A file appears whole or not at all, and one that is there in the right size is not written again, so that a run
    that was killed goes on. What was unpacked before, of this very file, is kept.

    Raises
    ------
    Refusal
        As :func:`open_tree` does, and where it cannot be written.
    """
    marker = target / ".unpacked.json"
    state = archive.stat()
    identity = {"size": state.st_size, "modified": state.st_mtime_ns}
    if _json(marker) == identity:
        return target
    vetted = _Vetted(archive)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with (
            tarfile.open(archive) as tar,
            Progress(console=Console(stderr=True), transient=True) as bar,
        ):
            task = bar.add_task(f"unpacking {archive.name}", total=None)
            for info in tar:
                bar.advance(task)
                if info.isdir():
                    vetted.folder(info.name)
                    continue
                if not info.isreg() or info.issparse():
                    raise vetted.refusal(info.name, "is a link, a device or a sparse file")
                path = vetted.file(info.name, info.size)
                stream = tar.extractfile(info)
                if not _LITTER.search(path) and stream is not None:
                    _write(stream, info.size, target / path)
        partial = marker.with_suffix(".part")
        partial.write_text(json.dumps(identity))
        partial.replace(marker)
    except (tarfile.TarError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise Refusal(f"{archive} is damaged or cut short ({error}); download it again") from error
    except OSError as error:
        if error.errno is None:  # of gzip: what it reads is no gzip, or fails its checksum
            raise Refusal(f"{archive} is damaged ({error}); download it again") from error
        raise Refusal(f"{archive} cannot be unpacked to {target} ({error.strerror}); make room there") from error
    return target


def _write(stream: IO[bytes], size: int, target: Path) -> None:
    if target.is_symlink():
        raise Refusal(f"{target} is a link, which is not written through; remove it")
    if target.is_file() and target.stat().st_size == size:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    with partial.open("wb") as file:
        shutil.copyfileobj(stream, file, 1 << 20)
    partial.replace(target)


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


class _Vetted:
    """The members of an archive, told one by one."""

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self._most = max(_ALWAYS_ALLOWED, _MOST_TIMES * archive.stat().st_size)
        self._bytes = 0
        self._seen: dict[str, str] = {}

    def refusal(self, name: str, reason: str) -> Refusal:
        return Refusal(
            f"{self.archive} was not read: its member {name[:200]!a} {reason}; obtain it again from its authors"
        )

    def folder(self, name: str) -> str:
        """Its path, without ``./`` in front and ``/`` behind; "" for the outermost."""
        _refuse_outside(name, self.archive)
        path = str(PurePosixPath(name))
        return "" if path == "." else path

    def file(self, name: str, size: int) -> str:
        """Its path, without ``./`` in front; ``size`` is counted."""
        path = self.folder(name)
        self._bytes += size
        if self._bytes > self._most or len(self._seen) >= _MOST_FILES:
            raise self.refusal(name, "makes it far larger than it should be")
        other = self._seen.setdefault(path.casefold(), "")
        if other:
            how = "is there twice" if other == path else f"differs from {other[:200]!a} only in upper and lower case"
            raise self.refusal(name, how)
        self._seen[path.casefold()] = path
        return path


def _refuse_outside(path: str, where: Path) -> None:
    """Refuse a path that leads, or on some system would lead, out of the folder that it is relative to."""
    if path.startswith("/") or re.search(r"[\\\0]|^[A-Za-z]:|(^|/)\.\.(/|$)", path):
        raise Refusal(
            f"{where} was not read: its path {path[:200]!a} leads out of it; obtain it again from its authors"
        )
