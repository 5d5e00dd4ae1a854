"""The pictures that the command line names, inverted as they come; what cannot be used is named and left out."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from fse.api import Inverted, Inverter
from fse.pictures import list_pictures
from fse.portraits import Align, Portrait
from fse.refusal import Refusal

LATENTS = ".safetensors"


class Failures:
    """Counts the files that could not be used, and names each at once, above the progress bar."""

    def __init__(self, console: Console, files: int) -> None:
        self.console, self.files, self.reasons = console, files, list[str]()

    def add(self, reason: str) -> None:
        """Go on without a file."""
        self.reasons.append(reason)
        if self.files > 1:
            self.console.print(f"left out: {reason}", markup=False, highlight=False, soft_wrap=True)

    def end(self, done: str) -> None:
        """Print ``done``, what became of the files; raises Refusal if there were some that could not be used."""
        if self.files > 1 or not self.reasons:
            print(done)
        if self.files == 1 and self.reasons:
            raise Refusal(self.reasons[0])
        if self.reasons:
            raise Refusal(f"{len(self.reasons)} of {self.files} files could not be used, as said above")


def listed(paths: Sequence[Path], limit: int | None = None) -> list[Path]:
    """The files meant: those of a folder by name, its pictures or, if it has none, its latents.

    Raises
    ------
    Refusal
        When a folder has neither, or there is none of these files.
    """
    if not any(path.exists() for path in paths):
        raise Refusal(f"there is no picture and no folder {paths[0]}; check the name")
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        try:
            found += list_pictures(path)
        except Refusal:
            latents = sorted(file for file in path.iterdir() if file.suffix == LATENTS)
            if not latents:
                raise
            found += latents
    return found[:limit]


def alignment(arguments: argparse.Namespace) -> Align:
    """What ``--align`` and ``--every-face`` say."""
    return "every" if arguments.every_face else bool(arguments.align)


def inverted(
    files: Sequence[Path],
    inverter: Inverter,
    failures: Failures,
    *,
    align: Align,
    batch: int,
    title: str,
    wanted: Callable[[str], bool] = lambda name: True,
) -> Iterator[Inverted]:
    """Up to ``batch`` pictures at a time, in order; ``wanted`` says by their names which are to be inverted."""
    waiting: list[Portrait] = []
    for file in track(files, title, console=failures.console):
        try:
            if file.suffix == LATENTS:
                yield from _parts(inverter.load_latents(file), batch, wanted)
                continue
            if align != "every" and not wanted(file.stem):  # before it is read
                continue
            waiting += [portrait for portrait in inverter.reader.read(file, align) if wanted(portrait.name)]
        except Refusal as refusal:
            failures.add(str(refusal))
        while len(waiting) >= batch:
            yield inverter.invert_portraits(waiting[:batch], batch=batch)
            del waiting[:batch]
    if waiting:
        yield inverter.invert_portraits(waiting, batch=batch)


def _parts(found: Inverted, batch: int, wanted: Callable[[str], bool]) -> Iterator[Inverted]:
    if all(map(wanted, found.names)):
        yield from (found[start : start + batch] for start in range(0, len(found), batch))
    else:
        yield from (each for each in found if wanted(each.names[0]))
