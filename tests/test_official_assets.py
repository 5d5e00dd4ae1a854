"""The official assets: their catalogue, what is recognised in a folder, and downloads against an internet of our own.

That internet is one local proxy: it answers for every host, speaks TLS with a certificate made here, and breaks, lies
and refuses as it is told. The real gdown, pooch and requests run against it, as behind a company's proxy.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import os
import pickle
import resource
import signal
import ssl
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from filelock import FileLock
from PIL import Image
from ruamel.yaml import YAML

from eval.contest import METHODS
from eval.datasets.official import SETS
from fse.generators.stylegan2 import StyleGAN2, StyleGAN2Size
from fse.refusal import Refusal
from pipelines.assets import main
from pipelines.official_assets import Catalogue, Terms, read_official_catalogue
from pipelines.official_fetch import LOCK, Fetcher
from pipelines.official_folder import PARTIAL, STATE, OfficialFolder, Survey, how_to_get

DRIVE_ID = "1AbCdEfGhIjKlMnOpQrStUvWxYz012345"
HOSTS = ("drive.google.com", "drive.usercontent.google.com", "doi.org", "zenodo.org", "files.test")
CONTENT = np.random.default_rng(0).bytes(1_600_000)
BREAKS, HELD = 1_300_000, 2 * 512 * 1024
"""Where connections break, and what is kept then: gdown writes half a megabyte at a time."""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# An internet of our own


@dataclass
class Page:
    """What an address answers.

    ``breaks_after`` bytes the connection is cut, the given number of times; ``pause`` seconds are let pass there.
    """

    content: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    breaks_after: int | None = None
    breaks: int = 1
    pause: float = 0


class Internet:
    """Pages by their address without scheme and query; what was asked for is kept in ``asked``."""

    def __init__(self, folder: Path) -> None:
        self.pages: dict[str, Page] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.certificate = folder / "certificate.pem"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*_certificate(folder))
        internet = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            host = ""

            def do_CONNECT(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.close_connection = False  # urllib3 asks in HTTP/1.0
                self.host = self.path.partition(":")[0]
                self.connection = context.wrap_socket(self.connection, server_side=True)
                self.rfile = self.connection.makefile("rb")  # type: ignore[assignment]
                self.wfile = self.connection.makefile("wb", buffering=0)  # type: ignore[assignment]

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                address = f"{parts.netloc or self.host}{parts.path}"
                wanted = self.headers.get("Range")
                internet.asked.append((address, wanted))
                page = internet.pages.get(address, Page(b"nothing here", 404))
                content, status, start = page.content, page.status, 0
                if wanted and page.ranges and status == 200:
                    start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                    content, status = content[start:], 206 if start < len(content) else 416
                self.send_response(status)
                for name, value in ({"Content-Type": "application/octet-stream"} | page.headers).items():
                    self.send_header(name, value)
                if status == 206:
                    self.send_header("Content-Range", f"bytes {start}-{len(page.content) - 1}/{len(page.content)}")
                self.send_header("Content-Length", str(len(content)))
                self.send_header("ETag", f'"{sha256(page.content)[:8]}"')
                self.end_headers()
                if page.breaks_after is not None and page.breaks > 0 and start <= page.breaks_after < len(page.content):
                    page.breaks -= 1
                    self.wfile.write(content[: page.breaks_after - start])
                    self.wfile.flush()
                    time.sleep(page.pause)
                    self.close_connection = True
                    return
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.proxy = f"http://127.0.0.1:{self.server.server_address[1]}"

    def file(self, name: str, content: bytes = CONTENT, **how: Any) -> Page:
        self.pages[f"files.test/{name}"] = Page(content, **how)
        return self.pages[f"files.test/{name}"]

    def ranges(self, name: str) -> list[str | None]:
        """What was asked of a file, in turn."""
        return [wanted for address, wanted in self.asked if address == f"files.test/{name}"]


def _certificate(folder: Path) -> tuple[Path, Path]:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.timezone.utc)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an internet of our own")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in HOSTS]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, *private))
    return paths


@pytest.fixture
def internet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Internet]:
    (tmp_path / "tls").mkdir()
    created = Internet(tmp_path / "tls")
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", created.proxy)
    monkeypatch.setenv("HTTPS_PROXY", created.proxy)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(created.certificate))
    yield created
    created.server.shutdown()
    created.server.server_close()


# Stand-ins


def generator_file(path: Path, seed: int = 0, sides: int = 4) -> bytes:
    """StyleGAN2 in rosinality's layout, with as many codes as twice the sides; gives the file's bytes."""
    torch.manual_seed(seed)
    network = StyleGAN2(StyleGAN2Size(4 * 2 ** (sides - 1), (8, 8, 4, 4, 4)[:sides], 8, 2), 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"g_ema": network.state_dict(), "latent_avg": torch.zeros(8)}, path)
    return path.read_bytes()


class Stand:
    """A catalogue of stand-ins, and the official folder that it is about."""

    def __init__(self, root: Path) -> None:
        self.root, self.assets, self.said = root / "official", list[dict[str, Any]](), list[str]()
        self.path = root / "catalogue.yaml"
        self.terms = {"free": {"title": "Free things", "url": "https://files.test/terms", "text": "Be kind."}}

    def add(self, name: str, files: list[dict[str, Any]] | None = None, **more: Any) -> None:
        """An asset whose files come from ``https://files.test/FILE`` if nothing else is said."""
        for file in files or []:
            file.setdefault("sources", [{"url": f"https://files.test/{file['file']}"}])
        entry = {"id": name, "group": "all", "what": name, "licence": "free", "homepage": "https://files.test/"}
        needed = [{"table": "T1", "rows": ["psp"]}]
        self.assets.append(entry | {"terms": ["free"], "needed_for": needed, "files": files or []} | more)

    def catalogue(self) -> Catalogue:
        values = {"tables": {"T1": "Table 1", "T2": "Table 2"}, "rows": {"psp": "pSp"}, "terms": self.terms}
        YAML(typ="safe").dump(values | {"assets": self.assets}, self.path)
        return read_official_catalogue(self.path)

    def folder(self) -> OfficialFolder:
        return OfficialFolder(self.root, self.catalogue(), self.root.parent / "embedded")

    def survey(self, **how: Any) -> Survey:
        return self.folder().survey(**how)

    def states(self) -> dict[str, str]:
        return {name: state.state for name, state in self.survey().assets.items()}

    def fetch(self, *names: str, accept: bool = True, **how: Any) -> None:
        folder = self.folder()
        assets = [folder.catalogue.asset(name) for name in names or [a.id for a in folder.catalogue.assets]]
        Fetcher(folder, **({"retries": 0, "say": self.said.append} | how)).fetch(assets, lambda terms: accept)

    def refused(self, *names: str, **how: Any) -> str:
        """The sentence with which :meth:`fetch` ends; no web page, part or wrong file is in the folder."""
        with pytest.raises(Refusal) as refusal:
            self.fetch(*names, **how)
        assert "\n" not in str(refusal.value)
        return str(refusal.value)

    def files(self) -> dict[str, bytes]:
        """Finished ones."""
        return {
            path.relative_to(self.root).as_posix(): path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_file() and path.name not in (STATE, LOCK) and PARTIAL not in path.parts
        }

    def parts(self) -> list[Path]:
        return [path for path in (self.root / PARTIAL).rglob("*") if path.is_file()]


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)


