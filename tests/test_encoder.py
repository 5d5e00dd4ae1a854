"""The encoder against the official network's golden vectors, its files, and the light size."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from baselines.psp import PyramidEncoder, PyramidSize
from fse.checkpoints.network_file import read_network, write_network
from fse.encoder import EncoderSize, FeatureStyleEncoder
from fse.generators.stylegan2 import StyleGAN2, StyleGAN2Size
from fse.refusal import Refusal
from fse.sized_network import SizedNetwork
from fse.trunk import Form, ResidualBlock, TrunkSize
from tests.golden.fill import image, normal
from tests.golden.vectors import Golden

LIGHT = TrunkSize((8, 12, 16, 20), (1, 2, 1, 1), 8, 2)
NETWORKS: list[SizedNetwork] = [
    FeatureStyleEncoder(EncoderSize(4, trunk=LIGHT, pooling=1, feature_channels=32, feature_stride=1)),
    PyramidEncoder(PyramidSize(10, trunk=LIGHT, head_width=8)),
    PyramidEncoder(PyramidSize(10, trunk=replace(LIGHT, form="ir_se"), head_width=8, pyramid=False, progressive=True)),
]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("stride1", EncoderSize(feature_stride=1)),
        ("stride2", EncoderSize()),
        ("video_stride2", EncoderSize(trunk=TrunkSize(input_channels=6))),
    ],
)
@torch.no_grad()
def test_official_size_gives_the_official_outputs(name: str, size: EncoderSize) -> None:
    golden = Golden(f"fse_encoder_{name}")
    encoder = FeatureStyleEncoder(size).eval()
    encoder.load_state_dict(golden.state())
    trunk: dict[str, Tensor] = {}
    for part in ("conv", "block_1", "block_2", "block_3", "block_4"):
        encoder.get_submodule(part).register_forward_hook(
            lambda _, __, value, part=part: trunk.__setitem__(f"mid/{part}", value)
        )
    (source,) = golden.manifest["inputs"]
    codes, feature = encoder(torch.from_numpy(image(f"input:{source}", (1, size.trunk.input_channels, 256, 256))))
    outputs = {"latents": codes, "content_feature": feature, **trunk}
    if name == "stride2":
        outputs |= _pictures(codes, feature)
    for output in golden.manifest["outputs"]:
        golden.check(output, outputs[output])


def _pictures(codes: Tensor, feature: Tensor) -> dict[str, Tensor]:
    """What the official release makes of them, F replacing convolution 5's output wholly or by half."""
    generator = StyleGAN2(StyleGAN2Size(64)).eval()
    generator.load_state_dict(Golden("stylegan2_fse_feature_replace_64").state())
    codes = codes[:, :10] * 0.05 + torch.from_numpy(normal("input:latent_avg", (1, 512)) * 0.1)
    feature = feature * 0.02
    half = 0.5 * generator.feature(codes) + 0.5 * feature
    return {
        "pipeline/image_scale1.0": generator.synthesize(codes, feature),
        "pipeline/image_scale0.5": generator.synthesize(codes, half),
    }


@pytest.mark.parametrize(
    "size", [EncoderSize(), EncoderSize(4, 8, replace(LIGHT, stem_stride=1, input_channels=6), 2, 5)]
)
def test_the_size_is_read_off_the_parameters(size: EncoderSize) -> None:
    with torch.device("meta"):
        tensors = FeatureStyleEncoder(size).state_dict()
    assert FeatureStyleEncoder.size_of(tensors, {}) == size
    for name in ("conv.0.weight", "block_3.0.conv1.weight", "styles.0.weight", "content_layer.1.weight"):
        with pytest.raises(Refusal, match=f"the parameter {name} is missing"):
            FeatureStyleEncoder.size_of({key: tensor for key, tensor in tensors.items() if key != name}, {})


