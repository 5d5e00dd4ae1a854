"""Three lines that invert and edit a picture.

>>> from fse import Inverter
>>> inverter = Inverter.load("data/assets", "weights", "fse", directions="directions/generator.safetensors")
>>> inverter.invert("data/assets/photographs/astronaut.png", align=True).edit("smile", 2.0).save("smiling.png")
[PosixPath('smiling.png')]
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TypeAlias, overload

import torch
from PIL import Image
from torch import Tensor

from fse import inversion as inversions
from fse.device import usable_device
from fse.directions import Direction, read_directions
from fse.generators.picture_head import load_generator
from fse.generators.style_generator import StyleGenerator
from fse.inversion import Inversion, InversionMethod
from fse.latents_file import read_latents, write_latents
from fse.mixing import mixed
from fse.pictures import SUFFIXES, image_from_tensor, write_picture
from fse.portraits import Align, Portrait, PortraitReader, Source, stacked
from fse.refusal import Refusal
from fse.registry import load_method

FilePath: TypeAlias = "str | os.PathLike[str]"
LANDMARKS_MODEL = Path("dlib/shape_predictor_68_face_landmarks.dat")
"""In the folder of assets."""


class Inverter:
    """An inversion method with all that a user's pictures need around it.

    :meth:`load` puts one together from the embedded profile's files. With other networks, give the ready method:
    ``Inverter(load_official_fse(encoder, generator), name="fse")``.

    Parameters
    ----------
    method : InversionMethod
        On any device.
    generator : StyleGenerator, optional
        The method's, at its K; by default its attribute ``generator``.
    name : str
        The method's name in :func:`fse.registry.method_names`; files of latents carry it.
    directions : mapping, optional
        Name -> :class:`~fse.directions.Direction`, for edits by name.
    landmarks_model : path, optional
        dlib's ``shape_predictor_68_face_landmarks.dat``, wanted to align faces.
    """

    def __init__(
        self,
        method: InversionMethod,
        generator: StyleGenerator | None = None,
        *,
        name: str,
        directions: Mapping[str, Direction] | None = None,
        landmarks_model: FilePath | None = None,
    ) -> None:
        generator = generator or getattr(method, "generator", None)
        if generator is None:
            raise ValueError(f"the method {name!r} has no attribute `generator`: give the generator that it inverts to")
        self.method = method
        self.generator: StyleGenerator = generator
        self.name = name
        self.directions = dict(directions or {})
        self.reader = PortraitReader(
            self.generator.resolution, None if landmarks_model is None else Path(landmarks_model)
        )

    @classmethod
    def load(
        cls,
        assets: FilePath,
        weights: FilePath,
        method: str = "fse",
        *,
        directions: FilePath | None = None,
        device: str | torch.device = "cpu",
    ) -> Inverter:
        """A method of the embedded profile, at 256 px.

        >>> inverter = Inverter.load("data/assets", "weights", "psp")
        >>> inverter.generator.resolution
        256

        Parameters
        ----------
        assets : path
            The folder that ``python -m pipelines.assets`` fills.
        weights : path
            The folder of trained weights.
        method : str
            An installed one; ``fse methods`` lists them.
        directions : path, optional
            A file of directions: ``directions/generator.safetensors``, or those found on the method's own codes.
        device : str or torch.device
            Where networks live.

        Raises
        ------
        Refusal
            When a file is missing or another network's, or there is no such method or device.
        """
        assets, weights = Path(assets), Path(weights)
        where = usable_device(device)
        generator = load_generator(assets / "mobilestylegan", weights / "picture_head.safetensors").to(where)
        loaded = load_method(method, generator, weights, assets)
        known = None if directions is None else read_directions(Path(directions), generator)
        own = getattr(loaded, "generator", generator)  # at the method's K
        return cls(loaded, own, name=method, directions=known, landmarks_model=assets / LANDMARKS_MODEL)

    def invert(self, pictures: Source | Sequence[Source], *, align: Align = False, batch: int = 8) -> Inverted:
        """Invert a file, a folder, an image, an array, a tensor, or a list of these.

        >>> inverter = Inverter.load("data/assets", "weights", "psp")
        >>> found = inverter.invert("data/assets/photographs/astronaut.png", align=True)
        >>> found.codes.shape, found.feature is None
        (torch.Size([1, 12, 512]), True)
        >>> found.pictures[0].size
        (256, 256)

        Parameters
        ----------
        pictures : path, image, array, tensor, or list
            See :data:`fse.portraits.Source`.
        align : bool or "every"
            See :data:`fse.portraits.Align`.
        batch : int
            Pictures that go through the networks together.

        Raises
        ------
        Refusal
            When a file cannot be used; the message names it.
        """
        return self.invert_portraits(self.reader.read(pictures, align), batch=batch)

    def read(self, pictures: Source | Sequence[Source], *, align: Align = False) -> Pictures:
        """The pictures as :meth:`invert` sees them: aligned if asked for, at the generator's resolution."""
        portraits = self.reader.read(pictures, align)
        return Pictures([each.name for each in portraits], stacked(portraits))

    def invert_portraits(self, portraits: Sequence[Portrait], *, batch: int = 8) -> Inverted:
        """Invert pictures that :attr:`reader` has read."""
        if not portraits or batch < 1:
            raise ValueError("there is nothing to invert: give at least one picture, and a batch of at least 1")
        device = self.generator.mean_code.device
        parts = [portraits[start : start + batch] for start in range(0, len(portraits), batch)]
        found = [self.method.invert(stacked(part).to(device)) for part in parts]
        return Inverted(tuple(each.name for each in portraits), inversions.joined(found), self)

    def load_latents(self, path: FilePath) -> Inverted:
        """What :meth:`Inverted.save_latents` wrote, its pictures rendered again.

        >>> inverter = Inverter.load("data/assets", "weights", "psp")
        >>> found = inverter.invert("data/assets/photographs/astronaut.png", align=True)
        >>> found.save_latents("astronaut.safetensors")
        >>> inverter.load_latents("astronaut.safetensors").names
        ('astronaut',)

        Raises
        ------
        Refusal
            When the file is missing or damaged, or of another method or generator.
        """
        inversion, names = read_latents(Path(path), self.name, self.method, self.generator)
        return Inverted(tuple(names), inversion, self)

    def vector(self, direction: str | Direction | Tensor | Mapping[str, float]) -> Tensor:
        """The move of the codes (N, 512), or (512,), that is meant.

        A mapping of names to strengths is the sum of moves.
        """
        if isinstance(direction, Mapping):
            if not direction:
                raise Refusal("no direction is given; name at least one")
            return torch.stack([_finite(strength) * self._known(name) for name, strength in direction.items()]).sum(0)
        if isinstance(direction, str):
            return self._known(direction)
        return direction.vector if isinstance(direction, Direction) else direction

    def _known(self, name: str) -> Tensor:
        if name not in self.directions:
            known = ", ".join(self.directions) or "none; load the inverter with a file of directions"
            raise Refusal(f"there is no direction {name!r}; known are {known}")
        return self.directions[name].vector


