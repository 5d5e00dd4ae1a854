"""MobileStyleGAN against OpenVINO and against the training code's golden vectors; its heads and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fse.checkpoints.openvino_ir import read_constants
from fse.generators.mobilestylegan import MobileStyleGAN, MobileStyleGANSize, read_mobilestylegan
from fse.generators.picture_head import HEAD_SIDES, load_generator
from fse.generators.wavelet import haar, inverse_haar
from fse.latents import sample_z
from fse.refusal import Refusal
from tests.golden.fill import normal
from tests.golden.vectors import Golden


@pytest.fixture(scope="module")
def full(assets: Path) -> MobileStyleGAN:
    generator = MobileStyleGAN()
    generator.load_state_dict(read_mobilestylegan(assets / "mobilestylegan"), strict=False)
    return generator.requires_grad_(False).eval()


def test_agrees_with_openvino(full: MobileStyleGAN, assets: Path) -> None:
    """Mapping and 1024 px pictures of eight random codes, to 2e-4; OpenVINO's default here would be bf16."""
    import openvino

    core = openvino.Core()
    folder, precision = assets / "mobilestylegan", {"INFERENCE_PRECISION_HINT": "f32"}
    mapping = core.compile_model(folder / "MappingNetwork.xml", "CPU", precision)
    synthesis = core.compile_model(folder / "SynthesisNetwork.xml", "CPU", precision)
    for z in sample_z(7, 8).split(1):
        code = next(iter(mapping(z.numpy()).values()))
        assert np.abs(code - full.map(z)[:, 0].numpy()).max() < 2e-4
        picture = next(iter(synthesis(code).values()))
        codes = torch.from_numpy(code)[:, None].expand(-1, full.num_codes, -1)
        assert np.abs(picture - full.synthesize(codes).numpy()).max() < 2e-4


@pytest.mark.parametrize("side", [64, 1024])
def test_agrees_with_the_training_code(side: int) -> None:
    """The official network filled by name, its code-independent demodulation folded as the export does."""
    golden = Golden(f"mobilestylegan_{side}")
    official = golden.state()
    channels = tuple(golden.construction["channels"])
    generator = MobileStyleGAN(MobileStyleGANSize(channels))
    blocks = len(channels) - 1
    result = generator.load_state_dict(_exported(official, blocks), strict=False)
    assert not result.unexpected_keys
    assert all(key.startswith("mapping") or key == "mean_code" for key in result.missing_keys)
    count = golden.construction["wsize"]
    rows = torch.from_numpy(normal(f"input:ws_{count}", (1, count, 512)))
    # Official rows: 0 conv1; 3i + 1 up and conv1, 3i + 2 conv2 of block i; 3 * blocks the last image head.
    picked = [0, *(row for i in range(blocks) for row in (3 * i + 1, 3 * i + 2)), 3 * blocks]
    with torch.no_grad():
        golden.check("image_from_ws", generator.synthesize(rows[:, picked]))
        w = torch.from_numpy(normal("input:w", (1, 512)))
        golden.check("image_from_w", generator.synthesize(w[:, None].expand(-1, generator.num_codes, -1)))


