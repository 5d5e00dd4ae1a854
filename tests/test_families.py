"""Official files as generators and as the paper's method, before and after conversion."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from fse.encoder import EncoderSize, FeatureStyleEncoder
from fse.generators.families import read_generator
from fse.generators.stylegan1 import StyleGAN1, StyleGAN1Size
from fse.generators.stylegan2 import StyleGAN2, StyleGAN2Size
from fse.inverter import load_official_fse
from fse.latents import sample_z
from fse.losses import reduce
from fse.refusal import Refusal
from fse.trunk import TrunkSize
from pipelines.convert import convert

STYLEGAN2 = StyleGAN2Size(64, (16, 16, 16, 8, 8), 512, 2)


def stylegan2_file(path: Path, layout: str) -> StyleGAN2:
    torch.manual_seed(0)
    generator = StyleGAN2(STYLEGAN2).eval().requires_grad_(False)
    mean = torch.randn(512)
    generator.set_mean_code(mean)
    state = generator.state_dict()
    content: dict[str, object] = {"g_ema": state, "latent_avg": mean}
    if layout == "psp":
        content = {"state_dict": {f"decoder.{name}": tensor for name, tensor in state.items()}, "latent_avg": mean}
    torch.save(content, path)
    return generator


@pytest.mark.parametrize("layout", ["rosinality", "psp"])
def test_stylegan2(layout: str, tmp_path: Path) -> None:
    generator = stylegan2_file(tmp_path / "g.pt", layout)
    again = read_generator(tmp_path / "g.pt")
    codes = generator.map(sample_z(1, 2))
    assert torch.equal(again.mean_code, generator.mean_code)
    assert torch.equal(again.synthesize(codes), generator.synthesize(codes))


def test_mean_code_that_the_file_lacks(tmp_path: Path) -> None:
    generator = StyleGAN2(STYLEGAN2)
    torch.save({"g_ema": generator.state_dict()}, tmp_path / "g.pt")
    mean = read_generator(tmp_path / "g.pt").mean_code
    with torch.no_grad():
        expected = generator.map(sample_z(3, 20_000))[:, 0].mean(0)
    assert (mean - expected).abs().max() < 0.1 * generator.map(sample_z(3, 500))[:, 0].std(0).max()


def test_converted_files_are_the_same_generators(tmp_path: Path) -> None:
    generator = stylegan2_file(tmp_path / "g.pt", "rosinality")
    convert(tmp_path / "g.pt", tmp_path / "g.safetensors", "stylegan2")
    first = StyleGAN1(StyleGAN1Size(16, 64, 8, 2)).eval()
    torch.save(first.state_dict(), tmp_path / "first.pth")
    convert(tmp_path / "first.pth", tmp_path / "first.safetensors", "stylegan1")
    for path, original in (("g.safetensors", generator), ("first.safetensors", first)):
        again = read_generator(tmp_path / path)
        with torch.no_grad():
            codes = original.map(sample_z(2, 1))
            assert torch.equal(again.synthesize(codes), original.synthesize(codes))


def fse_file(path: Path, prefix: str | None, num_codes: int = 10) -> FeatureStyleEncoder:
    torch.manual_seed(1)
    size = EncoderSize(num_codes, trunk=TrunkSize((8, 8, 12, 16), (1, 1, 1, 1), 8), feature_channels=16)
    encoder = FeatureStyleEncoder(size).eval()
    state: dict[str, Tensor] = encoder.state_dict()
    torch.save({prefix: state} if prefix else state, path)
    return encoder


@pytest.mark.parametrize("prefix", [None, "enc_state_dict"])
def test_official_method(prefix: str | None, tmp_path: Path) -> None:
    """The encoder sees 256 px, whatever the generator makes: here 64, so its F of 16x16 is of 256."""
    encoder, generator = fse_file(tmp_path / "e.pth", prefix), stylegan2_file(tmp_path / "g.pt", "psp")
    method = load_official_fse(tmp_path / "e.pth", tmp_path / "g.pt")
    assert method.side == 256
    pictures = torch.rand(2, 3, 512, 512) * 2 - 1
    found = method.invert(pictures)
    with torch.no_grad():
        offsets, feature = encoder(reduce(pictures, 256))
    torch.testing.assert_close(found.codes, offsets + generator.mean_code)
    assert found.feature is not None
    torch.testing.assert_close(found.feature, feature)
    torch.testing.assert_close(found.picture, generator.synthesize(found.codes, found.feature))


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    stylegan2_file(tmp_path / "g.pt", "psp")
    fse_file(tmp_path / "e.pth", None, num_codes=12)
    with pytest.raises(Refusal, match=r"gives 12 codes and a feature of 16 channels, and the generator of .* takes 10"):
        load_official_fse(tmp_path / "e.pth", tmp_path / "g.pt")
    with pytest.raises(Refusal, match=r"g\.pt: the parameter .* is missing"):
        load_official_fse(tmp_path / "g.pt", tmp_path / "g.pt")
    with pytest.raises(Refusal, match=r"e\.pth holds no generator of a known family"):
        read_generator(tmp_path / "e.pth")
