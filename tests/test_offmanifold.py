"""Renders pushed off the manifold: what holds for every picture, and how far they are pushed on average."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fse.generators.picture_head import load_generator
from fse.latents import sample_z
from fse.losses import reduce
from fse.offmanifold import push_off_manifold


@pytest.fixture(scope="module")
def pictures(assets: Path, weights: Path) -> Tensor:
    """(8, 3, 64, 64) renders of the pretrained generator, reduced."""
    generator = load_generator(assets / "mobilestylegan", weights / "picture_head.safetensors", 128)
    return reduce(generator.synthesize(generator.map(sample_z(30, 8))).clamp(-1, 1), 64)


def pushed(pictures: Tensor, seed: int) -> Tensor:
    return push_off_manifold(pictures, np.random.default_rng(seed))


def psnr(a: Tensor, b: Tensor) -> Tensor:
    return -10 * torch.log10(((a - b) / 2).square().mean((1, 2, 3)))


@given(st.integers(1, 4), st.integers(16, 80), st.integers(0, 2**31))
@settings(deadline=None, max_examples=60)
def test_shape_range_and_source_are_kept(batch: int, side: int, seed: int) -> None:
    """Whatever the size and the contents, also those out of range."""
    source = torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(seed))
    before = source.clone()
    result = pushed(source, seed)
    assert result.shape == source.shape
    assert result.dtype == torch.float32
    assert torch.isfinite(result).all()
    assert result.abs().max() <= 1
    assert torch.equal(source, before)


def test_the_generators_state_decides(pictures: Tensor) -> None:
    assert torch.equal(pushed(pictures, 1), pushed(pictures, 1))
    assert (pushed(pictures, 1) != pushed(pictures, 2)).flatten(1).any(1).all()
    random = np.random.default_rng(1)
    first, second = push_off_manifold(pictures, random), push_off_manifold(pictures, random)
    assert (first != second).flatten(1).any(1).all()


def test_global_random_states_play_no_part(pictures: Tensor) -> None:
    torch.manual_seed(0)
    first = pushed(pictures, 1)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert torch.equal(pushed(pictures, 1), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_pictures_are_changed_but_not_destroyed(pictures: Tensor) -> None:
    """Over 400 of them. A mirrored picture scores like an unrelated one, so the better of the two sides counts."""
    results = [pushed(pictures, seed) for seed in range(50)]
    scores = torch.cat([torch.maximum(psnr(r, pictures), psnr(r.flip(3), pictures)) for r in results])
    plain = torch.cat([psnr(r, pictures) > psnr(r.flip(3), pictures) for r in results])
    assert scores.max() < 30
    assert 8 < scores.mean() < 20
    assert scores.std() > 2  # some get several changes and some few
    assert 0.4 < plain.float().mean() < 0.6
    unrelated = psnr(torch.cat(results).roll(1, 0), pictures.repeat(50, 1, 1, 1))
    assert scores.mean() > unrelated.mean() + 3
    colour = torch.stack([r.mean((2, 3)) - pictures.mean((2, 3)) for r in results])
    assert colour.abs().mean() > 0.03
    assert colour.mean().abs() < 0.1