@dataclass(frozen=True)
class Inverted:
    """Inverted pictures: what was found, and what can be made of it. ``found[3]`` and ``found[2:5]`` are parts of it.

    Attributes
    ----------
    names : tuple of str
        One a picture.
    inversion : Inversion
        As the method returned it, on its device.
    inverter : Inverter
        Which made it.
    """

    names: tuple[str, ...]
    inversion: Inversion
    inverter: Inverter

    @property
    def codes(self) -> Tensor:
        """(B, N, 512)."""
        return self.inversion.codes

    @property
    def feature(self) -> Tensor | None:
        """F (B, C, H, W), of methods that have one."""
        return self.inversion.feature

    @property
    def pictures(self) -> Pictures:
        """The reconstructions."""
        return Pictures(self.names, self.inversion.picture)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, chosen: int | slice) -> Inverted:
        if isinstance(chosen, int):
            number = range(len(self))[chosen]
            chosen = slice(number, number + 1)
        return Inverted(self.names[chosen], inversions.rows(self.inversion, chosen), self.inverter)

    def __iter__(self) -> Iterator[Inverted]:
        return (self[number] for number in range(len(self)))

    def edit(
        self, direction: str | Direction | Tensor | Mapping[str, float], strength: float = 1.0, *, batch: int = 8
    ) -> Pictures:
        """Move the codes by ``strength`` along a direction, as the method edits, and render.

        Strength 1 is one standard deviation of the codes that the direction was found on. Several moves together are
        a mapping:

        >>> inverter = Inverter.load("data/assets", "weights", "psp", directions="directions/generator.safetensors")
        >>> found = inverter.invert("data/assets/photographs/astronaut.png", align=True)
        >>> found.edit({"smile": 2.0, "yaw": -1.0}).save("turned.webp")
        [PosixPath('turned.webp')]

        Parameters
        ----------
        direction : str, Direction, Tensor or mapping
            A known name, an object, a move (N, 512) or (512,), or names with strengths.
        strength : float
            Of the whole move.

        Raises
        ------
        Refusal
            When a direction is unknown, or the strength is so large that no picture comes out.
        """
        vector, strength = self.inverter.vector(direction), _finite(strength)
        method, inversion = self.inverter.method, self.inversion
        starts = range(0, len(self), batch)
        parts = [inversions.rows(inversion, slice(start, start + batch)) for start in starts]
        picture = torch.cat([method.edit(part, vector.to(part.codes), strength) for part in parts])
        if not picture.isfinite().all():
            raise Refusal(f"with the strength {strength:g} no picture comes out; give one between -5 and 5")
        return Pictures(self.names, picture)

    def mix(self, style: Inverted) -> Pictures:
        """The structure of these pictures with the style of others: G(F_A, w_B), Figure 8; see :mod:`fse.mixing`.

        >>> inverter = Inverter.load("data/assets", "weights", "fse")
        >>> group = inverter.invert("data/assets/photographs/t1.jpg", align="every")
        >>> group[0].mix(group[5]).names
        ('t1_0_t1_5',)

        Raises
        ------
        ValueError
            When there are several of both and not as many.
        """
        picture = mixed(self.inverter.generator, self.inversion, style.inversion)
        count = len(picture)
        first, second = (names * count if len(names) == 1 else names for names in (self.names, style.names))
        return Pictures(tuple(f"{a}_{b}" for a, b in zip(first, second, strict=True)), picture)

    def save(self, path: FilePath) -> list[Path]:
        """Write the reconstructions; see :meth:`Pictures.save`."""
        return self.pictures.save(path)

    def save_latents(self, path: FilePath) -> None:
        """Write everything but the pictures to one safetensors file, for :meth:`Inverter.load_latents`."""
        write_latents(Path(path), self.inversion, self.names, self.inverter.name, self.inverter.generator)


