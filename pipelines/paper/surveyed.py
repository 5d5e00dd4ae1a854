"""What the stage ``survey`` found of the official files, as every later stage reads it: paths, digests, reasons.

Hashing some hundred gigabytes is done once, there. The later stages depend on the small files of ``data/survey`` that
concern them, so that a file which arrives makes its own rows anew and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fse.refusal import Refusal

FOLDER = Path("data/survey")
INCEPTION = "inception_fid"
"""The asset that FID's network is."""


@dataclass(frozen=True)
class Surveyed:
    """The assets of the catalogue by id, each as the survey wrote it.

    Attributes
    ----------
    assets : mapping
        ID -> ``{"state", "reason", "path", "files": {NAME: {"path", "sha256"}}}``; ``reason`` says why an asset is not
        there and how to get it, ``path`` is a data set's.
    rehearsal : bool
        Whether the files are stand-ins, whose numbers mean nothing.
    """

    assets: Mapping[str, Mapping[str, Any]]
    rehearsal: bool = False

    @classmethod
    def read(cls, folder: Path = FOLDER) -> Surveyed:
        """Raises Refusal where there was no survey."""
        path = folder / "assets.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return cls(values["assets"], bool(values["rehearsal"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Refusal(f"{path} cannot be read ({error}); run `dvc repro survey` in the folder paper") from error

    def path(self, asset: str, name: str | None = None) -> Path:
        """Where an asset's only file, its file ``name``, or its data set is.

        Raises
        ------
        Refusal
            It is not here; with how to get it.
        """
        found = self._asset(asset)
        if found["state"] != "here":
            raise Refusal(found["reason"])
        if name is None and found["path"]:
            return Path(found["path"])
        files = found["files"]
        if name is None and len(files) == 1:
            return Path(next(iter(files.values()))["path"])
        if name not in files:
            raise Refusal(f"the official asset {asset} has no file {name}; it has {', '.join(files) or 'none'}")
        return Path(files[name]["path"])

    def files(self, asset: str) -> list[Path]:
        """All files of an asset that is here."""
        found = self._asset(asset)
        if found["state"] != "here":
            raise Refusal(found["reason"])
        return [Path(each["path"]) for each in found["files"].values()]

    def some_files(self, asset: str) -> list[Path]:
        """Those files of an asset of several that are here; raises Refusal if there is none."""
        found = self._asset(asset)
        if not found["files"]:
            raise Refusal(found["reason"])
        return [Path(each["path"]) for each in found["files"].values()]

    def state(self, asset: str) -> dict[str, Any]:
        """All that decides what is made with an asset: its state and digests, and no path of this machine."""
        found = self._asset(asset)
        digests = {name: each["sha256"] for name, each in found["files"].items()}
        return {"state": found["state"], "reason": found["reason"], "files": digests, "sets": found["sets"]}

    def _asset(self, asset: str) -> Mapping[str, Any]:
        if asset not in self.assets:
            raise Refusal(f"there is no official asset {asset!r}; `python -m pipelines.assets status` lists them")
        return self.assets[asset]
