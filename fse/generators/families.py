"""The generator families that files of weights are read for: a line each in :data:`FAMILIES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from fse.checkpoints.checkpoint import Checkpoint, load_parameters
from fse.checkpoints.reader import read_checkpoint
from fse.checkpoints.shapes import of_file
from fse.generators.mobilestylegan import MobileStyleGAN
from fse.generators.style_generator import StyleGenerator
from fse.generators.stylegan1 import StyleGAN1
from fse.generators.stylegan2 import StyleGAN2
from fse.generators.stylegan2_ada import stylegan2_from_ada
from fse.generators.stylegan3 import StyleGAN3
from fse.latents import mean_code, sample_z
from fse.refusal import Refusal

Layout = Callable[[Mapping[str, Tensor], Mapping[str, Any]], tuple[Any, Mapping[str, Tensor]]]
"""A file's tensors and options -> the network's size, and its state by the network's own names."""


@dataclass(frozen=True)
class Family:
    """One layout of files, and the network that such files hold.

    Attributes
    ----------
    network : type
        ``network(size, feature_layer)`` is a :class:`~fse.generators.style_generator.StyleGenerator`.
    holds : str
        For people: which network, in which official file.
    marks : tuple of str
        Parameters that the files of this family have whatever the network's size, and others have not.
    prefixes : tuple of str
        What may stand before the names of the generator's parameters; "" for files that hold nothing else.
    layout : callable, optional
        Where the file's names are not the network's own.
    rebuilt : tuple of str
        Parameters that are not taken from the file, by the official code either, but built.
    """

    network: Callable[[Any, int], nn.Module]
    holds: str
    marks: tuple[str, ...]
    prefixes: tuple[str, ...] = ("",)
    layout: Layout | None = None
    rebuilt: tuple[str, ...] = ()

    def prefix(self, checkpoint: Checkpoint) -> str | None:
        """What stands before the generator's names in this file; None when it holds no generator of the family."""
        return next((p for p in self.prefixes if all(p + mark in checkpoint.tensors for mark in self.marks)), None)

    def size_and_state(
        self, tensors: Mapping[str, Tensor], options: Mapping[str, Any]
    ) -> tuple[Any, Mapping[str, Tensor]]:
        """Size and state of the network; raises Refusal when ``tensors`` or ``options`` are not of this family."""
        if self.layout:
            return self.layout(tensors, options)
        return cast(Any, self.network).size_of(tensors, options), tensors


FAMILIES: dict[str, Family] = {
    "mobilestylegan": Family(
        MobileStyleGAN,
        "MobileStyleGAN (the folder of random-face's four files, once it is converted)",
        ("constant", "mapping.layers.0.weight"),
        rebuilt=("mean_code",),
    ),
    "stylegan1": Family(
        StyleGAN1,
        "StyleGAN, as released with in-domain inversion (styleganinv_ffhq256_generator.pth)",
        ("mapping.dense0.fc.weight", "synthesis.layer0.const"),
        rebuilt=("truncation.truncation",),
    ),
    "stylegan2": Family(
        StyleGAN2,
        "StyleGAN2, rosinality's layout (stylegan2-ffhq-config-f.pt, and inside the files of pSp's family)",
        ("input.input", "style.1.weight"),
        ("g_ema.", "state_dict.decoder.", ""),
    ),
    "stylegan2-ada": Family(
        StyleGAN2,
        "StyleGAN2-ADA (afhqcat.pkl, afhqdog.pkl)",
        ("mapping.fc0.weight", "synthesis.b4.const"),
        layout=stylegan2_from_ada,
    ),
    "stylegan3": Family(
        StyleGAN3,
        "StyleGAN3, T or R (stylegan3-t-ffhq-1024x1024.pkl)",
        ("mapping.fc0.weight", "synthesis.input.freqs"),
    ),
}
"""Name -> family. The embedded profile's generator is the first one with a head of ours, and is read from the export's
four files: :func:`fse.generators.picture_head.load_generator`."""


def family_of(checkpoint: Checkpoint) -> str | None:
    """The name of the family of the generator in a file, or None when it holds none that is known."""
    return next((name for name, family in FAMILIES.items() if family.prefix(checkpoint) is not None), None)


def read_generator(path: Path, feature_layer: int = 5) -> StyleGenerator:
    """The pretrained generator in an official file, or in one that ``pipelines.convert`` made of it.

    Frozen, in evaluation mode, on the CPU, in single precision.

    Parameters
    ----------
    path : Path
        A file of a family in :data:`FAMILIES`.
    feature_layer : int
        K.

    Raises
    ------
    Refusal
        When the file cannot be read safely, holds no generator of these families, or lacks a parameter of it.
    """
    return generator_in(read_checkpoint(path), feature_layer)


def generator_in(checkpoint: Checkpoint, feature_layer: int = 5) -> StyleGenerator:
    """The same, out of a file that is already read."""
    path = checkpoint.path
    name = family_of(checkpoint)
    if name is None:
        raise Refusal(f"{path} holds no generator of a known family ({', '.join(FAMILIES)}); choose another file")
    family, prefix = FAMILIES[name], FAMILIES[name].prefix(checkpoint)
    assert prefix is not None
    with of_file(path):
        size, state = family.size_and_state(checkpoint.part(prefix), checkpoint.options)
    network = family.network(size, feature_layer)
    own = network.state_dict()
    state = {**state, **{rebuilt: own[rebuilt] for rebuilt in family.rebuilt}}
    load_parameters(network, state, path, f"it is no complete {name} generator, obtain it again")
    if isinstance(network, StyleGAN2 | MobileStyleGAN):
        _set_mean_code(network, state.get("latent_avg", checkpoint.tensors.get("latent_avg")), path)
    return cast(StyleGenerator, network.eval().requires_grad_(False))


def _set_mean_code(network: StyleGAN2 | MobileStyleGAN, stored: Tensor | None, path: Path) -> None:
    """The file's mean code, or where it has none the mean of 10,000, as e4e's official code takes it then."""
    if stored is None:
        stored = mean_code(network, sample_z(0, 10_000, network.code_dim))
    elif stored.shape not in ((network.code_dim,), network.mean_code.shape):
        found, wanted = tuple(stored.shape), tuple(network.mean_code.shape)
        raise Refusal(f"{path}: latent_avg, the mean code, is {found} and not {wanted}; obtain the file again")
    network.mean_code.copy_(stored.expand_as(network.mean_code))
