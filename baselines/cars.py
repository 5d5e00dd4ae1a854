"""Cars: pictures of 384 x 512 for networks and generators that are square.

The generator of LSUN cars makes 512 x 512 of which rows 64 to 447 are the picture (Karras et al. 2020 trained it on
pictures of 512 x 384, padded). The official codes differ in how they meet it: the family of pSp shows its encoders
192 x 256 and cuts the generator's output; the Feature-Style Encoder sees the picture padded to a square. Heights and
widths here are in this order, and any side S stands for 512.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn
from torch.nn.functional import pad
from torchvision.transforms import Resize

from baselines.psp import read_official_encoder
from baselines.restyle import IterativeInverter
from fse.checkpoints.checkpoint import load_parameters
from fse.generators.style_generator import StyleGenerator
from fse.generators.stylegan2 import StyleGAN2
from fse.inversion import Inversion, InversionMethod
from fse.inverter import CodesInverter
from fse.refusal import Refusal

BLACK = -1.0


def rows_of_the_car(square: Tensor) -> Tensor:
    """(..., S, S) with the padding -> (..., 3/4 S, S) without it: rows 64 to 447 of 512, 32 to 223 of 256."""
    margin = square.shape[-1] // 8
    return square[..., margin : square.shape[-2] - margin, :]


def padded_to_square(pictures: Tensor) -> Tensor:
    """(B, 3, 3/4 S, S) in [-1, 1] -> (B, 3, S, S), black above and below, as the official FSE code pads cars.

    Raises
    ------
    ValueError
        When the pictures have another shape.
    """
    height, width = pictures.shape[-2:]
    if 4 * height != 3 * width or width % 8:
        raise ValueError(f"pictures of cars are 3/4 as high as wide, 384 x 512, and not {height} x {width}")
    return pad(pictures, (0, 0, width // 8, width // 8), value=BLACK)


class PaddedInverter:
    """A method for squares, FSE first of all, given 384 x 512: pads what it takes, and cuts what it gives.

    Parameters
    ----------
    method : InversionMethod
        For the square pictures; codes, feature and whatever else it finds belong to those.
    """

    def __init__(self, method: InversionMethod) -> None:
        self.method = method

    def invert(self, pictures: Tensor) -> Inversion:
        """pictures (B, 3, 3/4 R, R) in [-1, 1] -> the method's inversion, its picture (B, 3, 3/4 R, R)."""
        inversion = self.method.invert(padded_to_square(pictures))
        return replace(inversion, picture=rows_of_the_car(inversion.picture))

    def edit(self, inversion: Inversion, direction: Tensor, strength: float) -> Tensor:
        """The method's edit, (B, 3, 3/4 R, R)."""
        return rows_of_the_car(self.method.edit(inversion, direction, strength))


class CarGenerator(StyleGAN2):
    """A StyleGAN2 whose pictures are cut to the rows of the car: (B, 3, 3/4 R, R).

    ``resolution`` stays R, 512 officially; features are those of the whole square.
    """

    def synthesize(
        self, codes: Tensor, feature: Tensor | None = None, *, noise: Sequence[Tensor] | None = None
    ) -> Tensor:
        """codes (B, N, 512) -> picture (B, 3, 3/4 R, R)."""
        return rows_of_the_car(super().synthesize(codes, feature, noise=noise))


def car_generator(generator: StyleGenerator, path: Path) -> CarGenerator:
    """The same network as ``generator``, which came out of the file ``path``, cut to the rows of the car.

    Raises
    ------
    Refusal
        When it is no StyleGAN2.
    """
    if not isinstance(generator, StyleGAN2):
        raise Refusal(f"{path} holds a {type(generator).__name__}, and cars are made by a StyleGAN2; give another file")
    network = CarGenerator(generator.size, generator.feature_layer)
    load_parameters(network, generator.state_dict(), path, "obtain the file again")
    network.set_mean_code(generator.mean_code)
    return network.eval().requires_grad_(False)


def load_official_codes_cars(path: Path, encoder_type: str) -> CodesInverter:
    """pSp (``GradualStyleEncoder``) or e4e (``Encoder4Editing``) for cars, from ``e4e_cars_encode.pt`` and its like.

    Takes pictures of any side at 3/4 of their width, reduced like Pillow to the encoder's (192 x 256).
    """
    encoder, generator = read_official_encoder(path, encoder_type)
    network = nn.Sequential(Resize([encoder.size.side * 3 // 4, encoder.size.side]), encoder)
    return CodesInverter(network, car_generator(generator, path))


def load_official_restyle_cars(path: Path) -> IterativeInverter:
    """ReStyle on pSp or on e4e for cars, from ``restyle_psp_cars_encode.pt`` and its like.

    The estimate that the encoder sees, mean-pooled to 192 x 256, is cut before, which gives the same as after.
    """
    encoder, generator = read_official_encoder(path, "BackboneEncoder", "ProgressiveBackboneEncoder")
    shape = (encoder.size.side * 3 // 4, encoder.size.side)
    return IterativeInverter(encoder, car_generator(generator, path), shape=shape)
