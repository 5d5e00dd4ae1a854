"""Pictures in, pictures out: what ``fse invert`` and ``fse edit`` share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.console import Console
from torch import Tensor

from commands.results import Results
from commands.saved_latents import SavedLatents
from commands.sources import LATENTS, Failures, alignment, inverted, listed
from fse.api import Inverted, Inverter
from fse.pictures import write_picture
from fse.refusal import Refusal

Variant = tuple[str, ...]
"""What is added to a picture's name."""

Make = Callable[[Inverted], Iterable[tuple[Variant, Tensor]]]
"""Inverted pictures -> each variant, and its pictures (B, 3, H, W)."""


class PictureRun:
    """One call: its files, and whether their results can be written, which is found out before any work.

    Raises
    ------
    Refusal
        When there is nothing to do, or a result would replace an input, or something that exists.
    """

    def __init__(self, arguments: argparse.Namespace, variants: Sequence[Variant]) -> None:
        self.arguments, self.variants = arguments, variants
        self.files = listed(arguments.sources, arguments.limit)
        self.align = alignment(arguments)
        self.results = Results(arguments.out, arguments, self.files)
        self.latents = SavedLatents(arguments.save_latents, self.results)
        if self.results.single and self.align == "every":
            raise Refusal(f"--every-face may find several, and {arguments.out} is one file: name a folder")
        if self.align != "every":
            for file in self.files:
                if file.suffix != LATENTS:
                    self.results.wanted(self.paths(file.stem))

    def paths(self, name: str) -> list[Path]:
        """Everything that is written for a picture."""
        return [*(self.results.path(name, variant) for variant in self.variants), *self.latents.paths(name)]

    def run(self, inverter: Inverter, make: Make, title: str) -> None:
        """Invert everything, make every variant of it, and write that.

        Raises
        ------
        Refusal
            When a result cannot be written; at the end, when a file could not be used.
        """
        failures = Failures(Console(stderr=True), len(self.files))
        batch = self.arguments.batch
        for found in inverted(
            self.files,
            inverter,
            failures,
            align=self.align,
            batch=batch,
            title=title,
            wanted=lambda name: bool(self.results.wanted(self.paths(name))),
        ):
            for variant, pictures in make(found):
                for name, picture in zip(found.names, pictures, strict=True):
                    path = self.results.path(name, variant)
                    try:
                        claimed = self.results.claim(path)
                    except Refusal as refusal:  # two pictures of one name
                        failures.add(str(refusal))
                        continue
                    if claimed:
                        write_picture(picture, path)
            self.latents.keep(found)
        self.latents.end()
        failures.end(str(self.results))
