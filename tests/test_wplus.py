"""Direct optimisation in W+: it finds a render's codes again, each picture on its own, wherever it is called."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from baselines.wplus import OptimisedInverter, load_wplus, mean_square
from fse.generators.mobilestylegan import MobileStyleGAN
from fse.inversion import InversionMethod
from fse.latents import sample_z
from tests.tiny import ASSETS, tiny_generator


@pytest.fixture(scope="module")
def generator() -> MobileStyleGAN:
    return tiny_generator()


@pytest.fixture(scope="module")
def method(generator: MobileStyleGAN, assets: Path) -> OptimisedInverter:
    return load_wplus(generator, Path("weights"), ASSETS)


@pytest.fixture(scope="module")
def pictures(generator: MobileStyleGAN) -> Tensor:
    return generator.synthesize(generator.map(sample_z(5, 2))).clamp(-1, 1)


def decibels(found: Tensor, pictures: Tensor) -> Tensor:
    return 10 * torch.log10(4 / mean_square(found, pictures))


def test_renders_are_found_again(method: OptimisedInverter, generator: MobileStyleGAN, pictures: Tensor) -> None:
    assert isinstance(method, InversionMethod)
    method.steps = 100
    with torch.no_grad():  # as the evaluation calls it
        inversion = method.invert(pictures)
    mean = generator.synthesize(generator.mean_code.expand(2, -1, -1))
    assert (decibels(inversion.picture, pictures) > decibels(mean, pictures) + 8).all()
    torch.testing.assert_close(inversion.picture, generator.synthesize(inversion.codes))
    torch.testing.assert_close(method.edit(inversion, torch.zeros(512), 2.0), inversion.picture)


def test_pictures_are_independent_in_any_mode(method: OptimisedInverter, pictures: Tensor) -> None:
    method.steps = 4
    both = method.invert(pictures).codes
    with torch.inference_mode():
        alone = method.invert(pictures[1:].clone()).codes
    torch.testing.assert_close(alone, both[1:], rtol=1e-3, atol=1e-4)
    assert not torch.equal(both[0], both[1])


def test_rates_rise_and_fall(method: OptimisedInverter) -> None:
    method.steps = 200
    rates = method.learning_rates()
    assert rates[9:151] == pytest.approx([0.05] * 142)
    assert rates[0] == pytest.approx(0.005)
    assert 0 < rates[-1] < 0.002
