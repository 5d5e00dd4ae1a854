"""HFGI against the official networks' golden vectors; the method on a tiny generator."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from baselines.e4e import E4E
from baselines.hfgi.inversion import HFGIInverter, load_official_hfgi
from baselines.hfgi.residual_aligner import ResidualAligner, ResidualAlignerSize
from baselines.hfgi.residual_encoder import ResidualEncoder, ResidualEncoderSize
from baselines.psp import PyramidEncoder, PyramidSize
from fse.editing import move_codes
from fse.generators.mobilestylegan import MobileStyleGAN
from fse.generators.stylegan2 import StyleGAN2, StyleGAN2Size
from fse.inversion import Inversion, InversionMethod
from fse.refusal import Refusal
from fse.trunk import TrunkSize
from tests.golden.fill import image, normal
from tests.golden.vectors import Golden
from tests.tiny import tiny_generator, tiny_pyramid

LIGHT_ENCODER = ResidualEncoderSize((4, 6, 8), (64, 16, 16))
LIGHT_ALIGNER = ResidualAlignerSize((4, 6, 8, 10))


def picture(name: str, channels: int = 3) -> Tensor:
    return torch.from_numpy(image(f"input:{name}", [1, channels, 256, 256]))


def inner_outputs(network: nn.Module, golden: Golden) -> dict[str, Tensor]:
    """Filled at the network's next call with what the vector stores of its inside."""
    inner: dict[str, Tensor] = {}
    for output in golden.manifest["outputs"]:
        if output.startswith("mid/"):
            network.get_submodule(output[4:]).register_forward_hook(
                lambda _, __, result, output=output: inner.__setitem__(output, result)
            )
    return inner


@torch.no_grad()
def test_residual_encoder_reproduces_the_official_outputs() -> None:
    golden = Golden("hfgi_residual_encoder")
    network = ResidualEncoder().eval()
    network.load_state_dict(golden.state())
    inner = inner_outputs(network, golden)
    scale, shift = network(picture("residual256"))
    for output, value in {"scale": scale, "shift": shift, **inner}.items():
        golden.check(output, value)
    assert len(inner) == 3


@torch.no_grad()
def test_residual_aligner_reproduces_the_official_outputs() -> None:
    golden = Golden("hfgi_residual_aligner")
    network = ResidualAligner().eval()
    network.load_state_dict(golden.state())
    inner = inner_outputs(network, golden)
    aligned = network(picture("image256_6ch", 6))
    for output, value in {"aligned": aligned, **inner}.items():
        golden.check(output, value)
    assert len(inner) == 7


class _LeadingRows(nn.Module):
    """The vector's encoder has the rows of a generator for 1024 px, of which its decoder for 64 px reads the first."""

    def __init__(self, encoder: PyramidEncoder, count: int) -> None:
        super().__init__()
        self.encoder, self.count = encoder, count

    def forward(self, pictures: Tensor) -> Tensor:
        return self.encoder(pictures)[:, : self.count]


@torch.no_grad()
def test_inversion_and_edit_reproduce_the_official_pipeline() -> None:
    golden = Golden("hfgi_pipeline_64")
    state = golden.state()
    with torch.device("meta"):  # its initialisation would take longer than its use
        encoder = PyramidEncoder(E4E)
    residual_encoder, aligner = ResidualEncoder(), ResidualAligner()
    generator = StyleGAN2(StyleGAN2Size(64), feature_layer=8)
    for prefix, network in {
        "encoder.": encoder, "residue.": residual_encoder, "grid_align.": aligner, "decoder.": generator
    }.items():  # fmt: skip
        part = {name[len(prefix) :]: state[name] for name in state if name.startswith(prefix)}
        network.load_state_dict(part, assign=network is encoder)
    mean_code = torch.from_numpy(normal("input:latent_avg", [1, 512]) * np.float32(0.3))[0]
    direction = torch.from_numpy(normal("input:edit_direction", [1, 1, 512]) * np.float32(0.2))[0, 0]
    generator.set_mean_code(mean_code)
    inner: dict[str, Tensor | tuple[Tensor, Tensor]] = {}
    for name, network in {"codes": encoder, "aligned": aligner, "conditions": residual_encoder}.items():
        network.register_forward_hook(lambda _, __, result, name=name: inner.__setitem__(name, result))

    method = HFGIInverter(_LeadingRows(encoder, 10), generator, residual_encoder, aligner)
    inversion = method.invert(picture("image256"))
    golden.check("codes", inner["codes"] + mean_code)
    golden.check("image_initial", generator.synthesize(inversion.codes))
    golden.check("distortion_map", inversion.residual)
    for run in ("inversion", "edit"):
        result = inversion.picture if run == "inversion" else method.edit(inversion, direction, 1.0)
        golden.check(f"{run}/aligned", inner["aligned"])
        golden.check(f"{run}/scale", inner["conditions"][0])
        golden.check(f"{run}/shift", inner["conditions"][1])
        golden.check(f"{run}/image", result)


