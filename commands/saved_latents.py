"""``--save-latents``: one file for everything, or one a picture."""

from __future__ import annotations

from pathlib import Path

from commands.results import Results, make_folder
from commands.sources import LATENTS
from fse.api import Inverted
from fse.inversion import joined
from fse.refusal import Refusal


class SavedLatents:
    """Where the latents go; ``path`` None keeps none.

    Raises
    ------
    Refusal
        When the path cannot be what is meant.
    """

    def __init__(self, path: Path | None, results: Results) -> None:
        self.path, self.results = path, results
        self.single = path is not None and path.suffix == LATENTS
        self._parts: list[Inverted] = []
        if path is None:
            return
        if self.single and results.skip:
            raise Refusal(f"with --skip-existing, {path} would hold the new ones only: name a folder for the latents")
        if not self.single and path.suffix and not path.is_dir():
            raise Refusal(f"latents are written to a {LATENTS} file or to a folder, not to {path}")
        make_folder(path.parent if self.single else path)
        if self.single:
            results.wanted([path])

    def paths(self, name: str) -> list[Path]:
        """The file of a picture's own latents, if it has one."""
        return [] if self.path is None or self.single else [self.path / f"{name}{LATENTS}"]

    def keep(self, found: Inverted) -> None:
        """Write the latents of these pictures, or remember them."""
        if self.single:
            self._parts.append(found)
            return
        for each in found:
            for path in self.paths(each.names[0]):
                if self.results.claim(path):
                    each.save_latents(path)

    def end(self) -> None:
        """Write what was remembered."""
        if self.path is not None and self._parts and self.results.claim(self.path):
            names = tuple(name for part in self._parts for name in part.names)
            inverter = self._parts[0].inverter
            Inverted(names, joined([part.inversion for part in self._parts]), inverter).save_latents(self.path)
