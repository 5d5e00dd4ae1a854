"""Face parsing against the official network's golden vectors; Eq. (7), its gradient, and sizes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fse.bisenet import BiSeNet, BiSeNetSize, parsing_terms
from fse.losses import reduce
from fse.refusal import Refusal
from tests.golden.fill import image
from tests.golden.vectors import Golden

TINY = BiSeNetSize(5, (8, 8, 16, 16), 8)


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden("bisenet_face_parsing")


@pytest.fixture
def official(golden: Golden) -> BiSeNet:
    network = BiSeNet().eval().requires_grad_(False)
    network.load_state_dict(golden.state())
    return network


@pytest.fixture
def tiny() -> BiSeNet:
    torch.manual_seed(0)
    return BiSeNet(TINY).eval()


def picture(name: str, side: int) -> Tensor:
    return torch.from_numpy(image(f"input:{name}", [1, 3, side, side]))


def test_names_shapes_and_size_are_the_official_ones(golden: Golden) -> None:
    network = BiSeNet()
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == golden.names_and_shapes()
    assert sum(parameter.numel() for parameter in network.parameters()) == 13_300_416


def test_reproduces_the_official_outputs(golden: Golden, official: BiSeNet) -> None:
    inner: dict[str, Tensor] = {}
    for output in golden.manifest["outputs"]:
        if output.startswith("mid/"):
            official.get_submodule(output[4:]).register_forward_hook(
                lambda _, __, result, output=output: inner.__setitem__(output, result)
            )
    logits = official(picture("image512", 512))
    for name, value in zip(("out", "out16", "out32"), logits, strict=True):
        golden.check(name, value)
    for name, value in inner.items():
        golden.check(name, value)
    assert len(inner) == 13
    labels = logits[0].argmax(1)[:, 4::8, 4::8]
    assert torch.equal(labels.to(torch.uint8), torch.from_numpy(golden.stored["out_argmax_64"]))


def test_reproduces_the_official_parsing_loss(golden: Golden, official: BiSeNet) -> None:
    ours, its = picture("image1024_a", 1024), picture("image1024_b", 1024)
    prepared = official.prepare(ours)
    golden.check("classifier_input_a", prepared)
    golden.check("downscale_1024_to_256_a", reduce(ours, 256))  # the released encoder's input, stored with this loss
    logits = official(prepared)
    golden.check("parsing_loss_terms", parsing_terms(logits, official(official.prepare(its))))
    assert torch.equal(official.labels(ours), logits[0].argmax(1))


def test_the_gradient_of_the_loss_reaches_the_picture(tiny: BiSeNet) -> None:
    """Against a central difference along a random direction; and it can be differentiated once more."""
    network = tiny.double()
    x, target, direction = 0.3 * torch.randn(3, 2, 3, 40, 40, dtype=torch.float64)
    goal = network(network.prepare(target))

    def loss(x: Tensor) -> Tensor:
        return parsing_terms(network(network.prepare(x)), goal).sum(0).mean()

    x.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(x), x, create_graph=True)
    step = 1e-7  # small enough to cross few kinks of the ReLUs
    with torch.no_grad():
        difference = (loss(x + step * direction) - loss(x - step * direction)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), difference, rtol=1e-4, atol=0)
    (second,) = torch.autograd.grad(gradient.square().sum(), x)
    assert second.isfinite().all()
    assert second.any()


def test_terms_are_zero_for_equal_logits_and_one_a_picture(tiny: BiSeNet) -> None:
    one = tiny(torch.randn(3, 3, 64, 96))
    assert [tuple(logits.shape) for logits in one] == 3 * [(3, 5, 64, 96)]
    assert parsing_terms(one, one).abs().max() < 1e-6
    other = tuple(logits.flip(0) for logits in one)
    terms = parsing_terms(one, other)
    assert terms.shape == (3, 3)
    assert (terms[:, 1].abs() < 1e-6).all()  # the middle picture stays where it was
    assert (terms[:, ::2] > 1e-4).all()


def test_a_batch_equals_its_pictures(tiny: BiSeNet) -> None:
    pictures = torch.rand(3, 3, 200, 200) * 2.4 - 1.2
    labels = tiny.labels(pictures)
    assert labels.shape == (3, 512, 512)
    singles = torch.cat([tiny.labels(single) for single in pictures.split(1)])
    assert (labels == singles).double().mean() > 0.9999  # where two logits are equal but for rounding
    assert torch.equal(labels, tiny.labels(pictures.clamp(-1, 1)))


def test_autocast_and_compile(tiny: BiSeNet) -> None:
    x = torch.randn(1, 3, 96, 96)
    expected = tiny(x)
    for value, compiled in zip(expected, torch.compile(tiny, backend="eager", fullgraph=True)(x), strict=True):
        torch.testing.assert_close(compiled, value)
    with torch.autocast("cpu", torch.bfloat16):
        half = tiny(x)
        assert half[0].dtype == torch.bfloat16
        terms = parsing_terms(half, expected)
    assert terms.dtype == torch.float32
    assert (terms < 1e-3).all()


def test_the_size_is_read_off_the_parameters(tiny: BiSeNet) -> None:
    assert BiSeNet.size_of(tiny.state_dict(), {}) == TINY
    assert BiSeNet.size_of(BiSeNet().state_dict(), {}) == BiSeNetSize()
    with pytest.raises(Refusal, match=r"conv_out\.conv_out\.weight is missing"):
        BiSeNet.size_of({"conv.weight": torch.zeros(1)}, {})
