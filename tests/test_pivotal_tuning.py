"""The example of a user's own method, ``docs/examples/pivotal_tuning.py``, on generators of two families."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import torch

from baselines.psp import PyramidSize
from fse.checkpoints.network_file import write_network
from fse.generators.stylegan2 import StyleGAN2, StyleGAN2Size
from fse.inversion import InversionMethod, joined
from fse.inverter import CodesInverter
from fse.latents import sample_z
from fse.perceptual import STLPIPS
from tests.tiny import ASSETS, tiny_generator, tiny_pyramid

EXAMPLE = Path(__file__).resolve().parents[1] / "docs/examples/pivotal_tuning.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = spec_from_file_location("pivotal_tuning_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclass looks up its annotations
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("family", "rate"), [("mobilestylegan", 3e-4), ("stylegan2", 3e-3)])
def test_tuning_brings_each_picture_nearer(family: str, rate: float, example: ModuleType) -> None:
    generator = tiny_generator()
    if family == "stylegan2":
        torch.manual_seed(0)
        generator = StyleGAN2(StyleGAN2Size(32, (16, 16, 12, 8), mapping_depth=2)).eval().requires_grad_(False)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    perceptual = STLPIPS.load(ASSETS / "stlpips/alex_shift_tolerant.pth")
    pivot = CodesInverter(tiny_pyramid(generator), generator)
    method = example.PivotalTuning(pivot, generator, perceptual, steps=8, rate=rate)
    assert isinstance(method, InversionMethod)
    pictures = generator.synthesize(generator.map(sample_z(5, 2))).clamp(-1, 1)
    with torch.inference_mode():
        found, start = method.invert(pictures), pivot.invert(pictures)
    assert torch.equal(found.codes, start.codes)
    error, first = ((each.picture - pictures).square().mean((1, 2, 3)) for each in (found, start))
    assert (error < 0.9 * first).all()
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())

    direction = torch.ones(512)
    assert torch.equal(method.edit(found, direction, 0.0), found.picture)
    assert not torch.allclose(method.edit(found, direction, 0.5), pivot.edit(start, direction, 0.5), atol=1e-2)
    # Adam's first steps have the size of its rate whatever the gradient's, so rounding does not stay small.
    single = joined([method.invert(pictures[1:])]).picture - found.picture[1:]
    assert single.abs().mean() < 0.05 * (found.picture - start.picture)[1:].abs().mean()


def test_it_is_loaded_as_a_method(example: ModuleType, tmp_path: Path) -> None:
    generator = tiny_generator()
    encoder = tiny_pyramid(generator, progressive=True)  # e4e's
    assert isinstance(encoder.size, PyramidSize)
    write_network(tmp_path / "e4e.safetensors", encoder, {})
    method = example.load(generator, tmp_path, ASSETS)
    assert (method.steps, method.rate) == (350, 3e-4)
    method.steps = 1
    assert method.invert(torch.zeros(1, 3, 64, 64)).picture.shape == (1, 3, 64, 64)