def published(content: bytes = CONTENT, **changes: Any) -> dict[str, Any]:
    return {"sha256": sha256(content), "seen": "official", "where": "its authors"} | changes


# The catalogue


def test_the_catalogue_is_whole() -> None:
    catalogue = read_official_catalogue()
    assert {name for asset in catalogue.assets for name in asset.sets} == set(SETS)
    for row, label in catalogue.rows.items():
        assert METHODS.get(row, label) == label
    assert {need.table for asset in catalogue.assets for need in asset.needed_for} == set(catalogue.tables)
    assert [asset.id for asset in catalogue.assets if asset.status == "never released"] == [
        "fse_others",
        "restyle_afhq",
    ]
    for asset in catalogue.assets:
        assert how_to_get(asset)
        assert asset.terms or asset.status == "never released"
    ravdess = [file.name for file in catalogue.asset("ravdess").files]
    assert len(ravdess) == 24 + 23
    assert "Video_Song_Actor_18.zip" not in ravdess
    e4e = catalogue.asset("e4e_ffhq").files[0]
    assert (e4e.sources[0].gdrive, e4e.size) == ("1cUv_reLE6k3604or78EranS7XzuVMWeO", 1_201_649_680)
    assert catalogue.blocks(catalogue.asset("fse_ffhq"))[0] == "T1: rows FSE, G(F, w) / FSE, G(w)"


