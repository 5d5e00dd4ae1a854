"""The encoder against the official network's golden vectors, its files, and the light size."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from baselines.psp import PyramidEncoder, PyramidSize
from fse.checkpoints.network_file import read_network, write_network
from fse.encoder import EncoderSize, FeatureStyleEncoder
from fse.refusal import Refusal
from fse.sized_network import SizedNetwork
from fse.trunk import TrunkSize
from tests.golden.fill import fill_state, image

GOLDEN = Path(__file__).parent / "golden"
LIGHT = TrunkSize((8, 12, 16, 20), (1, 2, 1, 1), 8, 2)
NETWORKS: list[SizedNetwork] = [
    FeatureStyleEncoder(EncoderSize(4, trunk=LIGHT, pooling=1, feature_channels=32, feature_stride=1)),
    PyramidEncoder(PyramidSize(10, trunk=LIGHT, head_width=8)),
]


@pytest.mark.parametrize("stride", [1, 2])
def test_official_size_gives_the_official_outputs(stride: int) -> None:
    name = f"fse_encoder_stride{stride}"
    manifest = json.loads((GOLDEN / f"{name}.json").read_text())
    stored = np.load(GOLDEN / f"{name}.npz")
    encoder = FeatureStyleEncoder(EncoderSize(feature_stride=stride))
    encoder.load_state_dict(
        {key: torch.from_numpy(np.ascontiguousarray(v)) for key, v in fill_state(manifest, stored).items()}
    )
    with torch.no_grad():
        codes, feature = encoder.eval()(torch.from_numpy(image("input:image256", (1, 3, 256, 256))))
    for key, value in {"latents": codes, "content_feature": feature}.items():
        step = manifest["outputs"][key].get("step", 1)
        expected = stored[key].ravel()
        got = value.numpy().ravel()[::step]
        assert np.abs(got - expected).max() < 1e-4 * manifest["outputs"][key]["mean_std_min_max"][1]


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
        state["conv.0.weight"] = state["conv.0.weight"][:3].contiguous()
        save_file(state, path, header)
        with pytest.raises(Refusal, match=r"parameter conv\.0\.weight has shape \(3, 3, 3, 3\) instead of"):
            read_network(path, type(network))


def test_feature_starts_at_the_generators_scale() -> None:
    encoder = FeatureStyleEncoder(EncoderSize(2, trunk=LIGHT, pooling=1, feature_channels=16, feature_stride=1))
    mean, std = torch.linspace(-1, 1, 16), torch.linspace(0.05, 1.5, 16)
    encoder.start_from(mean, std)
    _, feature = encoder.train()(torch.randn(8, 3, 64, 64))
    torch.testing.assert_close(feature.mean((0, 2, 3)), mean, rtol=0, atol=0.02)
    torch.testing.assert_close(feature.std((0, 2, 3)), std, rtol=0.05, atol=0.01)
