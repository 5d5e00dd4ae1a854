"""A result names the code and the data that it came from, and nothing that changes from run to run."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from eval.provenance import authorship, cpu_model, provenance, revision, sha256


def test_revision_follows_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    assert revision(tmp_path) == {"dirty": None, "revision": None}  # no repository
    assert authorship(tmp_path) is None
    git("init", "-q")
    assert revision(tmp_path)["revision"] is None  # no commit yet
    (tmp_path / "code.py").write_text("x = 1\n")
    git("add", ".")
    git("commit", "-qm", "first")
    clean = revision(tmp_path)
    assert len(clean["revision"]) == 40
    assert clean["dirty"] is False
    written = authorship(tmp_path)
    assert written is not None
    assert written[0] == "t"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", written[1])
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/table1.md").write_text("written by the run itself")
    assert revision(tmp_path) == clean
    (tmp_path / "code.py").write_text("x = 2\n")
    assert revision(tmp_path)["dirty"] is True
    (tmp_path / "inside").mkdir()
    assert revision(tmp_path / "inside")["revision"] is None  # installed within somebody else's repository
    monkeypatch.setenv("PATH", str(tmp_path))
    assert revision(tmp_path) == {"dirty": None, "revision": None}  # no Git on the machine


def test_hash_of_a_folder_is_that_of_its_names_and_contents(tmp_path: Path) -> None:
    def folder(name: str, files: dict[str, bytes]) -> Path:
        for file, content in files.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return tmp_path / name

    first = sha256(folder("a", {"x": b"1", "sub/y": b"2"}))
    assert first == sha256(folder("b", {"sub/y": b"2", "x": b"1"}))
    assert first != sha256(folder("c", {"x": b"1", "sub/z": b"2"}))
    assert first != sha256(folder("d", {"x": b"1", "sub/y": b"3"}))
    assert sha256(tmp_path / "absent") is None


def test_provenance_repeats_itself_and_holds_no_paths(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"w")
    found = [provenance({"weights": tmp_path / "weights"}, {"b": {"d": 1, "c": [2]}, "a": None}) for _ in range(2)]
    text = json.dumps(found[0])
    assert found[0] == found[1]
    assert text == json.dumps(found[0], sort_keys=True)
    assert str(tmp_path) not in text
    assert str(Path.cwd()) not in text
    assert found[0]["versions"]["torch"]
    assert cpu_model()
