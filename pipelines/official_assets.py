"""The catalogue of the official weights and data sets, ``official_assets.yaml``: read and checked.

Each asset has its origin, licence and terms, its digest where one was published, and what needs it; that something was
never released stands there like anything else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from eval.datasets.official import SETS
from fse.refusal import Refusal
from pipelines.assets import Sha256, stays_below
from pipelines.official import KINDS

CATALOGUE = Path(__file__).with_name("official_assets.yaml")
TENSORS = "tensors"
"""A ``structure``: any tensors that can be read safely."""

Md5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Target = Annotated[str, AfterValidator(stays_below)]
HttpUrl = Annotated[str, Field(pattern=r"^https?://[^\s]+$")]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Terms(_Entry):
    """What must be accepted before something under it is downloaded."""

    title: str
    url: HttpUrl
    text: str


class Digest(_Entry):
    """A published digest, and who says so; see the head of the catalogue."""

    sha256: Sha256 | None = None
    sha256_prefix: Annotated[str, Field(pattern=r"^[0-9a-f]{8,63}$")] | None = None
    md5: Md5 | None = None
    seen: Literal["official", "agreeing", "computed", "elsewhere"]
    where: str

    @model_validator(mode="after")
    def _is_one(self) -> Digest:
        if sum(value is not None for value in (self.sha256, self.sha256_prefix, self.md5)) != 1:
            raise ValueError("a digest is one of sha256, sha256_prefix and md5")
        return self

    @property
    def is_binding(self) -> bool:
        """Whether a file that differs is another file than the asset."""
        return self.seen != "elsewhere"

    def fits(self, sha256: str, md5: str) -> bool:
        if self.md5 is not None:
            return md5 == self.md5
        return sha256.startswith(self.sha256 or self.sha256_prefix or "-")

    def __str__(self) -> str:
        if self.md5 is not None:
            return f"MD5 {self.md5}"
        return f"SHA-256 {self.sha256}" if self.sha256 else f"SHA-256 {self.sha256_prefix}..."


class Source(_Entry):
    """Where a file can be downloaded: an id on Google Drive, a URL, or the file of its name in a Zenodo record."""

    gdrive: Annotated[str, Field(pattern=r"^[-\w]{20,}$")] | None = None
    url: HttpUrl | None = None
    doi: Annotated[str, Field(pattern=r"^10\.\d+/\S+$")] | None = None
    record: Annotated[str, Field(pattern=r"^\d+$")] | None = None
    note: str | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Source:
        if sum(value is not None for value in (self.gdrive, self.url, self.doi)) != 1:
            raise ValueError("a source is one of gdrive, url and doi")
        if (self.doi is None) != (self.record is None):
            raise ValueError("a doi comes with its record on Zenodo")
        return self

    def address(self, name: str) -> str:
        """For a browser; ``name`` is the file's."""
        if self.gdrive:
            return f"https://drive.google.com/file/d/{self.gdrive}/view"
        return self.url or f"https://zenodo.org/records/{self.record}/files/{name}?download=1"


class Unpacked(_Entry):
    """A member that is taken out of an archive."""

    member: str
    file: Target
    sha256: Sha256


class Packaged(_Entry):
    """A file of an installed package."""

    name: str
    path: str


class File(_Entry):
    """One file of an asset; ``file`` is its path below the official folder."""

    file: Target
    sources: tuple[Source, ...] = ()
    size: PositiveInt | None = None
    about: str | None = None
    digests: tuple[Digest, ...] = ()
    structure: str | None = None
    codes: PositiveInt | None = None
    tensor: str | None = None
    embedded: Target | None = None
    package: Packaged | None = None
    unpack: tuple[Unpacked, ...] = ()

    @model_validator(mode="after")
    def _structure_is_known(self) -> File:
        if self.structure not in (None, TENSORS, *KINDS):
            raise ValueError(f"structure {self.structure!r} is none of {', '.join([TENSORS, *KINDS])}")
        return self

    @property
    def name(self) -> str:
        return self.file.rpartition("/")[2]

    @property
    def how_large(self) -> str:
        return f"{self.size / 1e6:,.1f} MB" if self.size else self.about or "size not known"


class Need(_Entry):
    """A table that needs the asset: these rows or columns of it, or all of it."""

    table: str
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