@pytest.mark.parametrize(
    ("kind", "light", "vector"),
    [
        (ResidualEncoder, ResidualEncoderSize((4, 6, 8), (12, 64, 64)), "hfgi_residual_encoder"),
        (ResidualAligner, LIGHT_ALIGNER, "hfgi_residual_aligner"),
    ],
    ids=["encoder", "aligner"],
)
def test_names_shapes_and_size_are_the_official_ones(
    kind: type[ResidualEncoder | ResidualAligner], light: object, vector: str
) -> None:
    shapes = {name: tuple(value.shape) for name, value in kind().state_dict().items()}
    assert shapes == Golden(vector).names_and_shapes()
    for size in (light, kind.Size()):
        assert kind.size_of(kind(size).state_dict(), {}) == size
    with pytest.raises(Refusal, match=r"conv_layer1\.0\.weight is missing"):
        kind.size_of({}, {})


@pytest.fixture
def generator() -> MobileStyleGAN:
    """K = 4 is the first convolution of its side, as the official K = 8 is."""
    return tiny_generator(feature_layer=4)


@pytest.fixture
def method(generator: MobileStyleGAN) -> HFGIInverter:
    encoder = tiny_pyramid(generator)
    return HFGIInverter(
        encoder, generator, ResidualEncoder(LIGHT_ENCODER), ResidualAligner(LIGHT_ALIGNER), generator.resolution
    )


def pictures(count: int = 3, side: int = 64) -> Tensor:
    return torch.from_numpy(image("input:hfgi", [count, 3, side, side]))


def silence(network: ResidualEncoder) -> None:
    """Make scale and shift zero."""
    for branch in (network.condition_scale3, network.condition_shift3):
        nn.init.zeros_(branch[-1].weight)