@pytest.mark.parametrize("form", ["iresnet", "ir", "ir_se"])
@pytest.mark.parametrize(("c_out", "stride"), [(4, 1), (4, 2), (6, 2)])
def test_residual_blocks_have_the_gradient_of_finite_differences(form: Form, c_out: int, stride: int) -> None:
    torch.manual_seed(0)
    block = ResidualBlock(4, c_out, stride, form).double().eval()
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64, requires_grad=True)
    assert block(x).shape == (2, c_out, 6 // stride, 6 // stride)
    assert torch.autograd.gradcheck(block, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(block, x, fast_mode=True)


def test_shipped_trunks_are_iresnets(weights: Path) -> None:
    """Their headers were written before there was a form, and say none."""
    for name, kind in {"fse": FeatureStyleEncoder, "psp": PyramidEncoder}.items():
        assert read_network(weights / f"{name}.safetensors", kind).size.trunk.form == "iresnet"
    assert PyramidSize().trunk.form == "ir_se"


def test_official_number_of_parameters() -> None:
    assert sum(parameter.numel() for parameter in FeatureStyleEncoder().parameters()) == 113_920_704


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: type(network).__name__)
class TestFiles:
    def test_round_trip(self, network: SizedNetwork, tmp_path: Path) -> None:
        write_network(tmp_path / "n.safetensors", network, {"steps": 3})
        again = read_network(tmp_path / "n.safetensors", type(network))
        assert again.size == network.size
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(again.state_dict()[name], tensor, rtol=1e-3, atol=1e-6)

    def test_equal_networks_are_equal_files(self, network: SizedNetwork, tmp_path: Path) -> None:
        for name in "abcd":
            write_network(tmp_path / name, network, {"steps": 3, "heads": "0"})
        assert len({(tmp_path / name).read_bytes() for name in "abcd"}) == 1
        assert (tmp_path / "a").stat().st_mode & 0o444 == 0o444 & ~_umask()

    def test_refusals(self, network: SizedNetwork, tmp_path: Path) -> None:
        path, kind = tmp_path / "n.safetensors", type(network)
        with pytest.raises(Refusal, match="is missing"):
            read_network(path, kind)
        path.write_bytes(b"no safetensors")
        with pytest.raises(Refusal, match="no safetensors file"):
            read_network(path, kind)
        state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
        header = {"network": kind.__name__, "size": json.dumps({"num_codes": "many"})}
        save_file(state, path, {"network": "Another"})
        with pytest.raises(Refusal, match=f"holds a Another, not a {kind.__name__}"):
            read_network(path, kind)
        save_file(state, path, header)
        with pytest.raises(Refusal, match="does not say a size"):
            read_network(path, kind)
        write_network(path, network, {})
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(Refusal, match="no safetensors file"):
            read_network(path, kind)

    def test_a_parameter_of_another_shape_is_named(self, network: SizedNetwork, tmp_path: Path) -> None:
        path = tmp_path / "n.safetensors"
        write_network(path, network, {})
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            header, state = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        name = next(iter(network.state_dict()))
        state[name] = state[name][:3].contiguous()
        save_file(state, path, header)
        with pytest.raises(Refusal, match=rf"parameter {name} has shape \(3, 3, 3, 3\) instead of"):
            read_network(path, type(network))


def test_feature_starts_at_the_generators_scale() -> None:
    encoder = FeatureStyleEncoder(EncoderSize(2, trunk=LIGHT, pooling=1, feature_channels=16, feature_stride=1))
    mean, std = torch.linspace(-1, 1, 16), torch.linspace(0.05, 1.5, 16)
    encoder.start_from(mean, std)
    _, feature = encoder.train()(torch.randn(8, 3, 64, 64))
    torch.testing.assert_close(feature.mean((0, 2, 3)), mean, rtol=0, atol=0.02)
    torch.testing.assert_close(feature.std((0, 2, 3)), std, rtol=0.05, atol=0.01)