class Asset(_Entry):
    """One asset, of one or several files."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    group: str
    what: str
    status: Literal["released", "withdrawn", "never released"] = "released"
    licence: str
    terms: tuple[str, ...] = ()
    homepage: HttpUrl
    needed_for: tuple[Need, ...] = ()
    by_hand: str | None = None
    note: str | None = None
    folder: Target | None = None
    sets: tuple[str, ...] = ()
    files: tuple[File, ...] = ()

    @model_validator(mode="after")
    def _is_whole(self) -> Asset:
        if (self.status == "never released") == bool(self.files or self.folder):
            raise ValueError("what was released has files or a folder, and what was not has none")
        if unknown := [name for name in self.sets if name not in SETS]:
            raise ValueError(f"{unknown[0]!r} is no set of eval/datasets/official.py")
        if any(not file.sources and not file.embedded and not file.package for file in self.files) and not self.by_hand:
            raise ValueError("a file without sources needs by_hand")
        return self

    @property
    def can_be_fetched(self) -> bool:
        return self.status != "never released" and bool(self.files) and all(file.sources for file in self.files)


class Catalogue(_Entry):
    """The whole file."""

    tables: Mapping[str, str]
    rows: Mapping[str, str]
    terms: Mapping[str, Terms]
    assets: tuple[Asset, ...]

    @model_validator(mode="after")
    def _names_exist(self) -> Catalogue:
        ids, paths = [asset.id for asset in self.assets], [file.file for asset in self.assets for file in asset.files]
        for values in (ids, paths):
            if len(set(values)) < len(values):
                raise ValueError(f"{next(value for value in values if values.count(value) > 1)} is there twice")
        for asset in self.assets:
            unknown = [name for name in asset.terms if name not in self.terms]
            unknown += [need.table for need in asset.needed_for if need.table not in self.tables]
            unknown += [row for need in asset.needed_for for row in need.rows if row not in self.rows]
            if unknown:
                raise ValueError(f"{asset.id} names {unknown[0]!r}, which is nowhere above")
        return self

    def asset(self, name: str) -> Asset:
        """Raises Refusal if there is none of this id."""
        for asset in self.assets:
            if asset.id == name:
                return asset
        raise Refusal(f"there is no official asset {name!r}; `python -m pipelines.assets status` lists them")

    def for_stand_ins(self) -> Catalogue:
        """The same assets and files, held to nothing but the kind of their structure: for a rehearsal on stand-ins."""
        free = {"digests": (), "size": None, "codes": None, "tensor": None, "unpack": ()}
        assets = [
            asset.model_copy(update={"files": tuple(file.model_copy(update=free) for file in asset.files)})
            for asset in self.assets
        ]
        return self.model_copy(update={"assets": tuple(assets)})

    def needed_by(self, tables: Iterable[str]) -> list[Asset]:
        """The assets that any of ``tables`` needs; raises Refusal if there is no such table."""
        wanted = set(tables)
        if unknown := sorted(wanted - set(self.tables)):
            raise Refusal(f"there is no table {unknown[0]!r}; choose from {', '.join(self.tables)}")
        return [asset for asset in self.assets if any(need.table in wanted for need in asset.needed_for)]

    def blocks(self, asset: Asset) -> list[str]:
        """What cannot be made without ``asset``, in words: a line a table."""
        lines = []
        for need in asset.needed_for:
            rows = " / ".join(self.rows[row] for row in need.rows)
            parts = [f"row{'s' * (len(need.rows) > 1)} {rows}"] if rows else []
            parts += [f"column{'s' * (len(need.columns) > 1)} {' / '.join(need.columns)}"] if need.columns else []
            lines.append(f"{need.table}: {'; '.join(parts) or 'all of it'}")
        return lines


def read_official_catalogue(path: Path = CATALOGUE) -> Catalogue:
    """The catalogue of ``path``; raises Refusal naming the entry that is wrong."""
    try:
        return Catalogue.model_validate(YAML(typ="safe").load(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "top level"
        message = re.sub(r"^Value error, ", "", first["msg"])
        raise Refusal(f"asset catalogue {path}: {where}: {message}; correct this entry") from error
    except (OSError, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise Refusal(f"asset catalogue {path} cannot be read ({reason}); restore it from Git") from error
