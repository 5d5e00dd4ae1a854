"""``fse methods``."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from commands.home import GENERATOR, Home
from eval.contest import METHODS
from fse.generators.picture_head import load_generator
from fse.generators.style_generator import StyleGenerator
from fse.refusal import Refusal
from fse.registry import load_method, method_names, takes_assets

READY, SLOW, UNTRIED = "ready", "ready; optimises each picture, which takes minutes", "the generator is not there yet"


def run(arguments: argparse.Namespace) -> None:
    """Print the installed methods; each is loaded to see whether it can be used, if the generator is there."""
    home = Home.of(arguments)
    obtained = (home.assets / GENERATOR).is_dir()
    generator = load_generator(home.assets / GENERATOR, home.heads) if obtained else None
    table = Table("method", "in print", "", box=None, pad_edge=False)
    for name in method_names():
        table.add_row(name, METHODS.get(name, name), UNTRIED if generator is None else state(name, generator, home))
    Console().print(table)


def state(name: str, generator: StyleGenerator, home: Home) -> str:
    """Whether a method can be loaded, or why not."""
    try:
        load_method(name, generator, home.weights, home.assets)
        return SLOW if takes_assets(name) else READY
    except Refusal as refusal:
        return f"cannot be used: {refusal}"
    except Exception as error:  # another package's
        return f"cannot be loaded ({type(error).__name__}: {error})"
