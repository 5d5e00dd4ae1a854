"""``fse mix``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from rich.console import Console
from torch import Tensor

from commands.loading import load_inverter
from commands.results import Results
from commands.sources import LATENTS, Failures, alignment, inverted, listed
from commands.strip import strip
from fse.api import Inverted
from fse.pictures import write_picture
from fse.refusal import Refusal


def run(arguments: argparse.Namespace) -> None:
    """Write the mixture of every structure with every style."""
    structures, styles = listed([arguments.structure]), listed([arguments.style])
    files, align = [*structures, *styles], alignment(arguments)
    results = Results(arguments.out, arguments, files)
    if results.single and (align == "every" or arguments.both):
        option = "--both" if arguments.both else "--every-face"
        raise Refusal(f"with {option} there are several results, and {arguments.out} is one file: name a folder")
    if align != "every" and all(file.suffix != LATENTS for file in files):
        for first in structures:
            for second in styles:
                results.wanted(map(results.path, _names(first.stem, second.stem, arguments.both)))

    inverter = load_inverter(arguments, align=bool(align))
    failures = Failures(Console(stderr=True), len(files))
    options = {"align": align, "batch": arguments.batch}
    with_style = [each for part in inverted(styles, inverter, failures, title="styles", **options) for each in part]
    for part in inverted(structures, inverter, failures, title="mixing", **options):
        for structure in part:
            for style in with_style:
                _mix(structure, style, arguments, results, failures)
    failures.end(str(results))


def _names(structure: str, style: str, both: bool) -> list[str]:
    return [f"{structure}_{style}"] + [f"{style}_{structure}"] * both


def _mix(
    structure: Inverted, style: Inverted, arguments: argparse.Namespace, results: Results, failures: Failures
) -> None:
    """Write what is wanted of one pair."""
    names = _names(structure.names[0], style.names[0], arguments.both)
    try:
        if not results.wanted(map(results.path, names)):
            return
        for name, picture in zip(names, _mixtures(structure, style, arguments), strict=True):
            if results.claim(path := results.path(name)):
                write_picture(picture, path)
    except Refusal as refusal:
        failures.add(str(refusal))


def _mixtures(structure: Inverted, style: Inverted, arguments: argparse.Namespace) -> Iterator[Tensor]:
    """(3, H, W), one a name."""
    there = structure.mix(style).tensor
    if arguments.strip:
        yield strip(structure.pictures.tensor, [there, style.mix(structure).tensor, style.pictures.tensor], 3)[0]
        return
    yield there[0]
    if arguments.both:
        yield style.mix(structure).tensor[0]
