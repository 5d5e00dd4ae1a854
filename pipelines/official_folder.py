"""The folder of official files: which assets of the catalogue are in it, whatever their files are called.

A file is recognised by its digest, by its name and structure, or by its structure alone; a data set by its layout.
Structures are read by :mod:`fse.checkpoints`, which runs nothing of a file. What has no published digest is recorded
when it is seen first (``.state.json``), and another file in its place is refused from then on.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import Progress

from eval.datasets.official import read_official
from fse.checkpoints.checkpoint import Checkpoint
from fse.checkpoints.reader import read_checkpoint
from fse.refusal import Refusal
from pipelines.official import KINDS, check, recognise
from pipelines.official_assets import TENSORS, Asset, Catalogue, File

STATE = ".state.json"
PARTIAL = ".partial"
_DEPTH = 3
_CONTENTS = (".md", ".png", ".jpg", ".jpeg", ".webp", ".mp4")  # of data sets: by themselves they are no asset
_SHOWN_FROM = 100_000_000  # bytes: reading less takes no time to speak of

State = Literal["here", "incomplete", "wrong", "missing", "never released", "withdrawn"]


@dataclass(frozen=True)
class Digests:
    """Of a file's content."""

    size: int
    sha256: str
    md5: str


@dataclass(frozen=True)
class FileState:
    """One file of an asset: where it is, and how it was recognised, or what is wrong."""

    file: File
    state: Literal["here", "wrong", "missing"]
    path: Path | None = None
    how: str = ""


@dataclass(frozen=True)
class AssetState:
    """One asset.

    Attributes
    ----------
    files : tuple of FileState
        In the order of the catalogue.
    sets : mapping
        Name of a set of pictures -> what its reader says: how many pictures, or the reason why not.
    path : Path, optional
        Of a data set: its folder or archive.
    """

    asset: Asset
    state: State
    files: tuple[FileState, ...] = ()
    sets: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None


@dataclass(frozen=True)
class Survey:
    """Every asset's state by its id, and the files that are none of them with the reason."""

    assets: Mapping[str, AssetState]
    unrecognised: Mapping[Path, str]

    def path(self, asset: str, name: str | None = None) -> Path:
        """Where an asset's only file, its file ``name``, or its data set is.

        Raises
        ------
        Refusal
            It is not here; with how to get it.
        """
        found = self.assets[asset]
        if name is None and found.path is not None:
            return found.path
        for each in found.files:
            if each.path is not None and each.state == "here" and name in (None, each.file.name):
                return each.path
        raise Refusal(
            f"the official asset {asset} ({name or found.asset.what}) is {found.state}; {how_to_get(found.asset)}"
        )


def how_to_get(asset: Asset) -> str:
    """In words, for one who has not got it."""
    if asset.by_hand:
        return asset.by_hand
    if asset.can_be_fetched:
        return f"run `python -m pipelines.assets fetch {asset.id}`"
    return f"see {asset.homepage}"


