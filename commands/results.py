"""Where results go: their names, their format, and what is never written over."""

from __future__ import annotations

import argparse
import mimetypes
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from fse.pictures import SUFFIXES
from fse.refusal import Refusal


class Results:
    """The files that a command may write.

    Parameters
    ----------
    out : Path
        A file, if it ends as pictures do, or else a folder. The folder is made.
    arguments : argparse.Namespace
        With ``format``, ``overwrite`` and ``skip_existing``.
    inputs : sequence of Path
        Never written over, whatever the options.

    Raises
    ------
    Refusal
        When ``out`` cannot be what is meant, or cannot be written to.
    """

    def __init__(self, out: Path, arguments: argparse.Namespace, inputs: Sequence[Path]) -> None:
        self.out = out
        self.overwrite, self.skip = arguments.overwrite, arguments.skip_existing
        self.single = out.suffix.lower() in SUFFIXES and not out.is_dir()
        self.suffix = out.suffix if self.single else f".{arguments.format or 'png'}"
        self.folder = out.parent if self.single else out
        self._inputs = {identity for path in inputs if (identity := _identity(path))}
        self._name = ""
        self._written: set[Path] = set()
        self._kept: set[Path] = set()
        if self.single and arguments.format not in (None, out.suffix[1:].lower().replace("jpeg", "jpg")):
            raise Refusal(f"{out} is no .{arguments.format} file: leave --format out, or name a folder")
        if not self.single and (mimetypes.guess_type(out)[0] or "").startswith(("image/", "video/")):
            raise Refusal(f"{out} is of no format that pictures are written in: choose one of {', '.join(SUFFIXES)}")
        make_folder(self.folder)

    def path(self, name: str, variant: Sequence[str] = ()) -> Path:
        """The file of the picture ``name``, in a variant of it.

        Raises
        ------
        Refusal
            When the only file is another picture's.
        """
        if not self.single:
            return self.folder / ("_".join((name, *variant)) + self.suffix)
        self._name = self._name or name
        if name != self._name:
            raise Refusal(f"several pictures do not go into the one file {self.out}: name a folder")
        return self.folder / ("_".join((self.out.stem, *variant)) + self.suffix)

    def wanted(self, paths: Iterable[Path]) -> list[Path]:
        """Those of these files that are still to be made.

        Raises
        ------
        Refusal
            When one is an input, or was written by this very call; or exists, and no option says what then.
        """
        wanted = []
        for path in paths:
            identity = _identity(path)
            if identity and identity in self._inputs:
                raise Refusal(f"the result {path} would replace an input: choose another file or folder")
            if path in self._written:
                raise Refusal(f"the result {path} would replace that of another picture of this name: rename one")
            if identity and not self.overwrite and not self.skip:
                raise Refusal(f"{path} exists: say --overwrite or --skip-existing, or choose another file or folder")
            if identity and self.skip:
                self._kept.add(path)
            else:
                wanted.append(path)
        return wanted

    def claim(self, path: Path) -> bool:
        """Whether to write this file now; raises Refusal as :meth:`wanted` does."""
        if not self.wanted([path]):
            return False
        self._written.add(path)
        return True

    def __str__(self) -> str:
        """What was written, in a few words."""
        pictures = [path for path in self._written if path.suffix == self.suffix]
        if not pictures:
            return f"nothing was written; {len(self._kept)} were there already" if self._kept else "nothing was written"
        files = f"{len(pictures)} picture{'s' * (len(pictures) != 1)} in {self.folder}"
        written = f"written: {pictures[0] if len(pictures) == 1 else files}"
        return written + (f"; {len(self._kept)} were there already" if self._kept else "")


def make_folder(folder: Path) -> None:
    """Make a folder for results; raises Refusal when nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise Refusal(f"the folder {folder} cannot be made ({reason}): choose another place for the results") from error
    if not os.access(folder, os.W_OK):
        raise Refusal(f"the folder {folder} cannot be written to: choose another place for the results")


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from others, by whatever path or link; None when there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