def test_stand_ins_are_held_to_their_structure_alone(stand: Stand) -> None:
    stand.add("one", [{"file": "one.pt", "structure": "stylegan2", "codes": 18, "size": 9, "digests": [published()]}])
    generator_file(stand.root / "one.pt")
    assert stand.states() == {"one": "wrong"}
    folder = OfficialFolder(stand.root, stand.catalogue().for_stand_ins())
    assert folder.survey().assets["one"].state == "here"


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"file": "../escaped.pt"}, "stays below the output folder"),
        ({"file": "/etc/passwd"}, "stays below the output folder"),
        ({"structure": "stylegan9"}, "stylegan9"),
        ({"digests": [{"seen": "official", "where": "x"}]}, "a digest is one of"),
        ({"digests": [published(sha256="abc")]}, "assets.0.files.0.digests.0.sha256"),
        ({"sources": [{"url": "ftp://files.test/a"}]}, "assets.0.files.0.sources.0.url"),
        ({"sources": [{"url": "https://a.test/a", "gdrive": DRIVE_ID}]}, "a source is one of"),
        ({"sources": []}, "a file without sources needs by_hand"),
        ({"licence": "x"}, "assets.0.files.0.licence"),
    ],
)
def test_a_wrong_entry_is_named(changes: dict[str, Any], part: str, stand: Stand) -> None:
    stand.add("one", [{"file": "one.bin"} | changes])
    with pytest.raises(Refusal, match="correct this entry") as refusal:
        stand.catalogue()
    assert part in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"terms": ["unknown"]}, "'unknown', which is nowhere above"),
        ({"needed_for": [{"table": "T9"}]}, "'T9', which is nowhere above"),
        ({"sets": ["celeba"]}, "'celeba' is no set"),
        ({"status": "never released"}, "what was not has none"),
        ({"id": "two"}, "two is there twice"),
    ],
)
def test_a_wrong_asset_is_named(changes: dict[str, Any], part: str, stand: Stand) -> None:
    stand.add("two", [{"file": "two.bin"}])
    stand.add("one", [{"file": "one.bin"}], **changes)
    with pytest.raises(Refusal, match="correct this entry") as refusal:
        stand.catalogue()
    assert part in str(refusal.value)


# Downloads


def test_a_file_is_downloaded_once_through_the_proxy(internet: Internet, stand: Stand) -> None:
    internet.file("one.bin")
    internet.file("hub/two.bin", CONTENT[::-1])
    stand.add("one", [{"file": "one.bin", "size": len(CONTENT), "digests": [published()]}])
    stand.add(
        "two",
        [{"file": "hub/two.bin", "digests": [published(sha256=None, md5=hashlib.md5(CONTENT[::-1]).hexdigest())]}],
    )
    assert stand.states() == {"one": "missing", "two": "missing"}
    stand.fetch()
    assert stand.files() == {"one.bin": CONTENT, "hub/two.bin": CONTENT[::-1]}
    assert not (stand.root / PARTIAL).exists()
    assert stand.states() == {"one": "here", "two": "here"}
    assert stand.survey().path("two") == stand.root / "hub/two.bin"
    asked = len(internet.asked)
    stand.fetch()
    assert len(internet.asked) == asked
    assert "SHA-256" in "".join(stand.said)
    assert stand.said[-2:] == ["one: already here", "two: already here"]


def test_a_download_that_breaks_off_goes_on_with_the_next_run(internet: Internet, stand: Stand) -> None:
    internet.file("one.bin", breaks_after=BREAKS)
    stand.add("one", [{"file": "one.bin", "digests": [published()]}])
    assert "broke off" in stand.refused()
    assert stand.files() == {}
    (part,) = stand.parts()
    assert part.read_bytes() == CONTENT[:HELD]
    stand.fetch()
    assert stand.files() == {"one.bin": CONTENT}
    assert internet.ranges("one.bin")[-1] == f"bytes={HELD}-"


def test_a_download_that_breaks_off_is_taken_up_at_once(internet: Internet, stand: Stand) -> None:
    internet.file("one.bin", breaks_after=BREAKS)
    stand.add("one", [{"file": "one.bin", "digests": [published()]}])
    stand.fetch(retries=2)
    assert stand.files() == {"one.bin": CONTENT}
    assert internet.ranges("one.bin") == [None, f"bytes={HELD}-"]


