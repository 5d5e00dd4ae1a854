"""Downloads of official assets: resumed where they broke off, checked, and put into the official folder.

``gdown`` transfers both Google Drive's files and plain URLs: it takes up a broken download with HTTP Range, checks that
the server did as asked, and reads Google's pages between a link and its file. ``pooch`` asks Zenodo for the MD5 of its
files. Proxies and certificates are those of the environment (``HTTPS_PROXY``, ``REQUESTS_CA_BUNDLE``). Nothing that is
downloaded is executed; what is not the file that was asked for is deleted and named.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

import gdown
import pooch  # type: ignore[import-untyped]
import requests
from filelock import FileLock, Timeout
from gdown.exceptions import DownloadError, FileURLRetrievalError
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from eval.datasets.tree import open_tree
from fse.refusal import Refusal
from pipelines.official_assets import Asset, File, Source, Terms
from pipelines.official_folder import PARTIAL, Digests, OfficialFolder, how_to_get

LOCK = ".lock"
_TIMEOUT = (30, 60)  # seconds to connect, and between two reads
_LARGEST_MEMBER = 1 << 30
_ROOM_TO_LEAVE = 1_000_000  # bytes

Ask = Callable[[Sequence[Terms]], bool]
"""Shows terms to a person, who accepts them or not."""


class Fetcher:
    """Downloads into one official folder.

    Parameters
    ----------
    folder : OfficialFolder
    retries : int
        How often a transfer that breaks off is taken up again at once, with growing pauses.
    cookies : Path, optional
        Netscape's file of a signed-in browser, where Google Drive answers that a file was downloaded too often.
    say : callable
        Receives a line for each thing done.
    """

    def __init__(
        self,
        folder: OfficialFolder,
        *,
        retries: int = 5,
        cookies: Path | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.folder, self.retries, self.cookies, self.say = folder, retries, cookies, say
        self._zenodo: dict[str, dict[str, str]] = {}

    def fetch(self, assets: Sequence[Asset], ask: Ask) -> None:
        """Make the files of ``assets`` be in the folder; those that are, under whatever name, are left alone.

        What cannot be had does not stop the others.

        Raises
        ------
        Refusal
            Terms are not accepted, there is no room, or, when all else is done, some files could not be had: how many,
            and why the first one could not.
        """
        try:
            self.folder.root.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder.root / LOCK, timeout=0):
                self._fetch(assets, ask)
        except Timeout as error:
            raise Refusal(f"another `fetch` is at work in {self.folder.root}; wait for it to end") from error
        except OSError as error:
            raise Refusal(
                f"{self.folder.root} cannot be used ({error.strerror}); choose another with --folder"
            ) from error

    def _fetch(self, assets: Sequence[Asset], ask: Ask) -> None:
        survey = self.folder.survey()
        wanted: list[tuple[Asset, File]] = []
        failures: list[str] = []
        for asset in assets:
            if not asset.can_be_fetched:
                failures.append(f"{asset.id} cannot be downloaded ({asset.status}): {how_to_get(asset)}")
                continue
            if survey.assets[asset.id].state == "here":
                self.say(f"{asset.id}: already here")
                continue
            for state in survey.assets[asset.id].files:
                if state.state == "wrong":
                    failures.append(
                        f"{state.path} is not {state.file.name} of {asset.id} ({state.how}); move it away first"
                    )
                elif state.state == "missing":
                    wanted.append((asset, state.file))
                elif state.path is not None:
                    self._unpack(state.file, state.path)
        self._agree([asset for asset, _ in wanted], ask)
        self._make_sure_of_room([file for _, file in wanted])
        for number, (asset, file) in enumerate(wanted, 1):
            self.say(f"[{number}/{len(wanted)}] {asset.id}: {file.name} ({file.how_large})")
            try:
                self.say(f"  {self._obtain(asset, file)}")
            except Refusal as refusal:
                self.say(f"  failed: {refusal}")
                failures.append(str(refusal))
        if failures:
            raise Refusal(f"{len(failures)} of the assets could not be had; the first: {failures[0]}")

    def _agree(self, assets: Sequence[Asset], ask: Ask) -> None:
        """Every term of ``assets`` is accepted, now or before; its wording is what was accepted."""
        accepted, terms = self.folder.state.accepted, self.folder.catalogue.terms
        new = {
            name: terms[name]
            for name in dict.fromkeys(name for asset in assets for name in asset.terms)
            if accepted.get(name, {}).get("text") != _fingerprint(terms[name])
        }
        if not new:
            return
        if not ask(list(new.values())):
            raise Refusal(
                f"nothing was downloaded: the terms of {', '.join(t.title for t in new.values())} are not accepted; "
                "read them and say --accept"
            )
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        accepted.update({name: {"text": _fingerprint(term), "when": now} for name, term in new.items()})
        self.folder.state.write()

    def _make_sure_of_room(self, files: Sequence[File]) -> None:
        root = self.folder.root
        free = shutil.disk_usage(root).free
        needed = sum(max(0, (file.size or 0) - _bytes_below(self._work(file))) for file in files)
        if needed + _ROOM_TO_LEAVE > free:
            raise Refusal(
                f"{root} has room for {free / 1e9:.1f} GB, but at least {needed / 1e9:.1f} GB are to be downloaded; "
                "make room, choose another folder, or name fewer assets"
            )

    def _work(self, file: File) -> Path:
        return self.folder.root / PARTIAL / hashlib.sha256(file.file.encode()).hexdigest()[:16]

    def _obtain(self, asset: Asset, file: File) -> str:
        """Download from the first source that has it; what was done, in words."""
        reasons = []
        for source in file.sources:
            # One folder a source: what one has sent is never continued with what another sends.
            work = self._work(file) / hashlib.sha256(repr(source).encode()).hexdigest()[:16]
            try:
                expected = self._zenodo_md5(source, file)
                path = self._transfer(source, file, work)
                return self._accept(file, path, expected)
            except Refusal as refusal:
                reasons.append(str(refusal))
        by_hand = f"download it in a browser from {file.sources[0].address(file.name)} into {self.folder.root}"
        raise Refusal(f"{file.name} of {asset.id}: {'; '.join(reasons)}; try again, or {by_hand}")

    def _transfer(self, source: Source, file: File, work: Path) -> Path:
        """The downloaded file in ``work``, not yet looked at; a partial one stays there for the next try."""
        target = work / file.name
        address = source.address(file.name)
        try:
            work.mkdir(parents=True, exist_ok=True)
            with _progress() as bar:
                task = bar.add_task(file.name, total=file.size, completed=_bytes_below(work))

                def show(done: int, total: int | None) -> None:
                    bar.update(task, completed=done, total=total or file.size)

                for attempt in ("resumed", "anew"):
                    try:
                        gdown.download(
                            url=None if source.gdrive else address,
                            id=source.gdrive,
                            output=str(target),
                            quiet=True,
                            resume=True,
                            retries=self.retries,
                            timeout=_TIMEOUT,
                            use_cookies=self.cookies is not None,
                            cookies_file=str(self.cookies) if self.cookies else None,
                            progress=show,
                        )
                        break
                    except DownloadError as error:
                        if attempt == "anew" or "byte range" not in str(error) or not _bytes_below(work):
                            raise
                        # A server that cannot resume, or a file that was whole but for its name.
                        self.say(f"  {file.name} cannot be resumed there, so it is downloaded anew")
                        shutil.rmtree(work)
                        work.mkdir()
        except FileURLRetrievalError as error:
            raise Refusal(f"Google Drive did not give it ({_sentence(error)}); --cookies may help") from error
        except DownloadError as error:
            raise Refusal(
                f"the download broke off ({_sentence(error)}); the part is kept and taken up next time"
            ) from error
        except requests.HTTPError as error:
            raise Refusal(f"{address} answered: {_sentence(error)}") from error
        except requests.RequestException as error:
            raise Refusal(f"{address} could not be reached ({_sentence(error)})") from error
        except OSError as error:
            raise Refusal(f"it cannot be written to {work} ({error.strerror}); make room there") from error
        return target

    def _accept(self, file: File, path: Path, expected_md5: str | None) -> str:
        """Move ``path`` into the folder if it is ``file``; delete it otherwise."""
        reason = _web_page(path)
        digests: Digests | None = None
        if reason is None:
            digests = self.folder.digests(path)
            reason = self.folder.why_not(file, path, digests)
        if reason is None and digests is not None and expected_md5 not in (None, digests.md5):
            reason = f"its MD5 is {digests.md5} and not Zenodo's {expected_md5}"
        if reason is not None or digests is None:
            shutil.rmtree(path.parent)
            raise Refusal(f"what came is not {file.name}, and was deleted: {reason}")
        target = self.folder.root / file.file
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        except OSError as error:
            raise Refusal(f"{target} cannot be written ({error.strerror}); check its folder") from error
        said = f"MD5 {digests.md5} as given by Zenodo" if expected_md5 else self.folder.record(file, digests)
        if expected_md5:
            self.folder.state.recorded[file.file] = digests.sha256
        self.folder.state.write()
        shutil.rmtree(self._work(file), ignore_errors=True)
        if not any((self.folder.root / PARTIAL).iterdir()):
            (self.folder.root / PARTIAL).rmdir()
        self._unpack(file, target)
        return f"{target}, {digests.size:,} bytes; {said}"

    def _unpack(self, file: File, archive: Path) -> None:
        """Take the members that the catalogue names out of the archive, if they are not there."""
        for each in file.unpack:
            target = self.folder.root / each.file
            if target.is_file() and self.folder.digests(target).sha256 == each.sha256:
                continue
            content = open_tree(archive).read(each.member, _LARGEST_MEMBER)
            if hashlib.sha256(content).hexdigest() != each.sha256:
                raise Refusal(f"{each.member} in {archive} has another SHA-256 than the catalogue's; download it again")
            partial = target.with_name(f".{target.name}.partial")
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                partial.write_bytes(content)
                partial.replace(target)
            except OSError as error:
                raise Refusal(f"{target} cannot be written ({error.strerror}); make room there") from error
            self.say(f"  {target}, out of {archive.name}")

    def _zenodo_md5(self, source: Source, file: File) -> str | None:
        """Of a file in a Zenodo record, by Zenodo; None for other sources, and where Zenodo does not say."""
        if source.doi is None:
            return None
        if source.doi not in self._zenodo:
            registry = pooch.create(self.folder.root, f"doi:{source.doi}/")
            try:
                registry.load_registry_from_doi()
            except (requests.RequestException, ValueError, KeyError) as error:
                self.say(f"  the MD5 of files at doi:{source.doi} could not be asked for ({_sentence(error)})")
            self._zenodo[source.doi] = registry.registry
        known = self._zenodo[source.doi].get(file.name)
        return known.removeprefix("md5:") if known else None


def _web_page(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "it is a web page (as servers send when a file needs signing in, or was downloaded too often)"
    return None


def _fingerprint(terms: Terms) -> str:
    return hashlib.sha256(f"{terms.title}\n{terms.url}\n{terms.text}".encode()).hexdigest()


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0


def _sentence(error: Exception) -> str:
    """An exception's message on one line, and not too long."""
    text = " ".join(str(error).split()).rstrip(".")
    return text if len(text) <= 200 else f"{text[:200]}..."


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