def test_inverts_and_edits(method: HFGIInverter, generator: MobileStyleGAN) -> None:
    assert isinstance(method, InversionMethod)
    inversion = method.invert(pictures())
    assert inversion.codes.shape == (3, 8, 512)
    assert inversion.feature is not None
    assert inversion.feature.shape == (3, *generator.feature_shape)
    assert inversion.picture.shape == inversion.residual.shape == (3, 3, 64, 64)
    assert torch.equal(inversion.picture, generator.synthesize(inversion.codes, inversion.feature))
    assert not torch.allclose(inversion.feature, generator.feature(inversion.codes), atol=1e-2)
    initial = generator.synthesize(inversion.codes).clamp(-1, 1)
    assert torch.equal(inversion.residual, pictures() - initial)

    direction = torch.randn(512, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(method.edit(inversion, direction, 0.0), inversion.picture)
    edited = method.edit(inversion, direction, 0.5)
    assert edited.shape == (3, 3, 64, 64)
    assert (edited - inversion.picture).abs().mean() > 1e-2
    # The residual of the source is aligned to the edited picture, not recomputed.
    assert not torch.allclose(edited, generator.synthesize(move_codes(inversion.codes, direction, 0.5)), atol=1e-2)


def test_pictures_of_another_side_are_reduced_like_files(method: HFGIInverter) -> None:
    large = pictures(1, 256)
    channels = [Image.fromarray(channel).resize((64, 64), Image.Resampling.BILINEAR) for channel in large[0].numpy()]
    small = torch.from_numpy(np.stack(channels))[None]
    torch.testing.assert_close(method.invert(large).residual, method.invert(small).residual, rtol=1e-4, atol=1e-4)


def test_a_batch_equals_its_pictures(method: HFGIInverter) -> None:
    batch = method.invert(pictures())
    singles = [method.invert(single) for single in pictures().split(1)]
    for name in ("codes", "feature", "picture", "residual"):
        torch.testing.assert_close(
            getattr(batch, name), torch.cat([getattr(single, name) for single in singles]), rtol=1e-4, atol=1e-4
        )


def test_no_scale_and_shift_leave_the_generator_alone(method: HFGIInverter, generator: MobileStyleGAN) -> None:
    silence(method.residual_encoder)
    inversion = method.invert(pictures())
    assert torch.equal(inversion.feature, generator.feature(inversion.codes))
    assert torch.equal(inversion.picture, generator.synthesize(inversion.codes))


class TestOfficialFile:
    """In the layout of ``ckpt.pt``, at a light size."""

    @pytest.fixture
    def content(self) -> dict[str, Any]:
        torch.manual_seed(0)
        networks = {
            "encoder": PyramidEncoder(
                PyramidSize(10, trunk=TrunkSize((8, 10, 12, 16), (1, 1, 1, 1), 8, form="ir_se"), head_width=8, side=64)
            ),
            "decoder": StyleGAN2(StyleGAN2Size(64, (16,) * 5, mapping_depth=2)),
            "residue": ResidualEncoder(ResidualEncoderSize((4, 6, 8), (16, 64, 64))),
            "grid_align": ResidualAligner(LIGHT_ALIGNER),
        }
        state = {
            f"{prefix}.{name}": value
            for prefix, network in networks.items()
            for name, value in network.state_dict().items()
        }
        options = Namespace(dataset_type="ffhq_encode", encoder_type="Encoder4Editing", is_train=False)
        return {"state_dict": state, "latent_avg": torch.randn(10, 512), "opts": options}

    def test_is_read(self, content: dict[str, Any], tmp_path: Path) -> None:
        torch.save(content, tmp_path / "ckpt.pt")
        method = load_official_hfgi(tmp_path / "ckpt.pt")
        assert method.generator.feature_layer == 8
        assert method.side == 64
        networks = (method.encoder, method.generator, method.residual_encoder, method.aligner)
        for prefix, network in zip(("encoder", "decoder", "residue", "grid_align"), networks, strict=True):
            assert not network.training
            for name, value in network.state_dict().items():
                assert torch.equal(value, content["state_dict"][f"{prefix}.{name}"])
        inversion = method.invert(pictures())
        assert inversion.picture.shape == (3, 3, 64, 64)
        torch.testing.assert_close(inversion.codes, method.encoder(pictures()) + content["latent_avg"])
        assert method.encoder.size.progressive

    def test_parts_of_other_sizes_are_refused(self, content: dict[str, Any], tmp_path: Path) -> None:
        other = ResidualEncoder(ResidualEncoderSize((4, 6, 8), (12, 64, 64))).state_dict()
        content["state_dict"].update({f"residue.{name}": value for name, value in other.items()})
        torch.save(content, tmp_path / "ckpt.pt")
        with pytest.raises(Refusal, match=r"condition_scale3\.0\.weight has shape \(12, 8, 3, 3\) instead of \(16, 8"):
            load_official_hfgi(tmp_path / "ckpt.pt")

    @pytest.mark.parametrize(
        "name", ["residue.condition_shift3.2.bias", "grid_align.dconv_layer3.1.res_layer.1.weight", "latent_avg"]
    )
    def test_refusal_names_what_is_missing(self, name: str, content: dict[str, Any], tmp_path: Path) -> None:
        (content["state_dict"] if "." in name else content).pop(name)
        torch.save(content, tmp_path / "ckpt.pt")
        with pytest.raises(Refusal, match=name.partition(".")[2] or name):
            load_official_hfgi(tmp_path / "ckpt.pt")


def test_refuses_what_does_not_belong_together(method: HFGIInverter, generator: MobileStyleGAN) -> None:
    inversion = method.invert(pictures(1))
    with pytest.raises(ValueError, match="made by another method"):
        method.edit(Inversion(inversion.codes, inversion.feature, inversion.picture), torch.zeros(512), 1.0)
    with pytest.raises(ValueError, match=r"\(512, 64, 64\).*convolution 4.*\(64, 16, 16\)"):
        HFGIInverter(method.encoder, generator, ResidualEncoder(), method.aligner)


def test_the_gradient_reaches_both_networks_and_the_picture(generator: MobileStyleGAN) -> None:
    """What training the consultation needs; the picture's against a central difference, in double precision."""
    torch.manual_seed(0)
    encoder, aligner = ResidualEncoder(LIGHT_ENCODER).double().eval(), ResidualAligner(LIGHT_ALIGNER).double().eval()
    x, direction = torch.randn(2, 1, 6, 64, 64, dtype=torch.float64)

    def loss(x: Tensor) -> Tensor:
        scale, shift = encoder(aligner(x))
        return (scale.square() + shift).mean()

    x.requires_grad_()
    parameters = [*encoder.parameters(), *aligner.parameters()]
    gradient, *others = torch.autograd.grad(loss(x), [x, *parameters], create_graph=True)
    assert all(other.isfinite().all() and other.any() for other in others)
    step = 1e-7  # small enough to cross few kinks of the activations
    with torch.no_grad():
        difference = (loss(x + step * direction) - loss(x - step * direction)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), difference, rtol=1e-4, atol=0)
    (second,) = torch.autograd.grad(gradient.square().sum(), x)
    assert second.isfinite().all()
    assert second.any()


def test_autocast_and_compile() -> None:
    torch.manual_seed(0)
    encoder, aligner = ResidualEncoder(LIGHT_ENCODER).eval(), ResidualAligner(LIGHT_ALIGNER).eval()
    x = torch.randn(1, 6, 64, 64)
    aligned = aligner(x)
    torch.testing.assert_close(torch.compile(aligner, backend="eager", fullgraph=True)(x), aligned)
    compiled = torch.compile(encoder, backend="eager", fullgraph=True)
    for one, other in zip(compiled(aligned), encoder(aligned), strict=True):
        torch.testing.assert_close(one, other)
    with torch.autocast("cpu", torch.bfloat16):
        assert (aligner(x) - aligned).std() < 0.05 * aligned.std()
