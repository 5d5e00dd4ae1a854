"""Face recognition networks against the official ones, and the identity loss of Eq. (6)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fse.face_recognition import (
    CURRICULARFACE,
    IR_SE_50,
    IRESNET_50,
    ArcFace,
    FaceRecognitionSize,
    IRFace,
    identity_distances,
    loss_crop,
)
from fse.refusal import Refusal
from fse.trunk import TrunkSize
from tests.golden.fill import image
from tests.golden.vectors import Golden

LIGHT = TrunkSize((4, 6, 8, 10), (1, 2, 1, 1), 4)


def picture(name: str, *shape: int) -> Tensor:
    return torch.from_numpy(image(f"input:{name}", shape))


@torch.no_grad()
def test_arcface_reproduces_the_official_features_and_identity_terms() -> None:
    golden = Golden("arcface_iresnet50")
    network = ArcFace().eval()
    network.load_state_dict(golden.state())
    levels = network.levels(picture("image112", 2, 3, 112, 112))
    for i, level in enumerate(levels):
        golden.check(f"return_features/{i}", level)
    torch.testing.assert_close(network(picture("image112", 2, 3, 112, 112)), levels[-1])
    first, second = (network.levels(picture(f"image256_{name}", 1, 3, 256, 256)) for name in "ab")
    terms = identity_distances(first, second)
    golden.check("idloss_terms_multilayer", terms)
    # A single number has no deviation of its own; that of the five terms is the measure.
    torch.testing.assert_close(terms[-1], torch.from_numpy(golden.stored["idloss_single"]), rtol=0, atol=1e-5)


@torch.no_grad()
def test_ir_se_50_reproduces_the_official_embeddings_and_identity_loss() -> None:
    golden = Golden("ir_se50_backbone")
    network = IRFace().eval()
    network.load_state_dict(golden.state())
    golden.check("embedding", network(picture("image112", 2, 3, 112, 112)))
    first, second = (network(loss_crop(picture(f"image256_{name}", 1, 3, 256, 256))) for name in "ab")
    golden.check("idloss_embedding_a", first)
    loss = 1 - (first * second).sum(1)
    torch.testing.assert_close(loss, torch.from_numpy(golden.stored["idloss"]), rtol=0, atol=1e-5)


def parameters(size: FaceRecognitionSize, kind: type[ArcFace | IRFace]) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in kind(size).parameters())


def test_curricularface_is_the_same_network_at_another_size() -> None:
    """No vector of it exists; its names follow from those of IR-SE-50."""
    smaller = set(Golden("ir_se50_backbone").names_and_shapes())
    with torch.device("meta"):
        names = set(IRFace(CURRICULARFACE).state_dict())
    plain, projected = (
        {name.removeprefix(block) for name in smaller if name.startswith(block) and ".res_layer.5." not in name}
        for block in ("body.1.", "body.3.")
    )
    blocks = {f"body.{i}.{name}" for i in range(49) for name in (projected if i in (3, 16, 46) else plain)}
    rest = {name for name in smaller if not name.startswith("body.")}
    assert names == blocks | rest - {"output_layer.4.weight", "output_layer.4.bias"}


def test_curricularface_has_the_number_of_parameters_of_ir_101() -> None:
    """Counted by hand, layer by layer."""
    blocks, width = 0, 64
    for c_out, number in zip((64, 128, 256, 512), (3, 13, 30, 3), strict=True):
        for c_in in (width, *[c_out] * (number - 1)):
            projection = c_in * c_out + 2 * c_out if c_in != c_out else 0
            blocks += 2 * c_in + 9 * c_in * c_out + c_out + 9 * c_out**2 + 2 * c_out + projection
        width = c_out
    stem, head = 9 * 3 * 64 + 2 * 64 + 64, 2 * 512 + 512 * 7 * 7 * 512 + 512
    assert parameters(CURRICULARFACE, IRFace) == stem + blocks + head == 65_128_768


def test_iresnet_100_has_the_published_number_of_parameters() -> None:
    assert parameters(FaceRecognitionSize(TrunkSize(depths=(3, 13, 30, 3))), ArcFace) == 65_156_160


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        (ArcFace, IRESNET_50),
        (ArcFace, FaceRecognitionSize(LIGHT, 32, 5)),
        (IRFace, IR_SE_50),
        (IRFace, CURRICULARFACE),
        (IRFace, FaceRecognitionSize(TrunkSize((4, 6, 8, 10), (1, 2, 1, 1), 4, form="ir"), 64, 5, affine=False)),
    ],
)
def test_the_size_is_read_off_the_parameters(kind: type[ArcFace | IRFace], size: FaceRecognitionSize) -> None:
    with torch.device("meta"):
        tensors = kind(size).state_dict()
    assert kind.size_of(tensors, {}) == size
    stem = next(iter(tensors))
    with pytest.raises(Refusal, match=rf"the parameter {stem} is missing"):
        kind.size_of({name: tensor for name, tensor in tensors.items() if name != stem}, {})


def test_a_trunk_of_other_stages_is_refused() -> None:
    with torch.device("meta"):
        tensors = IRFace().state_dict()
    short = {name: tensor for name, tensor in tensors.items() if not name.startswith("body.21.")}
    with pytest.raises(Refusal, match="3 widths and not 4"):
        IRFace.size_of(short, {})


def test_identity_terms_have_the_gradient_of_finite_differences() -> None:
    torch.manual_seed(0)
    network = ArcFace(FaceRecognitionSize(LIGHT, 16, 5)).double().eval()
    a, b = torch.randn(2, 1, 3, 16, 16, dtype=torch.float64)
    target = network.levels(b)
    assert torch.autograd.gradcheck(
        lambda x: identity_distances(network.levels(x), target), a.requires_grad_(), fast_mode=True
    )