class StateFile:
    """What is remembered between runs: accepted terms, digests of large files, and the recorded digests."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            self.accepted: dict[str, dict[str, str]] = dict(values.get("accepted", {}))
            self.recorded: dict[str, str] = dict(values.get("recorded", {}))
            self.digests: dict[str, list[Any]] = dict(values.get("digests", {}))
            self.structures: dict[str, list[Any]] = dict(values.get("structures", {}))
            self.layouts: dict[str, str] = dict(values.get("layouts", {}))
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise Refusal(
                f"{path} cannot be read ({error}); restore it, or remove it and accept the terms again"
            ) from error

    def write(self) -> None:
        values = {
            "accepted": self.accepted,
            "digests": self.digests,
            "layouts": self.layouts,
            "recorded": self.recorded,
            "structures": self.structures,
        }
        text = json.dumps(values, indent=1, sort_keys=True) + "\n"
        partial = self.path.with_suffix(".part")
        try:
            if self.path.is_file() and self.path.read_text(encoding="utf-8") == text:
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(text, encoding="utf-8")
            partial.replace(self.path)
        except OSError as error:
            raise Refusal(f"{self.path} cannot be written ({error.strerror}); make room or check its folder") from error


@dataclass(frozen=True)
class _Left:
    """What is still to be recognised: files in the folder, and files of the catalogue."""

    candidates: Mapping[Path, Digests]
    used: Mapping[Path, str]
    files: Sequence[File]

    def original_of(self, digests: Digests) -> Path | None:
        """The file that is recognised already and has the same content."""
        return next((path for path, sha256 in self.used.items() if sha256 == digests.sha256), None)

    @property
    def originals(self) -> dict[Path, Digests]:
        """The candidates without copies of what is recognised already."""
        return {path: digests for path, digests in self.candidates.items() if self.original_of(digests) is None}


class OfficialFolder:
    """The official files below ``root``, and those that the embedded profile already has."""

    def __init__(self, root: Path, catalogue: Catalogue, embedded: Path = Path("data/assets")) -> None:
        self.root, self.catalogue, self.embedded = root, catalogue, embedded
        self.state = StateFile(root / STATE)
        self._unreadable: dict[str, Refusal] = {}

    def digests(self, path: Path) -> Digests:
        """Of a file, remembered for as long as its size and time of change are the same."""
        stat = path.stat()
        key = os.path.relpath(path, self.root)
        known = self.state.digests.get(key)
        if not known or known[:2] != [stat.st_size, stat.st_mtime_ns]:
            known = [stat.st_size, stat.st_mtime_ns, *_hashed(path, stat.st_size)]
            self.state.digests[key] = known
        return Digests(stat.st_size, known[2], known[3])

    def structure(self, path: Path, digests: Digests) -> tuple[str, int | None]:
        """Kind of :data:`~pipelines.official.KINDS` or ``tensors``, and number of codes, if there is a generator.

        Raises
        ------
        Refusal
            It cannot be read safely, or is a damaged file of its kind.
        """
        if digests.sha256 in self._unreadable:
            raise self._unreadable[digests.sha256]
        if digests.sha256 not in self.state.structures:
            try:
                self.state.structures[digests.sha256] = list(structure_of(path))
            except Refusal as refusal:
                self._unreadable[digests.sha256] = refusal
                raise
        kind, codes = self.state.structures[digests.sha256]
        return kind, codes

    def layout(self, name: str, path: Path, *, allow_partial: bool) -> str:
        """What the reader of the set ``name`` says of the folder or archive ``path``; raises Refusal as it does."""
        if path.is_dir():
            return read_official(name, path, allow_partial=allow_partial).described
        key = f"{self.digests(path).sha256} {name} {allow_partial}"
        if key not in self.state.layouts:
            self.state.layouts[key] = read_official(name, path, allow_partial=allow_partial).described
        return self.state.layouts[key]

    def why_not(self, file: File, path: Path, digests: Digests) -> str | None:
        """Why ``path`` is not ``file``, or None if it may be: by size, digests, what was recorded, and structure."""
        if file.size is not None and digests.size != file.size:
            return f"it has {digests.size:,} bytes and not {file.size:,}"
        for digest in file.digests:
            if digest.is_binding and not digest.fits(digests.sha256, digests.md5):
                own = digests.md5 if digest.md5 else digests.sha256
                return f"its digest is {own} and not the {digest} that {digest.where} gives"
        if (recorded := self.state.recorded.get(file.file)) and recorded != digests.sha256:
            return (
                f"its SHA-256 is {digests.sha256} and not {recorded}, which was recorded when the file was first here"
            )
        if file.structure is not None:
            try:
                kind, codes = self.structure(path, digests)
            except Refusal as refusal:
                return f"it cannot be used ({refusal})"
            if file.structure not in (TENSORS, kind):
                return f"it holds {kind} and not {file.structure}"
            if file.codes is not None and codes is not None and codes != file.codes:
                return f"its generator has {codes} codes and not {file.codes}"
            if file.tensor is not None and file.tensor not in read_checkpoint(path).tensors:
                return f"it has no {file.tensor}"
        return None

    def record(self, file: File, digests: Digests) -> str:
        """Hold ``file`` to these digests from now on, and say what it is held to."""
        for digest in file.digests:
            if digest.is_binding:
                return f"{digest} as given by {digest.where}"
        first = file.file not in self.state.recorded
        self.state.recorded[file.file] = digests.sha256
        differing = [digest for digest in file.digests if not digest.fits(digests.sha256, digests.md5)]
        remark = f" (another file than {differing[0].where} has)" if differing else ""
        said = "recorded now and held from here on" if first else "as recorded when it was first here"
        return f"no digest is published; SHA-256 {digests.sha256} {said}{remark}"

    def survey(self, *, allow_partial: bool = False) -> Survey:
        """Look at everything; what is recognised for the first time is recorded.

        ``allow_partial`` counts data sets as here that have some of their pictures.
        """
        candidates = {path: self.digests(path) for path in self._candidates()}
        claimed: dict[str, FileState] = {}
        used: dict[Path, str] = {}
        files = [(asset, file) for asset in self.catalogue.assets for file in asset.files]
        for recogniser in (self._by_digest, self._by_name, self._by_structure, self._by_layout):
            for asset, file in files:
                if file.file in claimed:
                    continue
                left = {path: digests for path, digests in candidates.items() if path not in used}
                found = recogniser(asset, file, _Left(left, used, [f for _, f in files if f.file not in claimed]))
                if found is not None:
                    claimed[file.file] = found
                    if found.path in candidates:
                        used[found.path] = candidates[found.path].sha256
        states = {asset.id: self._asset_state(asset, claimed, allow_partial) for asset in self.catalogue.assets}
        unpacked = {self.root / each.file for _, file in files for each in file.unpack}
        open_ = _Left(candidates, used, [file for _, file in files if file.file not in claimed])
        unrecognised = {
            path: self._why_unrecognised(path, digests, open_)
            for path, digests in candidates.items()
            if path not in used and path not in unpacked
        }
        self.state.digests = {key: value for key, value in self.state.digests.items() if (self.root / key).is_file()}
        if self.root.is_dir():
            self.state.write()
        return Survey(states, unrecognised)

    def _candidates(self) -> Iterator[Path]:
        """Files that may be assets: not those inside data sets, nor of unfinished downloads."""
        data_sets = {asset.folder for asset in self.catalogue.assets if asset.folder}
        for outer, folders, names in os.walk(self.root):
            depth = len(Path(outer).relative_to(self.root).parts)
            folders[:] = sorted(
                name
                for name in folders
                if depth < _DEPTH
                and name not in data_sets
                and not name.startswith(".")
                and not name.endswith(".unpacked")
            )
            paths = [Path(outer, name) for name in sorted(names) if not name.startswith(".")]
            yield from (path for path in paths if path.suffix.lower() not in _CONTENTS and path.is_file())

    def _by_digest(self, asset: Asset, file: File, left: _Left) -> FileState | None:
        elsewhere = {path: self.digests(path) for path in self._comes_with(file)}
        for path, digests in {**left.originals, **elsewhere}.items():
            for digest in file.digests:
                if digest.fits(digests.sha256, digests.md5) and (file.size in (None, digests.size)):
                    return FileState(file, "here", path, f"by its digest: {digest}, given by {digest.where}")
            if self.state.recorded.get(file.file) == digests.sha256:
                return FileState(file, "here", path, "by the SHA-256 recorded when it was first here")
        return None

    def _comes_with(self, file: File) -> Iterator[Path]:
        """Where the embedded profile, torch.hub or an installed package has it."""
        if file.file.startswith("hub/") and (path := Path(torch.hub.get_dir(), *Path(file.file).parts[1:])).is_file():
            yield path
        if file.embedded and (path := self.embedded / file.embedded).is_file():
            yield path
        if file.package:
            try:
                path = Path(str(importlib.metadata.distribution(file.package.name).locate_file(file.package.path)))
            except importlib.metadata.PackageNotFoundError:
                return
            if path.is_file():
                yield path

    def _by_name(self, asset: Asset, file: File, left: _Left) -> FileState | None:
        for path, digests in left.candidates.items():
            if path.name == file.name:
                if other := left.original_of(digests):
                    return FileState(file, "wrong", path, f"it is a copy of {other}")
                if reason := self.why_not(file, path, digests):
                    return FileState(file, "wrong", path, reason)
                if asset.sets and (reason := self._no_layout(asset, path)):
                    return FileState(file, "wrong", path, reason)
                how = "name and structure" if file.structure else "name and layout" if asset.sets else "name alone"
                return FileState(file, "here", path, f"by its {how}: {self.record(file, digests)}")
        return None

    def _by_structure(self, asset: Asset, file: File, left: _Left) -> FileState | None:
        """Only where no other asset that is missing has the same structure."""
        if file.structure in (None, TENSORS) or any(digest.is_binding for digest in file.digests):
            return None
        looks = (file.structure, file.codes, file.tensor)
        same = [each for each in left.files if (each.structure, each.codes, each.tensor) == looks]
        fitting = [
            (path, digests)
            for path, digests in left.originals.items()
            if self._kind(path, digests) == file.structure and self.why_not(file, path, digests) is None
        ]
        if len(same) == 1 and len(fitting) == 1:
            path, digests = fitting[0]
            return FileState(file, "here", path, f"by its structure ({file.structure}): {self.record(file, digests)}")
        return None

    def _kind(self, path: Path, digests: Digests) -> str | None:
        try:
            return self.structure(path, digests)[0]
        except Refusal:
            return None

    def _by_layout(self, asset: Asset, file: File, left: _Left) -> FileState | None:
        """An archive of a data set under another name; tars are left alone, which would have to be unpacked first."""
        if not asset.sets or any(digest.is_binding for digest in file.digests):
            return None
        for path, digests in left.originals.items():
            if zipfile.is_zipfile(path) and not self._no_layout(asset, path):
                return FileState(file, "here", path, f"by its layout: {self.record(file, digests)}")
        return None

    def _no_layout(self, asset: Asset, path: Path) -> str | None:
        """Why none of the asset's sets can be read from ``path``, even in part, or None; a tar is not looked into."""
        if not zipfile.is_zipfile(path):
            return None if tarfile.is_tarfile(path) else "it is no zip or tar archive"
        reason = None
        for name in asset.sets:
            try:
                self.layout(name, path, allow_partial=True)
            except Refusal as refusal:
                reason = str(refusal)
            else:
                return None
        return reason

    def _why_unrecognised(self, path: Path, digests: Digests, left: _Left) -> str:
        if other := left.original_of(digests):
            return f"it is a copy of {other}"
        try:
            kind, codes = self.structure(path, digests)
        except Refusal as refusal:
            return str(refusal)
        possible = [file.name for file in left.files if file.structure == kind and file.codes in (None, codes)]
        if possible:
            return f"it holds {kind}, as {' and '.join(possible)} do: give it the name of the one it is"
        return f"it holds {kind}, which no missing asset does"

    def _asset_state(self, asset: Asset, claimed: Mapping[str, FileState], allow_partial: bool) -> AssetState:
        if asset.status == "never released":
            return AssetState(asset, "never released")
        files = tuple(claimed.get(file.file) or FileState(file, "missing") for file in asset.files)
        data_sets = [self._data_set(asset, files, path, allow_partial) for path in _places(self.root, asset, files)]
        if data_sets:
            return next((found for found in data_sets if found.state == "here"), data_sets[0])
        if all(each.state == "here" for each in files) and files:
            if lacking := [each.file for file in asset.files for each in file.unpack if not self._is_unpacked(file)]:
                how = f"{lacking[0]} is not unpacked yet: `fetch {asset.id}` does it"
                return AssetState(asset, "incomplete", tuple(replace(each, how=how) for each in files))
            return AssetState(asset, "here", files)
        if any(each.state == "wrong" for each in files):
            return AssetState(asset, "wrong", files)
        if any(each.state == "here" for each in files):
            return AssetState(asset, "incomplete", files)
        return AssetState(asset, "withdrawn" if asset.status == "withdrawn" else "missing", files)

    def _is_unpacked(self, file: File) -> bool:
        paths = {self.root / each.file: each.sha256 for each in file.unpack}
        return all(path.is_file() and self.digests(path).sha256 == sha256 for path, sha256 in paths.items())

    def _data_set(self, asset: Asset, files: tuple[FileState, ...], path: Path, allow_partial: bool) -> AssetState:
        """As far as the sets in ``path`` can be read."""
        sets: dict[str, str] = {}
        state: State = "here"
        for name in asset.sets:
            if path.is_file() and not zipfile.is_zipfile(path):
                sets[name] = f"in {path.name}, which is unpacked when it is read"
                continue
            try:
                sets[name] = self.layout(name, path, allow_partial=allow_partial)
            except Refusal as refusal:
                sets[name], state = str(refusal), "incomplete"
        return AssetState(asset, state, files, sets, path)


