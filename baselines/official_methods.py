"""Which official files each row of the paper's tables is made of, and how the method is loaded from them.

Rows and files carry the ids of the catalogue, ``pipelines/official_assets.yaml``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from baselines.cars import load_official_codes_cars, load_official_restyle_cars
from baselines.e4e import load_official_e4e
from baselines.hfgi.inversion import load_official_hfgi
from baselines.hyperstyle.inversion import load_official_hyperstyle
from baselines.idinvert.inversion import load_official_idinvert
from baselines.psp import load_official_psp
from baselines.restyle import load_official_restyle
from baselines.styleres.inversion import load_official_styleres
from fse.inversion import InversionMethod
from fse.inverter import load_official_fse, load_official_fse_codes

Method = TypeVar("Method", bound=InversionMethod)


class OfficialPath(Protocol):
    """Where an official file is."""

    def __call__(self, asset: str, name: str | None = None) -> Path:
        """The only file of ``asset``, or its file ``name``; raises Refusal with how to get it when it is not here."""
        ...


@dataclass(frozen=True)
class OfficialMethod:
    """A row.

    Attributes
    ----------
    assets : tuple of str
        What has to be there.
    read : callable
        Where the files are -> the method, on the CPU.
    """

    assets: tuple[str, ...]
    read: Callable[[OfficialPath], InversionMethod]

    def load(self, path: OfficialPath, device: torch.device) -> InversionMethod:
        """The method on ``device``; raises Refusal as ``path`` does, and when a file is not what it should be."""
        return on_device(self.read(path), device)


def on_device(method: Method, device: torch.device) -> Method:
    """Move a method, which is no module itself: the networks and tensors that are its attributes."""
    for name, value in vars(method).items():
        if isinstance(value, nn.Module | Tensor):
            setattr(method, name, value.to(device))
    return method


def _of_one_file(asset: str, load: Callable[[Path], InversionMethod]) -> OfficialMethod:
    return OfficialMethod((asset,), lambda path: load(path(asset)))


FACES: dict[str, OfficialMethod] = {
    "idinvert": OfficialMethod(
        ("idinvert_generator", "idinvert_encoder", "idinvert_vgg16"),
        lambda path: load_official_idinvert(
            path("idinvert_generator"), path("idinvert_encoder"), path("idinvert_vgg16")
        ),
    ),
    "psp": _of_one_file("psp_ffhq", load_official_psp),
    "e4e": _of_one_file("e4e_ffhq", load_official_e4e),
    "restyle_psp": _of_one_file("restyle_psp_ffhq", load_official_restyle),
    "restyle_e4e": _of_one_file("restyle_e4e_ffhq", load_official_restyle),
    "hfgi": _of_one_file("hfgi_ffhq", load_official_hfgi),
    "hyperstyle": OfficialMethod(
        ("hyperstyle_ffhq",),
        lambda path: load_official_hyperstyle(
            path("hyperstyle_ffhq", "hyperstyle_ffhq.pt"), path("hyperstyle_ffhq", "faces_w_encoder.pt")
        ),
    ),
    "styleres": _of_one_file("styleres_ffhq", load_official_styleres),
    # The release takes the generator and the mean code of FSE out of pSp's file.
    "fse_w": OfficialMethod(
        ("fse_ffhq", "psp_ffhq"), lambda path: load_official_fse_codes(path("fse_ffhq"), path("psp_ffhq"))
    ),
    "fse": OfficialMethod(("fse_ffhq", "psp_ffhq"), lambda path: load_official_fse(path("fse_ffhq"), path("psp_ffhq"))),
}
"""Rows of Tables 1 and 2 and newer ones, for square pictures of any side, which each reduces as its script does."""

CARS: dict[str, OfficialMethod] = {
    "psp": _of_one_file("psp_cars", lambda file: load_official_codes_cars(file, "GradualStyleEncoder")),
    "e4e": _of_one_file("e4e_cars", lambda file: load_official_codes_cars(file, "Encoder4Editing")),
    "restyle_psp": _of_one_file("restyle_psp_cars", load_official_restyle_cars),
    "restyle_e4e": _of_one_file("restyle_e4e_cars", load_official_restyle_cars),
}
"""For pictures of 384 x 512, or of other sides in that ratio; they give 384 x 512. FSE's encoder for cars was never
released: the one that is trained here goes into :class:`~baselines.cars.PaddedInverter`."""

OFFICIAL: Mapping[str, Mapping[str, OfficialMethod]] = {"faces": FACES, "cars": CARS}
"""Domain -> row -> method. For cats, dogs and StyleGAN3 nothing was released."""
