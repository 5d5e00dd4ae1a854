"""Inversion methods by name, found through the entry point group ``fse.methods``.

A package adds a method without touching this one: in its ``pyproject.toml``

    [project.entry-points."fse.methods"]
    mine = "my_package:load_mine"

where ``load_mine(generator, weights)`` takes a frozen :class:`~fse.generators.style_generator.StyleGenerator`
and the folder of trained weights, and returns an :class:`~fse.inversion.InversionMethod` on the generator's
device. A loader with a third parameter, ``assets``, also gets the folder of the profile's assets: methods that
optimise find the perceptual network there.
"""

from __future__ import annotations

import inspect
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from fse.generators.style_generator import StyleGenerator
from fse.inversion import InversionMethod
from fse.refusal import Refusal

GROUP = "fse.methods"


def method_names() -> list[str]:
    """Names of all installed methods, sorted."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def takes_assets(name: str) -> bool:
    """Whether the loader of the method ``name`` asks for the folder of assets; raises Refusal as load_method does."""
    return "assets" in inspect.signature(_entry(name).load()).parameters


def load_method(name: str, generator: StyleGenerator, weights: Path, assets: Path) -> InversionMethod:
    """The method ``name`` for ``generator``, out of the folders of trained weights and of assets.

    Raises
    ------
    Refusal
        When no installed package has that method, several have one of that name, or what it has is not one.
    """
    entry = _entry(name)
    load = entry.load()
    wanted = {"assets": assets} if "assets" in inspect.signature(load).parameters else {}
    method = load(generator, weights, **wanted)
    if not isinstance(method, InversionMethod):
        raise Refusal(f"the entry point {entry.value} of method {name!r} returns no InversionMethod; see fse.registry")
    return method


def _entry(name: str) -> EntryPoint:
    found = [entry for entry in entry_points(group=GROUP) if entry.name == name]
    if not found:
        raise Refusal(f"there is no method {name!r}; installed are {', '.join(method_names()) or 'none'}")
    if len(found) > 1:
        values = ", ".join(sorted(entry.value for entry in found))
        raise Refusal(f"several packages have a method {name!r} ({values}); uninstall all but one, or rename yours")
    return found[0]
