"""``fse video``."""

from __future__ import annotations

import argparse
from dataclasses import replace

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from commands.loading import load_inverter
from commands.results import make_folder
from fse.refusal import Refusal
from fse.video import ClipSettings, ClipSummary, edit_clip


def run(arguments: argparse.Namespace) -> None:
    """Write the edited clip, and say what was done to how many frames."""
    source, out = arguments.source, arguments.out
    if not source.is_file():
        raise Refusal(f"there is no clip {source}; check the name")
    if out.exists() and not arguments.overwrite:
        raise Refusal(f"{out} exists: say --overwrite, or choose another file")
    if arguments.strength is not None and arguments.direction is None:
        raise Refusal("--strength is of a direction: name one with --direction")
    make_folder(out.parent)
    inverter = load_inverter(arguments, directions=arguments.direction is not None, align=True)
    vector = None if arguments.direction is None else inverter.vector(arguments.direction)
    device = inverter.generator.mean_code.device
    settings = ClipSettings(
        inverter.generator.resolution, device, arguments.batch, blend=arguments.blend, mask=arguments.mask,
        stabilise=arguments.stabilise,
    )  # fmt: skip
    if arguments.smoothing is not None:
        settings = replace(settings, smoothing=arguments.smoothing)
    if arguments.crf is not None:
        settings = replace(settings, crf=arguments.crf)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("frames", total=None)
        summary = edit_clip(
            source,
            out,
            inverter.method,
            inverter.reader.aligner,
            direction=vector,
            strength=0.0 if vector is None else 2.0 if arguments.strength is None else arguments.strength,
            settings=settings,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    print(f"written: {out}")
    for line in described(summary):
        print(line)


def described(summary: ClipSummary) -> list[str]:
    """What was done, a fact a line."""
    spent = sum(summary.seconds.values())
    lines = [
        f"  {summary.edited} of {summary.frames} frames edited, {summary.width} x {summary.height} pixels at "
        f"{summary.rate:g} frames a second, in {spent:.1f} s ({summary.frames / spent:.2f} frames a second)",
        f"  sound: {summary.audio} track{'s' * (summary.audio != 1)}, copied" if summary.audio else "  sound: none",
    ]
    if summary.interpolated:
        lines.append(f"  landmarks of {summary.interpolated} frames interpolated over short gaps")
    if summary.faces > 1:
        lines.append(f"  up to {summary.faces} faces seen together, of which one is edited")
    if summary.cuts:
        lines.append(f"  cuts before the frames {', '.join(map(str, summary.cuts))}")
    lines += [f"  frames {gap.first} to {gap.last} passed unchanged: {gap.reason}" for gap in summary.gaps]
    return lines
