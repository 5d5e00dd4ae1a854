"""ST-LPIPS: the package's own numbers, their gradient, and what training asks of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fse.perceptual import STLPIPS
from fse.refusal import Refusal

GOLDEN = json.loads((Path(__file__).parent / "golden" / "stlpips.json").read_text())


@pytest.fixture(scope="module")
def stlpips(assets: Path) -> STLPIPS:
    return STLPIPS.load(assets / "stlpips" / "alex_shift_tolerant.pth")


def picture(seed: int, height: int, width: int) -> Tensor:
    """(1, 3, height, width) float64 in [-1, 1]; the recipe that golden/stlpips.json states."""
    raw = np.random.PCG64(seed).random_raw

    def uniform(height: int, width: int) -> np.ndarray:
        return (raw(3 * height * width) >> 11).astype(np.float64).reshape(1, 3, height, width) / 2**53

    coarse = uniform(-(-height // 8), -(-width // 8)).repeat(8, 2).repeat(8, 3)[:, :, :height, :width]
    return torch.from_numpy(2 * (0.75 * coarse + 0.25 * uniform(height, width)) - 1)


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: f"{case['height']}x{case['width']}")
def test_agrees_with_the_package(stlpips: STLPIPS, case: dict[str, float]) -> None:
    seed, size = int(case["seed"]), (int(case["height"]), int(case["width"]))
    x = picture(seed, *size).float().requires_grad_()
    y = picture(100 + seed, *size).float()
    z = (picture(seed, *size) + picture(200 + seed, *size) / 8).clamp(-1, 1).float()

    far = stlpips(x, y)
    far.sum().backward()

    assert far.item() == pytest.approx(case["far"], rel=1e-5)
    assert stlpips(x, z).item() == pytest.approx(case["near"], rel=1e-5)
    assert x.grad is not None
    assert (x.grad * picture(300 + seed, *size)).sum().item() == pytest.approx(case["gradient"], rel=1e-4)


def test_equal_pictures_have_distance_zero_and_finite_gradient(stlpips: STLPIPS) -> None:
    x = torch.cat((picture(0, 64, 64), torch.zeros(1, 3, 64, 64))).float().requires_grad_()
    distance = stlpips(x, x.detach().clone())
    distance.sum().backward()
    assert distance.tolist() == [0.0, 0.0]
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_known_target_batch_layout_and_autocast_change_nothing_that_matters(stlpips: STLPIPS) -> None:
    x = torch.cat([picture(seed, 64, 64) for seed in (0, 1)]).float()
    y = torch.cat([picture(seed, 64, 64) for seed in (10, 11)]).float()
    expected = torch.cat([stlpips(x[:1], y[:1]), stlpips(x[1:], y[1:])])
    target = stlpips.features(y.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(stlpips.distance(stlpips.features(x), target), expected, rtol=1e-5, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        reduced = stlpips(x, y)
    assert reduced.dtype == torch.float32
    torch.testing.assert_close(reduced, expected, rtol=0.02, atol=0)


def test_is_frozen_and_leaves_no_trace_in_a_checkpoint(stlpips: STLPIPS) -> None:
    assert not stlpips.training
    assert list(stlpips.parameters()) == []
    assert stlpips.state_dict() == {}


def test_wrong_files_are_refused_by_name(tmp_path: Path, assets: Path) -> None:
    with pytest.raises(Refusal, match=r"absent\.pth"):
        STLPIPS.load(tmp_path / "absent.pth")

    (tmp_path / "page.pth").write_text("<html>Quota exceeded</html>")
    with pytest.raises(Refusal, match=r"page\.pth is a web page"):
        STLPIPS.load(tmp_path / "page.pth")

    whole = assets / "stlpips" / "alex_shift_tolerant.pth"
    weights = torch.load(whole, map_location="cpu", weights_only=True)
    torch.save({name: weights[name] for name in weights if name != "net.slice2.5.bias"}, tmp_path / "part.pth")
    with pytest.raises(Refusal, match=r"net\.slice2\.5\.bias is missing"):
        STLPIPS.load(tmp_path / "part.pth")

    torch.save(weights | {"lin4.model.1.weight": torch.zeros(1, 512, 1, 1)}, tmp_path / "other.pth")
    with pytest.raises(Refusal, match=r"lin4\.model\.1\.weight has shape \(1, 512, 1, 1\)"):
        STLPIPS.load(tmp_path / "other.pth")


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 1, 64, 64), (1, 3, 16, 64)])
def test_other_shapes_are_refused(stlpips: STLPIPS, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="ST-LPIPS takes"):
        stlpips.features(torch.zeros(shape))