def _places(root: Path, asset: Asset, files: Sequence[FileState]) -> list[Path]:
    """The folder and the archives of a data set that has readers, as far as they are there; the folder first."""
    if not asset.sets:
        return []
    folders = [root / asset.folder, *sorted(root.glob(f"[!.]*/{asset.folder}"))] if asset.folder else []
    archives = [each.path for each in files if each.state == "here" and each.path is not None]
    return [*(folder for folder in folders if folder.is_dir()), *archives]


def structure_of(path: Path) -> tuple[str, int | None]:
    """What :meth:`OfficialFolder.structure` says, of any file."""
    checkpoint = read_checkpoint(path)
    try:
        kind = recognise(checkpoint)
    except Refusal:
        return TENSORS, None
    check(checkpoint, kind)
    return kind, _number_of_codes(checkpoint, kind)


def _number_of_codes(checkpoint: Checkpoint, kind: str) -> int | None:
    options = checkpoint.options.get("opts", checkpoint.options)
    for prefix, build in KINDS[kind].networks.items():
        with torch.device("meta"):
            network, _ = build(checkpoint.part(prefix), options if isinstance(options, Mapping) else {})
        if isinstance(codes := getattr(network, "num_codes", None), int):
            return codes
    return None


def _hashed(path: Path, size: int) -> tuple[str, str]:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with (
        path.open("rb") as file,
        Progress(console=Console(stderr=True), transient=True, disable=size < _SHOWN_FROM) as bar,
    ):
        task = bar.add_task(f"reading {path.name}", total=size)
        while chunk := file.read(1 << 20):
            sha256.update(chunk)
            md5.update(chunk)
            bar.advance(task, len(chunk))
    return sha256.hexdigest(), md5.hexdigest()