@pytest.mark.parametrize("whole", [False, True])
def test_a_part_that_cannot_be_resumed_is_downloaded_anew(whole: bool, internet: Internet, stand: Stand) -> None:
    """The server knows no ranges, or the part is the whole file, whose run was killed before it was renamed."""
    page = internet.file("one.bin", ranges=whole, breaks_after=BREAKS)
    stand.add("one", [{"file": "one.bin", "digests": [published()]}])
    stand.refused()
    if whole:
        stand.parts()[0].write_bytes(CONTENT)
    assert page.breaks == 0
    stand.fetch()
    assert stand.files() == {"one.bin": CONTENT}
    assert any("downloaded anew" in line for line in stand.said)


def test_a_killed_download_goes_on(internet: Internet, stand: Stand) -> None:
    internet.file("one.bin", breaks_after=BREAKS, pause=30)
    stand.add("one", [{"file": "one.bin", "digests": [published()]}])
    stand.catalogue()
    command = [sys.executable, "-m", "pipelines.assets", "fetch", "one", "--accept"]
    command += ["--folder", str(stand.root), "--official-catalogue", str(stand.path)]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size == HELD for path in stand.parts()) and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.wait()
    stand.fetch()
    assert stand.files() == {"one.bin": CONTENT}
    assert internet.ranges("one.bin")[-1] == f"bytes={HELD}-"


@pytest.mark.parametrize(
    ("page", "part"),
    [
        (Page(b"nothing here", 404), "404"),
        (Page(b"closed", 503), "503"),
        (Page(CONTENT[::-1]), "its digest is"),
        (Page(CONTENT[:100]), "it has 100 bytes and not 1,600,000"),
        (Page(b"\n<!DOCTYPE html><html>Sign in</html>", headers={"Content-Type": "text/html"}), "it is a web page"),
    ],
)
def test_what_is_not_the_file_is_refused_and_the_next_source_tried(
    page: Page, part: str, internet: Internet, stand: Stand
) -> None:
    internet.pages["files.test/one.bin"] = page
    file = {"file": "one.bin", "size": len(CONTENT), "digests": [published()]}
    stand.add("one", [file])
    sentence = stand.refused()
    assert part in sentence
    assert "https://files.test/one.bin into" in sentence  # by hand
    assert (stand.files(), stand.parts()) == ({}, [])
    file["sources"].append({"url": "https://files.test/mirror.bin"})
    internet.file("mirror.bin")
    stand.fetch()
    assert stand.files() == {"one.bin": CONTENT}