def _exported(official: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """Names and folding of the export, with the golden run's noise pictures."""
    state = {"constant": official["input.input"]}
    convs = {"conv1": ("conv1", normal("input:noise_4", (1, 1, 4, 4))[0])}
    for i in range(blocks):
        side = 2 ** (i + 3)
        noise = normal(f"input:noise_{side}", (2, 1, side, side))
        convs |= {f"layers.{i}.conv{j + 1}": (f"blocks.{i}.conv{j + 1}", noise[j]) for j in range(2)}
        for kind in ("weight", "bias"):
            state[f"blocks.{i}.up.modulation.{kind}"] = official[f"layers.{i}.up.modulation.{kind}"]
    for theirs, (ours, noise) in convs.items():
        prefix = f"{theirs}.conv."
        conv = {key.removeprefix(prefix): value for key, value in official.items() if key.startswith(prefix)}
        if theirs == "conv1":
            weight = dense = conv["weight"]
        else:
            weight, dense = conv["weight_permute"], conv["weight_permute"] * conv["weight_dw"].transpose(0, 1)
            state[f"{ours}.depthwise"] = conv["weight_dw"]
        scaled = dense * conv["style_inv"][0] * (9 * dense.shape[1]) ** -0.5
        state[f"{ours}.weight"] = weight * torch.rsqrt(scaled.square().sum((1, 2, 3), keepdim=True) + 1e-8)
        state[f"{ours}.noise"] = torch.from_numpy(noise)[None] * official[f"{theirs}.noise.weight"]
        state[f"{ours}.bias"] = official[f"{theirs}.bias"]
        for kind in ("weight", "bias"):
            state[f"{ours}.modulation.{kind}"] = official[f"{theirs}.conv.modulation.{kind}"]
    last = f"layers.{blocks - 1}.to_img"
    state |= {"head.weight": official[f"{last}.conv.weight"], "head.bias": official[f"{last}.bias"].flatten()}
    state |= {f"head.modulation.{kind}": official[f"{last}.conv.modulation.{kind}"] for kind in ("weight", "bias")}
    return state


def test_any_prefix_of_layers(full: MobileStyleGAN) -> None:
    codes = full.map(sample_z(8, 1))
    last = 2 * len(full.blocks[:3]) + 1
    for k in range(1, last):
        torch.testing.assert_close(
            full.features(codes, k + 1, last, full.features(codes, last=k)), full.features(codes, last=last)
        )


@pytest.mark.parametrize(("side", "floor"), [(128, 26.0), (256, 28.0)])
def test_heads_end_the_generator(full: MobileStyleGAN, weights: Path, assets: Path, side: int, floor: float) -> None:
    """Against the full network's pictures reduced with antialiasing, on codes that no head was fitted to."""
    generator = load_generator(assets / "mobilestylegan", weights / "picture_head.safetensors", side)
    z = sample_z(77, 6)
    with torch.no_grad():
        target = torch.nn.functional.interpolate(
            full.synthesize(full.map(z)), size=(side, side), mode="bilinear", antialias=True
        ).clamp(-1, 1)
        error = (generator.synthesize(generator.map(z)).clamp(-1, 1) - target).square().mean((1, 2, 3)) / 4
    assert (-10 * torch.log10(error)).mean() > floor


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_haar_inverts(batch: int, channels: int, side: int, seed: int) -> None:
    x = torch.randn(batch, channels, 2 * side, 2 * side, generator=torch.Generator().manual_seed(seed))
    low, high = haar(x)
    torch.testing.assert_close(inverse_haar(low, high), x)
    torch.testing.assert_close(low.square().sum() + high.square().sum(), x.square().sum())  # orthonormal


class TestRefusals:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(Refusal, match=r"MappingNetwork\.xml is missing"):
            read_mobilestylegan(tmp_path)

    def test_truncated(self, assets: Path, tmp_path: Path) -> None:
        for path in (assets / "mobilestylegan").iterdir():
            data = path.read_bytes()
            (tmp_path / path.name).write_bytes(data[: len(data) // 2] if path.name == "SynthesisNetwork.bin" else data)
        with pytest.raises(Refusal, match="is truncated"):
            read_mobilestylegan(tmp_path)

    def test_entities(self, tmp_path: Path) -> None:
        (tmp_path / "a.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><net/>')
        (tmp_path / "a.bin").write_bytes(b"")
        with pytest.raises(Refusal, match="entities"):
            read_constants(tmp_path / "a.xml")

    def test_another_network(self, assets: Path, tmp_path: Path) -> None:
        for suffix in ("xml", "bin"):
            for name in ("MappingNetwork", "SynthesisNetwork"):
                source = assets / "mobilestylegan" / f"MappingNetwork.{suffix}"
                (tmp_path / f"{name}.{suffix}").write_bytes(source.read_bytes())
        with pytest.raises(Refusal, match="parameter constant is missing"):
            read_mobilestylegan(tmp_path)

    @pytest.mark.parametrize("resolution", [64, 512])
    def test_no_head_of_that_size(self, assets: Path, weights: Path, resolution: int) -> None:
        with pytest.raises(Refusal, match=str(HEAD_SIDES[0])):
            load_generator(assets / "mobilestylegan", weights / "picture_head.safetensors", resolution)