class Pictures(Sequence[Image.Image]):
    """Pictures that came out, as images of Pillow; ``tensor`` (B, 3, R, R) is what they are made from, not clamped."""

    def __init__(self, names: Iterable[str], tensor: Tensor) -> None:
        self.names = tuple(names)
        self.tensor = tensor.detach()

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> Pictures: ...
    def __getitem__(self, index: int | slice) -> Image.Image | Pictures:
        if isinstance(index, slice):
            return Pictures(self.names[index], self.tensor[index])
        return image_from_tensor(self.tensor[index])

    def save(self, path: FilePath, suffix: str = ".png") -> list[Path]:
        """Write the only picture to a file, or each to ``path/NAME.png``; returns the files. They are replaced.

        Parameters
        ----------
        path : path
            A file, if it ends in ``.png``, ``.jpg``, ``.jpeg`` or ``.webp``, or else a folder; folders are made.
        suffix : str
            Of the files in a folder: the format.

        Raises
        ------
        Refusal
            When a file cannot be written, or several pictures would go into one.
        """
        path = Path(path)
        if path.suffix.lower() in SUFFIXES:
            if len(self) != 1:
                raise Refusal(f"{len(self)} pictures do not go into the one file {path}; give a folder")
            targets = [path]
        else:
            targets = [path / f"{name}{suffix}" for name in self.names]
            if len(set(targets)) < len(targets):
                raise Refusal(f"two of the pictures have one name, so they do not go into the folder {path}; save each")
        for picture, target in zip(self, targets, strict=True):
            write_picture(picture, target)
        return targets


def _finite(strength: float) -> float:
    if not isfinite(strength):
        raise Refusal(f"the strength is {strength}; give a number, such as 2 or -1.5")
    return float(strength)