def test_no_network_is_one_sentence(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    stand.add("one", [{"file": "one.bin"}])
    assert "https://files.test/one.bin could not be reached" in stand.refused()


def test_two_downloads_at_once_do_not_write_into_each_other(internet: Internet, stand: Stand) -> None:
    internet.file("one.bin")
    stand.add("one", [{"file": "one.bin"}])
    stand.root.mkdir()
    with FileLock(stand.root / LOCK):
        assert "another `fetch` is at work" in stand.refused()
    stand.fetch()


def test_one_failure_does_not_stop_the_others(internet: Internet, stand: Stand) -> None:
    internet.file("two.bin")
    stand.add("one", [{"file": "one.bin"}])
    stand.add("two", [{"file": "two.bin"}])
    stand.add("gone", None, status="never released", by_hand="nowhere")
    sentence = stand.refused()
    assert sentence.startswith(
        "2 of the assets could not be had; the first: gone cannot be downloaded (never released)"
    )
    assert stand.files() == {"two.bin": CONTENT}


def test_google_drives_pages_lead_to_the_file_and_its_refusals_are_told(internet: Internet, stand: Stand) -> None:
    form = (
        '<html><form id="download-form" action="https://drive.usercontent.google.com/download">'
        f'<input type="hidden" name="id" value="{DRIVE_ID}"><input type="hidden" name="confirm" value="t"></form>'
    )
    html = {"Content-Type": "text/html; charset=utf-8"}
    internet.pages["drive.google.com/uc"] = Page(
        b'<html><p class="uc-error-subcaption">Too many users have viewed this file recently.</p></html>', headers=html
    )
    stand.add("one", [{"file": "one.bin", "sources": [{"gdrive": DRIVE_ID}], "digests": [published()]}])
    sentence = stand.refused()
    assert "Too many users have viewed this file recently" in sentence
    assert f"https://drive.google.com/file/d/{DRIVE_ID}/view" in sentence
    assert stand.files() == {}

    internet.pages["drive.google.com/uc"] = Page(form.encode(), headers=html)
    attachment = {"Content-Disposition": 'attachment; filename="other_name.bin"'}
    internet.pages["drive.usercontent.google.com/download"] = Page(CONTENT, headers=attachment, breaks_after=BREAKS)
    assert "broke off" in stand.refused()
    stand.fetch()
    assert stand.files() == {"one.bin": CONTENT}
    assert ("drive.usercontent.google.com/download", f"bytes={HELD}-") in internet.asked


def test_zenodo_says_the_digests_of_its_files(internet: Internet, stand: Stand) -> None:
    files = {"Video_Speech_Actor_01.zip": CONTENT, "Video_Speech_Actor_02.zip": CONTENT[::-1]}
    record = "zenodo.org/records/1188976"
    internet.pages["doi.org/10.5281/zenodo.1188976"] = Page(status=302, headers={"Location": f"https://{record}"})
    internet.pages[record] = Page(b"<html></html>")
    listed = [
        {"key": n, "checksum": f"md5:{hashlib.md5(c).hexdigest()}", "links": {"self": ""}} for n, c in files.items()
    ]
    internet.pages["zenodo.org/api/records/1188976"] = Page(json.dumps({"id": 1188976, "files": listed}).encode())
    for name, content in files.items():
        internet.pages[f"{record}/files/{name}"] = Page(content)
    source = {"doi": "10.5281/zenodo.1188976", "record": "1188976"}
    stand.add("clips", [{"file": f"ravdess/{name}", "sources": [source]} for name in files])
    internet.pages[f"{record}/files/Video_Speech_Actor_02.zip"] = Page(CONTENT)
    assert "and not Zenodo's" in stand.refused()
    assert stand.states() == {"clips": "incomplete"}
    internet.pages[f"{record}/files/Video_Speech_Actor_02.zip"] = Page(CONTENT[::-1])
    stand.fetch()
    assert stand.states() == {"clips": "here"}
    assert sum("as given by Zenodo" in line for line in stand.said) == 2
    assert stand.survey().path("clips", "Video_Speech_Actor_02.zip").read_bytes() == CONTENT[::-1]


def test_what_has_no_published_digest_is_recorded_and_held(internet: Internet, stand: Stand) -> None:
    internet.file("one.bin")
    elsewhere = published(CONTENT[::-1], seen="elsewhere", where="a file of this name elsewhere")
    stand.add("one", [{"file": "one.bin", "digests": [elsewhere]}])
    stand.fetch()
    said = stand.said[-1]
    assert f"no digest is published; SHA-256 {sha256(CONTENT)} recorded now and held from here on" in said
    assert "(another file than a file of this name elsewhere has)" in said
    (stand.root / "one.bin").unlink()
    internet.file("one.bin", CONTENT + b"changed")
    assert f"not {sha256(CONTENT)}, which was recorded when the file was first here" in stand.refused()
    assert stand.files() == {}
    (stand.root / "one.bin").write_bytes(CONTENT + b"changed by hand")
    assert stand.states() == {"one": "wrong"}
    assert "move it away first" in stand.refused()
    (stand.root / "one.bin").rename(stand.root / "old.bin")
    internet.file("one.bin")
    stand.fetch()
    assert stand.states() == {"one": "here"}


def test_a_structure_is_read_before_a_file_is_taken(internet: Internet, stand: Stand, tmp_path: Path) -> None:
    eight = generator_file(tmp_path / "eight.pt")
    internet.file("generator.pt", generator_file(tmp_path / "ten.pt", sides=5))
    stand.add("one", [{"file": "generator.pt", "structure": "stylegan2", "codes": 8}])
    assert "its generator has 10 codes and not 8" in stand.refused()
    internet.file("generator.pt", CONTENT)
    assert "it cannot be used" in stand.refused()
    internet.file("generator.pt", eight)
    stand.fetch()
    assert stand.files() == {"generator.pt": eight}


def test_terms_are_accepted_once_and_again_when_they_change(internet: Internet, stand: Stand) -> None:
    internet.file("one.bin")
    internet.file("two.bin", CONTENT[::-1])
    stand.add("one", [{"file": "one.bin"}])
    stand.add("two", [{"file": "two.bin"}])
    assert "the terms of Free things are not accepted" in stand.refused("one", accept=False)
    assert internet.asked == []
    stand.fetch("one")
    stand.fetch("two", accept=False)  # not asked again
    assert json.loads((stand.root / STATE).read_text())["accepted"]["free"]["when"].startswith("20")
    (stand.root / "two.bin").unlink()
    stand.terms["free"]["text"] = "Be very kind."
    assert "not accepted" in stand.refused("two", accept=False)
    stand.fetch("two")


def test_no_room_is_said_before_anything_is_downloaded(
    internet: Internet, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand.add("one", [{"file": "one.bin", "size": 10**15}])
    assert "at least 1000000.0 GB are to be downloaded" in stand.refused()
    assert internet.asked == []


def test_a_disk_that_fills_up_leaves_no_half_file(internet: Internet, stand: Stand) -> None:
    """A limit on the size of files stands for a full disk."""
    internet.file("one.bin")
    stand.add("one", [{"file": "one.bin"}])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        sentence = stand.refused()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "(File too large); make room there" in sentence
    assert stand.files() == {}
    stand.fetch()
    assert stand.files() == {"one.bin": CONTENT}


def test_members_are_taken_out_of_an_archive_and_nothing_else(internet: Internet, stand: Stand) -> None:
    def packed(**members: bytes) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return buffer.getvalue()

    unpack = [{"member": "a.onnx", "file": "pack/a.onnx", "sha256": sha256(CONTENT)}]
    stand.add("pack", [{"file": "pack.zip", "unpack": unpack}])
    internet.file("pack.zip", packed(**{"a.onnx": CONTENT, "b.py": b"raise SystemExit"}))
    stand.fetch()
    assert {name for name in stand.files()} == {"pack.zip", "pack/a.onnx"}
    assert stand.states() == {"pack": "here"}
    (stand.root / "pack/a.onnx").write_bytes(b"damaged")
    assert stand.states() == {"pack": "incomplete"}
    stand.fetch()
    assert stand.files()["pack/a.onnx"] == CONTENT

    for content, part in (
        (packed(**{"../a.onnx": CONTENT, "a.onnx": CONTENT}), "leads out of it"),
        (packed(**{"a.onnx": CONTENT[::-1]}), "another SHA-256"),
    ):
        for path in (stand.root / "pack.zip", stand.root / "pack/a.onnx", stand.root / STATE):
            path.unlink()
        internet.file("pack.zip", content)
        assert part in stand.refused()
        assert not (stand.root / "pack/a.onnx").exists()
        assert not (stand.root.parent / "a.onnx").exists()
        (stand.root / "pack/a.onnx").parent.mkdir(exist_ok=True)
        (stand.root / "pack/a.onnx").write_bytes(b"")


# Recognition


def test_files_dropped_in_under_any_name_are_recognised(stand: Stand, tmp_path: Path) -> None:
    stand.add("by_digest", [{"file": "weights.bin", "digests": [published()]}])
    stand.add(
        "by_prefix", [{"file": "prefix.bin", "digests": [published(b"p", sha256=None, sha256_prefix=sha256(b"p")[:8])]}]
    )
    stand.add("by_name", [{"file": "named.pt", "structure": "stylegan2", "codes": 8}])
    stand.add("by_structure", [{"file": "large.pt", "structure": "stylegan2", "codes": 10}])
    stand.add("absent", [{"file": "absent.pt", "structure": "psp"}])
    stand.root.mkdir()
    (stand.root / "download (1)").write_bytes(CONTENT)
    (stand.root / "below").mkdir()
    (stand.root / "below/p").write_bytes(b"p")
    generator_file(stand.root / "named.pt")
    generator_file(stand.root / "below/from_a_friend.pth", sides=5)
    (stand.root / "notes.txt").write_text("to do")
    survey = stand.survey()
    assert {name: state.state for name, state in survey.assets.items()} == {
        "by_digest": "here", "by_prefix": "here", "by_name": "here", "by_structure": "here", "absent": "missing"
    }  # fmt: skip
    how = {name: state.files[0].how for name, state in survey.assets.items()}
    assert how["by_digest"] == f"by its digest: SHA-256 {sha256(CONTENT)}, given by its authors"
    assert how["by_name"].startswith("by its name and structure: no digest is published; SHA-256 ")
    assert how["by_structure"].startswith("by its structure (stylegan2): no digest is published; SHA-256 ")
    assert survey.path("by_structure") == stand.root / "below/from_a_friend.pth"
    assert list(survey.unrecognised) == [stand.root / "notes.txt"]
    again = stand.survey()
    assert again.assets["by_structure"].files[0].how == "by the SHA-256 recorded when it was first here"
    with pytest.raises(
        Refusal, match=r"the official asset absent \(absent\) is missing; run `python -m pipelines.assets"
    ):
        again.path("absent")


def test_what_could_be_either_must_be_named(stand: Stand) -> None:
    stand.add("cat", [{"file": "cat.pt", "structure": "stylegan2", "codes": 8}])
    stand.add("dog", [{"file": "dog.pt", "structure": "stylegan2", "codes": 8}])
    generator_file(stand.root / "animal.pt")
    survey = stand.survey()
    assert stand.states() == {"cat": "missing", "dog": "missing"}
    assert "as cat.pt and dog.pt do: give it the name of the one it is" in survey.unrecognised[stand.root / "animal.pt"]
    (stand.root / "animal.pt").rename(stand.root / "cat.pt")
    (stand.root / "copy.pt").write_bytes((stand.root / "cat.pt").read_bytes())
    survey = stand.survey()
    assert stand.states() == {"cat": "here", "dog": "missing"}
    assert survey.unrecognised == {stand.root / "copy.pt": f"it is a copy of {stand.root / 'cat.pt'}"}
    (stand.root / "copy.pt").rename(stand.root / "dog.pt")
    assert stand.survey().assets["dog"].files[0].how == f"it is a copy of {stand.root / 'cat.pt'}"
    (stand.root / "dog.pt").unlink()
    generator_file(stand.root / "other.pt", seed=1)  # the only one left that it can be
    assert stand.states() == {"cat": "here", "dog": "here"}


class _Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def test_nothing_of_a_file_is_run(stand: Stand, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    stand.add("weights", [{"file": "weights.pkl", "structure": "stylegan2-ada"}])
    stand.add("arrays", [{"file": "onet.npy", "digests": [published()]}])
    stand.root.mkdir()
    for protocol, name in enumerate(("weights.pkl", "onet.npy", "unknown.pkl"), 2):
        (stand.root / name).write_bytes(pickle.dumps(_Hostile(marker), protocol))
    survey = stand.survey()
    assert stand.states() == {"weights": "wrong", "arrays": "wrong"}
    assert "asks for 'posix.mkdir'" in survey.assets["weights"].files[0].how
    assert "asks for 'posix.mkdir'" in survey.unrecognised[stand.root / "unknown.pkl"]
    assert not marker.exists()


def test_what_the_embedded_profile_and_packages_have_need_not_be_downloaded(stand: Stand) -> None:
    import lpips

    weights = Path(lpips.__file__).parent / "weights/v0.1/alex.pth"
    package = {"name": "lpips", "path": "lpips/weights/v0.1/alex.pth"}
    stand.add("lin", [{"file": "lin.pth", "package": package, "digests": [published(weights.read_bytes())]}])
    stand.add("landmarks", [{"file": "a.dat", "embedded": "dlib/a.dat", "digests": [published()]}])
    (stand.root.parent / "embedded/dlib").mkdir(parents=True)
    (stand.root.parent / "embedded/dlib/a.dat").write_bytes(b"another")
    assert stand.states() == {"lin": "here", "landmarks": "missing"}
    (stand.root.parent / "embedded/dlib/a.dat").write_bytes(CONTENT)
    assert stand.states() == {"lin": "here", "landmarks": "here"}
    assert stand.survey().path("lin") == weights


def test_data_sets_are_recognised_by_their_layout(stand: Stand) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (512, 512)).save(buffer, "JPEG")
    stand.add("animals", [{"file": "afhq.zip"}], folder="afhq", sets=["afhq_cat_test", "afhq_dog_test"])
    stand.add("faces", [{"file": "CelebAMask-HQ.zip"}], folder="CelebAMask-HQ", sets=["celeba_hq_1000"])
    stand.root.mkdir()
    with zipfile.ZipFile(stand.root / "from_the_web.zip", "w") as archive:
        for animal in ("cat", "dog"):
            for number in range(500 if animal == "cat" else 499):
                archive.writestr(f"afhq/val/{animal}/flickr_{animal}_{number:06}.jpg", buffer.getvalue())
            archive.writestr(f"afhq/train/{animal}/flickr_{animal}_{number + 1:06}.jpg", b"")
    survey = stand.survey()
    animals = survey.assets["animals"]
    assert (animals.state, animals.path) == ("incomplete", stand.root / "from_the_web.zip")
    assert animals.sets["afhq_cat_test"] == "AFHQ cat, test"
    assert "holds 499 of the 500 pictures of AFHQ dog, test" in animals.sets["afhq_dog_test"]
    (stand.root / "CelebAMask-HQ/CelebA-HQ-img").mkdir(parents=True)
    (stand.root / "CelebAMask-HQ/CelebA-HQ-img/0.jpg").write_bytes(b"")
    faces = stand.survey().assets["faces"]
    assert faces.state == "incomplete"
    assert "lacks 999 files" in faces.sets["celeba_hq_1000"]
    partial = stand.survey(allow_partial=True).assets
    assert {name: state.state for name, state in partial.items()} == {"animals": "here", "faces": "here"}
    assert partial["faces"].sets["celeba_hq_1000"] == "CelebA-HQ, first 1,000 (PARTIAL: 1 of 1,000 pictures)"
    assert stand.survey().path("faces") == stand.root / "CelebAMask-HQ"


# The commands


def command(stand: Stand, *arguments: str) -> list[str]:
    stand.catalogue()
    return [*arguments, "--folder", str(stand.root), "--official-catalogue", str(stand.path)]


def test_status_says_what_is_missing_what_it_blocks_and_how_to_get_it(
    stand: Stand, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    stand.add("one", [{"file": "one.bin", "size": 12_000_000, "digests": [published()]}])
    stand.add("two", [{"file": "two.bin"}], needed_for=[{"table": "T2", "columns": ["ID"]}])
    stand.add("gone", None, status="never released", by_hand="train it")
    stand.root.mkdir()
    (stand.root / "two.bin").write_bytes(b"two")
    main(command(stand, "status"))
    table = capsys.readouterr().out
    for part in ("T1: row pSp", "fetch one (12.0 MB)", "never released", "train it", "two.bin: by its name alone"):
        assert part in table
    main(command(stand, "status", "--json"))
    values = json.loads(capsys.readouterr().out)
    assert {name: asset["state"] for name, asset in values["assets"].items()} == {
        "one": "missing", "two": "here", "gone": "never released"
    }  # fmt: skip
    assert values["assets"]["one"]["blocks"] == [{"table": "T1", "rows": ["psp"], "columns": []}]
    assert values["assets"]["one"]["files"][0]["sources"] == ["https://files.test/one.bin"]
    assert values["tables"]["T1"]["missing"] == ["one", "gone"]
    assert values["tables"]["T2"]["missing"] == []


def test_fetch_takes_ids_tables_or_all_that_is_needed_and_asks_on_a_terminal(
    internet: Internet, stand: Stand, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(("one", "two", "three", "four")):
        internet.file(f"{name}.bin", CONTENT[number:])
    stand.add("one", [{"file": "one.bin"}])
    stand.add("two", [{"file": "two.bin"}], needed_for=[{"table": "T2"}])
    stand.add("three", [{"file": "three.bin"}], needed_for=[])
    stand.add("four", [{"file": "four.bin"}], status="withdrawn", by_hand="a mirror")
    run = lambda *arguments: main(command(stand, "fetch", *arguments))  # noqa: E731
    with pytest.raises(SystemExit) as stop:
        run("--tables", "T2")
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert "Free things: Be kind. https://files.test/terms" in captured.out
    assert captured.err.startswith("error: nothing was downloaded")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: "y")
    run("--tables", "T2")
    assert set(stand.files()) == {"two.bin"}
    run()
    assert set(stand.files()) == {"one.bin", "two.bin"}
    run("three", "four")
    assert set(stand.files()) == {"one.bin", "two.bin", "three.bin", "four.bin"}
    for arguments, part in ((("nine",), "no official asset 'nine'"), (("--tables", "T9"), "no table 'T9'")):
        with pytest.raises(SystemExit):
            run(*arguments)
        assert part in capsys.readouterr().err


def test_terms_that_a_person_declines_stay_unaccepted(
    internet: Internet, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Terms] = []
    stand.add("one", [{"file": "one.bin"}])

    def decline(terms: Any) -> bool:
        seen.extend(terms)
        return False

    folder = stand.folder()
    ask: Callable[[Any], bool] = decline
    with pytest.raises(Refusal, match="not accepted"):
        Fetcher(folder, say=stand.said.append).fetch(folder.catalogue.assets, ask)
    assert [each.title for each in seen] == ["Free things"]
    assert internet.asked == []
