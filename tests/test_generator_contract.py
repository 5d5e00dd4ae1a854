"""What every generator family keeps: a new one adds a line to ``ADAPTERS``, its small instance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fse.generators.families import FAMILIES
from fse.generators.mobilestylegan import MobileStyleGAN, MobileStyleGANSize
from fse.generators.picture_head import load_generator
from fse.generators.style_generator import StyleGenerator
from fse.generators.stylegan1 import StyleGAN1, StyleGAN1Size
from fse.generators.stylegan2 import StyleGAN2, StyleGAN2Size
from fse.generators.stylegan3 import StyleGAN3, StyleGAN3Size
from fse.latents import mix_codes, sample_z
from fse.sized_network import SizedNetwork
from tests.fake_gpu import fake_gpu, move

ASSETS, WEIGHTS = Path("data/assets/mobilestylegan"), Path("weights/picture_head.safetensors")
ADAPTERS: dict[str, Callable[[int], StyleGenerator]] = {
    "mobilestylegan": lambda k: MobileStyleGAN(MobileStyleGANSize((64, 64, 64, 32), 2), k),
    "mobilestylegan-128": lambda k: load_generator(ASSETS, WEIGHTS, 128, k),
    "stylegan1": lambda k: StyleGAN1(StyleGAN1Size(32, 512, 24, 2), k),
    "stylegan2": lambda k: StyleGAN2(StyleGAN2Size(32, (24, 24, 16, 16), 512, 2), k),
    "stylegan2-ada": lambda k: StyleGAN2(StyleGAN2Size(32, (24, 24, 16, 16), 512, 2, 256.0, True), k),
    "stylegan3-t": lambda k: StyleGAN3(StyleGAN3Size(32, 256, 16), k),
    "stylegan3-r": lambda k: StyleGAN3(StyleGAN3Size(32, 256, 16, 1, True), k),
}


def small(name: str, feature_layer: int = 5) -> StyleGenerator:
    """The instance ``name``, frozen; the pretrained one with its weights, the others with random ones."""
    torch.manual_seed(0)
    generator = cast(nn.Module, ADAPTERS[name](feature_layer)).eval()
    if name == "mobilestylegan":  # whose weights start at zero, to be read from files
        for key, parameter in generator.named_parameters():
            if not key.endswith(("bias", "noise")):
                parameter.data.normal_(0, 1.0 if parameter.ndim == 4 else 512**-0.5)
    for key, parameter in generator.named_parameters():
        if key.endswith("noise.weight") and parameter.numel() == 1:  # strengths of noise, which start at zero
            parameter.data.fill_(0.1)
        elif key == "synthesis.input.affine.weight":  # StyleGAN3's input starts without a turn or shift
            parameter.data.normal_(0, 0.1)
    return cast(StyleGenerator, generator.requires_grad_(False))


@pytest.fixture(scope="module", params=list(ADAPTERS))
def adapter(request: pytest.FixtureRequest, assets: Path) -> StyleGenerator:
    return small(request.param)


def test_every_family_is_here() -> None:
    assert {name.partition("-")[0] for name in FAMILIES} <= {name.partition("-")[0] for name in ADAPTERS}


def mixed(adapter: StyleGenerator, seed: int, count: int) -> Tensor:
    return mix_codes(adapter.map(sample_z(seed, count)), np.random.default_rng(seed)).clone()


def deviation(a: Tensor, b: Tensor) -> float:
    """Largest difference, in standard deviations of ``b``."""
    return ((a - b).abs().max() / b.std()).item()


def test_shapes_and_ranges(adapter: StyleGenerator) -> None:
    assert isinstance(adapter, StyleGenerator)
    codes = adapter.map(sample_z(1, 2))
    assert codes.shape == (2, adapter.num_codes, adapter.code_dim)
    assert adapter.mean_code.shape == (adapter.num_codes, adapter.code_dim)
    assert 1 <= adapter.feature_codes < adapter.num_codes
    picture = adapter.synthesize(codes)
    assert picture.shape == (2, 3, adapter.resolution, adapter.resolution)
    assert picture.dtype == torch.float32
    assert picture.isfinite().all()
    assert 0.001 < picture.std() < 30
    assert adapter.feature(codes).shape == (2, *adapter.feature_shape)


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("feature_layer", [1, 2, 3, 4, 5, 6])
def test_own_feature_changes_nothing(name: str, feature_layer: int, assets: Path) -> None:
    """Convolution K's output out of the generator and into it again is the identity, for every K."""
    adapter = small(name, feature_layer)
    codes = mixed(adapter, 2, 2)
    picture = adapter.synthesize(codes)
    assert deviation(adapter.synthesize(codes, adapter.feature(codes)), picture) < 1e-5


def test_feature_stands_for_the_first_codes(adapter: StyleGenerator) -> None:
    codes = adapter.map(sample_z(3, 2)).clone()
    feature = adapter.feature(codes)
    picture = adapter.synthesize(codes, feature)
    k = adapter.feature_codes
    early, late = codes.clone(), codes.clone()
    early[:, :k] += 1
    late[:, k:] += 1
    # The RGB of the lower levels is all that may still come from the first codes, where there is such a thing.
    assert torch.equal(adapter.synthesize(early, feature), picture) is not adapter.rgb_skip
    assert not torch.equal(adapter.synthesize(late, feature), picture)
    assert not torch.equal(adapter.feature(early), feature)
    assert torch.equal(adapter.feature(late), feature)


