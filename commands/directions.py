"""``fse directions``."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from commands.home import GENERATORS, Home
from eval.contest import METHODS
from fse.directions import Direction, read_directions

ACCURACY, REST, CONDITION = "held_out_accuracy", "accuracy_on_the_rest", "without"


def run(arguments: argparse.Namespace) -> None:
    """Print the directions of a file."""
    path = Home.of(arguments).directions(arguments.whose)
    found = read_directions(path)
    console = Console()
    table = Table(
        Column("direction", no_wrap=True), "found by", "moves most", "extremes", "others", box=None, pad_edge=False
    )
    for direction in found.values():
        table.add_row(*_row(direction))
    codes = {str(each.provenance.get("codes", "unknown")) for each in found.values()}
    whose = " and ".join(METHODS.get(name, f"the {name}" if name == GENERATORS else name) for name in sorted(codes))
    console.print(f"{path}, found on the codes of {whose}:", highlight=False, soft_wrap=True)
    console.print(table)
    console.print(
        "extremes, others: accuracy on codes held out, of those whose score is among the highest and lowest, and of "
        "all the others, where chance is 50 %. A conditional direction is one without what it shares with the others.",
        highlight=False,
    )


def _row(direction: Direction) -> list[str]:
    known = direction.provenance
    moves = str(known.get("moves_most", "-"))
    if CONDITION in known:  # the accuracies that it carries are of the boundary that it was made from
        return [direction.name, "conditional", moves, "-", "-"]
    found_by = str(known.get("method", "-"))
    return [direction.name, found_by, moves, _percent(known.get(ACCURACY)), _percent(known.get(REST))]


def _percent(share: Any) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
