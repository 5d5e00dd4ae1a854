"""Where a result comes from: code, parameters, versions, machine and the hash of everything that was read.

The dictionary goes into outputs that DVC hashes. So it holds no time, no absolute path and no host name, and two
runs of the same code on the same machine give the same one.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
CODE = ("baselines", "eval", "fse", "pipelines")
PACKAGES = ("dlib-bin", "dvc", "lightning", "matplotlib", "numpy", "pandas", "pillow", "safetensors", "scikit-image",
            "scipy", "torch", "torchvision")  # fmt: skip


def provenance(inputs: Mapping[str, Path], parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Everything that a result depends on, with sorted keys.

    Parameters
    ----------
    inputs : mapping
        Name -> file or folder (assets, weights, data sets) whose content is hashed. The name is printed, not the path.
    parameters : mapping, optional
        The parameters in force, as read.
    """
    found = {
        "code": {**revision(), "sha256": code_sha256()},
        "inputs": {name: sha256(path) for name, path in inputs.items()},
        "machine": {"cpu": cpu_model(), "gpu": gpu_model(), "threads": torch.get_num_threads()},
        "parameters": parameters or {},
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
    }
    return _sorted(found)


def revision(root: Path = ROOT) -> dict[str, Any]:
    """``{"revision": commit or None, "dirty": bool or None}``; None where ``root`` is not the top of a Git work tree.

    "Dirty" leaves out ``reports`` and ``dvc.lock``: a run writes them itself.
    """

    top = _git(root, "rev-parse", "--show-toplevel")
    commit = _git(root, "rev-parse", "HEAD") if top and Path(top).resolve() == root else None
    if commit is None:
        return {"dirty": None, "revision": None}
    changed = _git(root, "status", "--porcelain", "--", ".", ":(exclude)reports", ":(exclude)dvc.lock")
    return {"dirty": bool(changed), "revision": commit}


def authorship(root: Path = ROOT) -> tuple[str, str] | None:
    """Author and date (YYYY-MM-DD, in the author's own zone) of the revision; None where there is no revision.

    It stands for "by whom" and "when": the time of a run would differ from run to run.
    """
    if revision(root)["revision"] is None:
        return None
    author, _, date = (_git(root, "log", "-1", "--date=short", "--format=%an%x09%ad") or "").partition("\t")
    return author, date


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no Git on this machine
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def code_sha256(root: Path = ROOT, packages: Sequence[str] = CODE) -> str:
    """One hash of the project's Python files, or of some packages', which names the code even without Git."""
    files = [path for name in packages for path in (root / name).rglob("*.py")]
    return _combined({path.relative_to(root).as_posix(): path for path in files})


def sha256(path: Path) -> str | None:
    """Hash of a file's bytes, or of a folder's relative names and contents; None when there is nothing there."""
    if path.is_dir():
        return _combined({p.relative_to(path).as_posix(): p for p in path.rglob("*") if p.is_file()})
    return _file_sha256(path) if path.is_file() else None


def _combined(files: Mapping[str, Path]) -> str:
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{_file_sha256(files[name])}  {name}\n".encode())
    return digest.hexdigest()


def _file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu_model() -> str:
    """The processor's name as Linux tells it, elsewhere what Python knows of it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def gpu_model() -> str | None:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _sorted(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        str(key): _sorted(values[key]) if isinstance(values[key], Mapping) else values[key]
        for key in sorted(values, key=str)
    }
