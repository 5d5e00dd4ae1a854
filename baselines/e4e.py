"""e4e (Tov et al., "Designing an Encoder for StyleGAN Image Manipulation", SIGGRAPH 2021).

pSp's encoder, whose rows are offsets from the first; in training they are set free one after the other, so that codes
stay close to W.
"""

from __future__ import annotations

from pathlib import Path

from baselines.psp import PyramidSize, official_inverter, read_official_encoder
from fse.inverter import CodesInverter

E4E = PyramidSize(progressive=True)
"""The official size, at 1024 px."""


def free_rows_at(step: int, num_codes: int, start: int = 20_000, every: int = 2_000) -> int:
    """How many rows have their offset at a step of training (``PyramidEncoder.free_rows``, the official "stage").

    None before ``start``, one from then on, and another every ``every`` steps; the defaults are the release's.
    """
    return 0 if step < start else min(1 + (step - start) // every, num_codes - 1)


def load_official_e4e(path: Path) -> CodesInverter:
    """e4e with its generator, from the official file (``e4e_ffhq_encode.pt``)."""
    return official_inverter(*read_official_encoder(path, "Encoder4Editing"))
