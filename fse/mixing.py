"""Style mixing (paper, section 5.2 and Figure 8): the structure of one picture with the style of another."""

from __future__ import annotations

import torch
from torch import Tensor

from fse.generators.style_generator import StyleGenerator
from fse.inversion import Inversion


@torch.no_grad()
def mixed(generator: StyleGenerator, structure: Inversion, style: Inversion) -> Tensor:
    """G(F_A, w_B): the feature tensor of ``structure`` with the codes of ``style``; (B, 3, R, R).

    Methods without a feature tensor mix where it would have its place: the codes that convolutions 1..K read come from
    ``structure``, the rest from ``style``. With a feature tensor and an RGB skip, the RGB of the lower levels is made
    of ``style``'s codes, as in the official release.

    Parameters
    ----------
    generator : StyleGenerator
        The method's, at its K.
    structure, style : Inversion
        By one method, of as many pictures, or one of them of a single picture.

    Raises
    ------
    ValueError
        When the numbers of pictures do not go together.
    """
    counts = len(structure.codes), len(style.codes)
    if counts[0] != counts[1] and 1 not in counts:
        raise ValueError(f"{counts[0]} and {counts[1]} pictures cannot be mixed; give as many, or one")
    count = max(counts)
    codes = style.codes.expand(count, -1, -1)
    if structure.feature is not None:
        return generator.synthesize(codes, structure.feature.expand(count, -1, -1, -1))
    first = structure.codes[:, : generator.feature_codes].expand(count, -1, -1)
    return generator.synthesize(torch.cat([first, codes[:, generator.feature_codes :]], 1))