def test_batch_equals_singles(adapter: StyleGenerator) -> None:
    codes = mixed(adapter, 4, 3)
    feature = adapter.feature(codes).flip(0)
    for own in (None, feature):
        apart = [
            adapter.synthesize(codes[i : i + 1], None if own is None else own[i : i + 1]) for i in range(len(codes))
        ]
        assert deviation(adapter.synthesize(codes, own), torch.cat(apart)) < 1e-4


def test_gradient_reaches_codes_and_feature(adapter: StyleGenerator) -> None:
    codes = mixed(adapter, 5, 1).requires_grad_()
    feature = adapter.feature(codes).detach().requires_grad_()
    adapter.synthesize(codes).square().mean().backward()
    assert codes.grad is not None
    assert (codes.grad.abs().amax(2) > 0).all()
    adapter.synthesize(codes.detach(), feature).square().mean().backward()
    assert feature.grad is not None
    assert (feature.grad.abs().amax((2, 3)) > 0).float().mean() > 0.9


@pytest.mark.parametrize("name", [name for name in ADAPTERS if name != "mobilestylegan-128"])
def test_gradient_is_right(name: str) -> None:
    """Against central differences in double precision, along a random direction of codes and feature."""
    adapter = small(name)
    cast(nn.Module, adapter).double()
    codes = mixed_double(adapter)
    feature = adapter.feature(codes) * 1.1
    weights = torch.randn(1, 3, adapter.resolution, adapter.resolution, dtype=torch.float64)
    moves = [torch.randn_like(codes), torch.randn_like(feature)]

    def value(step: float) -> Tensor:
        return (adapter.synthesize(codes + step * moves[0], feature + step * moves[1]) * weights).sum()

    leaves = [codes.clone().requires_grad_(), feature.clone().requires_grad_()]
    slopes = torch.autograd.grad((adapter.synthesize(*leaves) * weights).sum(), leaves)
    expected = sum((slope * move).sum() for slope, move in zip(slopes, moves, strict=True))
    step = 1e-8  # so short that hardly any leaky ReLU changes sides on the way
    torch.testing.assert_close((value(step) - value(-step)) / (2 * step), expected, rtol=1e-4, atol=1e-4)


def mixed_double(adapter: StyleGenerator) -> Tensor:
    torch.manual_seed(1)
    return adapter.map(sample_z(6, 1).double()) + 0.1 * torch.randn(1, adapter.num_codes, 512, dtype=torch.float64)


def test_layers_can_be_differentiated_twice(adapter: StyleGenerator) -> None:
    codes = mixed(adapter, 7, 1).requires_grad_()
    (slope,) = torch.autograd.grad(adapter.synthesize(codes).square().sum(), codes, create_graph=True)
    slope.square().sum().backward()
    assert codes.grad is not None
    assert codes.grad.isfinite().all()
    assert codes.grad.abs().amax() > 0


def test_half_precision_is_close(adapter: StyleGenerator) -> None:
    codes = adapter.map(sample_z(6, 2))
    picture = adapter.synthesize(codes)
    with torch.autocast("cpu", torch.bfloat16):
        half = adapter.synthesize(codes).float()
    assert (half - picture).square().mean() < 0.01 * picture.square().mean()


def test_compiles_whole(adapter: StyleGenerator) -> None:
    """In one graph, without a break. Code generation itself is PyTorch's business, and slow."""
    torch._dynamo.reset()
    codes = mixed(adapter, 8, 1)
    synthesize = torch.compile(adapter.synthesize, backend="eager", fullgraph=True)
    feature = adapter.feature(codes)
    assert deviation(synthesize(codes, feature), adapter.synthesize(codes, feature)) < 1e-5


@pytest.mark.parametrize("name", [name for name in ADAPTERS if name != "mobilestylegan-128"])
def test_runs_on_a_gpu(name: str) -> None:
    with fake_gpu():
        adapter = ADAPTERS[name](5)
        move(cast(nn.Module, adapter).eval())
        codes = adapter.map(torch.empty(2, 512, device="cuda"))
        picture = adapter.synthesize(codes + adapter.mean_code, adapter.feature(codes))
        with torch.autocast("cuda", torch.float16):
            half = adapter.synthesize(codes)
    assert picture.device.type == half.device.type == "cuda"
    assert picture.shape == half.shape == (2, 3, adapter.resolution, adapter.resolution)


@pytest.mark.parametrize("name", ADAPTERS)
def test_state_goes_round(name: str, assets: Path) -> None:
    """A second instance with the first one's state, of the size that the state tells, makes the same pictures."""
    adapter = small(name)
    network = cast(nn.Module, adapter)
    state = network.state_dict()
    if name == "mobilestylegan-128":  # a network cut from a file; its state does not build it
        again = small(name)
        cast(nn.Module, again).load_state_dict(state)
    else:
        assert isinstance(network, SizedNetwork)
        again = cast(StyleGenerator, type(network)(network.size, adapter.feature_layer).eval())
        cast(nn.Module, again).load_state_dict(state)
    codes = mixed(adapter, 9, 1)
    assert torch.equal(again.synthesize(codes), adapter.synthesize(codes))


def test_wrong_shapes_are_named(adapter: StyleGenerator) -> None:
    codes = adapter.map(sample_z(10, 1))
    with pytest.raises(ValueError, match="codes must be"):
        adapter.synthesize(codes[:, 1:])
    with pytest.raises(ValueError, match="feature must be"):
        adapter.synthesize(codes, adapter.feature(codes)[:, :, 1:])
    with pytest.raises(ValueError, match="feature_layer must lie"):
        small_k(adapter, 99)


def small_k(adapter: StyleGenerator, feature_layer: int) -> StyleGenerator:
    network = cast(SizedNetwork, adapter)
    return cast(StyleGenerator, type(network)(network.size, feature_layer))
