"""Every metric against its closed form, its reference library, and the habits that all share."""

from __future__ import annotations

import json
import math
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pytorch_fid.fid_score import calculate_frechet_distance
from pytorch_fid.inception import InceptionV3, _inception_v3
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio as torchmetrics_psnr
from torchmetrics.functional.image import structural_similarity_index_measure as torchmetrics_ssim
from torchmetrics.image.fid import _compute_fid

from eval.metrics.distribution import (
    FID,
    FDEffNet,
    GaussianSums,
    PairedFeatures,
    frechet_distance,
    frechet_distance_of_samples,
    resampled_by_gram,
    resampled_directly,
    subset_sizes,
)
from eval.metrics.efficientnet_lite0 import EfficientNetLite0
from eval.metrics.hub_cache import cached_weights
from eval.metrics.identity import FaceDescriptor, Identity, MeanDescriptor, mean_descriptor
from eval.metrics.metric import Column, Outcome
from eval.metrics.perceptual import LPIPSDistance, read_trunk
from eval.metrics.pixel import MSE, PSNR, SSIM, mse, psnr, ssim
from eval.metrics.suite import Suite, build_suite
from fse.refusal import Refusal

SIGNED, UNIT = (-1.0, 1.0), (0.0, 1.0)
ZERO_MEAN = MeanDescriptor(np.zeros(128), count=1)


def tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) 8-bit -> (1, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def noisy(pictures: Tensor, sigma: float, seed: int = 0) -> Tensor:
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(seed))
    return (pictures + sigma * noise).clamp(-1, 1)


@pytest.fixture(scope="module")
def astronaut() -> Tensor:
    return tensor(data.astronaut()[:256, 96:352])


@pytest.fixture(scope="module")
def faces(assets: Path) -> FaceDescriptor:
    return FaceDescriptor(assets / "dlib")


@pytest.fixture(scope="module")
def efficientnet(assets: Path) -> EfficientNetLite0:
    path = assets / "efficientnet_lite0" / "efficientnet-lite0-57934424.pth"
    return EfficientNetLite0.load(path).to(memory_format=torch.channels_last)


# Pixels


def test_identity_is_perfect(astronaut: Tensor) -> None:
    assert ssim(astronaut, astronaut, value_range=SIGNED).item() == pytest.approx(1, abs=1e-12)
    assert psnr(astronaut, astronaut, value_range=SIGNED).item() == math.inf
    assert mse(astronaut, astronaut, value_range=SIGNED).item() == 0


@settings(max_examples=30, deadline=None)
@given(level=st.floats(0, 0.5), offset=st.floats(1e-3, 0.5))
def test_constant_offset_has_closed_form(level: float, offset: float) -> None:
    x = torch.full((1, 3, 11, 11), level, dtype=torch.float64)
    y = x + offset
    assert psnr(x, y, value_range=UNIT).item() == pytest.approx(-20 * math.log10(offset), rel=1e-9)
    assert mse(x, y, value_range=UNIT).item() == pytest.approx(4 * offset**2, rel=1e-9)
    a, b = level, level + offset
    expected = (2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4)  # constant pictures: luminance alone
    assert ssim(x, y, value_range=UNIT).item() == pytest.approx(expected, rel=1e-9)


def test_numbers_do_not_depend_on_the_stated_range(astronaut: Tensor) -> None:
    x, y = astronaut.double(), noisy(astronaut.double(), 0.1)
    for measure in (ssim, psnr, mse):
        signed = measure(x, y, value_range=SIGNED)
        torch.testing.assert_close(measure((x + 1) / 2, (y + 1) / 2, value_range=UNIT), signed, rtol=1e-9, atol=0)
        torch.testing.assert_close(measure(x + 7, y + 7, value_range=(6.0, 8.0)), signed, rtol=1e-9, atol=0)
    plain_on_unit_range = ((x - y) / 2).square().mean().item()
    assert mse(x, y, value_range=SIGNED).item() == pytest.approx(4 * plain_on_unit_range, rel=1e-12)


@pytest.mark.parametrize("size", [(256, 256), (11, 11), (37, 64)])
def test_agree_with_scikit_image_and_torchmetrics(astronaut: Tensor, size: tuple[int, int]) -> None:
    x = (astronaut[:, :, : size[0], : size[1]].double() + 1) / 2
    y = (noisy(2 * x - 1, 0.15) + 1) / 2
    found = ssim(x, y, value_range=UNIT).item(), psnr(x, y, value_range=UNIT).item()
    a, b = (each[0].permute(1, 2, 0).numpy() for each in (x, y))
    by_skimage = structural_similarity(
        a, b, data_range=1.0, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert found == pytest.approx((by_skimage, peak_signal_noise_ratio(a, b, data_range=1.0)), rel=1e-9)
    _, similarity = torchmetrics_ssim(x, y, data_range=1.0, return_full_image=True)
    inside = similarity[:, :, 5:-5, 5:-5].mean()  # its own mean takes in the windows over the padded border
    by_torchmetrics = inside.item(), torchmetrics_psnr(x, y, data_range=1.0).item()
    assert found == pytest.approx(by_torchmetrics, rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(1e-3, 0.9), min_size=2, max_size=8))
def test_mean_psnr_is_at_least_the_psnr_of_the_mean_mse(offsets: list[float]) -> None:
    """PSNR is -10 log10 of the error, a convex function, so Jensen's inequality points this way."""
    x = torch.zeros(len(offsets), 3, 4, 4, dtype=torch.float64)
    y = x + torch.tensor(offsets, dtype=torch.float64)[:, None, None, None]
    of_mean = -10 * math.log10(mse(x, y, value_range=UNIT).mean().item() / 4)
    assert psnr(x, y, value_range=UNIT).mean().item() >= of_mean - 1e-9


@pytest.mark.parametrize("measure", [ssim, psnr, mse])
def test_values_outside_the_stated_range_are_refused(measure: object) -> None:
    assert callable(measure)
    x = torch.zeros(1, 3, 16, 16)
    for wrong in (x - 0.1, x + 1.1, x * math.nan):
        with pytest.raises(ValueError, match=r"stated was \[0, 1\]"):
            measure(torch.zeros(1, 3, 16, 16), wrong, value_range=UNIT)
    with pytest.raises(ValueError, match="one shape"):
        measure(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 15), value_range=UNIT)
    with pytest.raises(TypeError):
        measure(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16))


# Every picture metric together


def test_growing_noise_is_worse_by_every_picture_metric(assets: Path, astronaut: Tensor, tmp_path: Path) -> None:
    ZERO_MEAN.write(tmp_path / "mean.json")
    suite = build_suite(assets, tmp_path / "mean.json")
    levels = {f"noise {sigma}": noisy(astronaut, sigma) for sigma in (0.0, 0.02, 0.05, 0.1, 0.2)}
    suite.update(["astronaut"], astronaut, levels)
    measurements = suite.compute()

    values = measurements.pictures.set_index("method")
    for metric in suite.metrics[:-2]:
        steps = np.diff(values[metric.key].astype(float))
        if metric.key == "id_same":
            assert values["id_same"].all()
        else:
            assert (steps < 0).all() if metric.higher_is_better else (steps > 0).all(), metric.label
        low, high = metric.range
        assert values[metric.key].between(low, high).all()
    perfect = values.loc["noise 0.0"]
    assert perfect["psnr"] == math.inf
    assert (perfect["mse"], perfect["st_lpips"]) == (0, 0)
    assert (perfect["ssim"], perfect["id"]) == pytest.approx((1, 1), abs=1e-9)

    distance = measurements.summary()["noise 0.1"]["fd_effnet"]
    assert distance["mean"] is None
    assert distance["reason"] == "not computed: 1 pictures, at least 32 needed"
    assert measurements.summary()["noise 0.1"]["fd_effnet_inf"]["mean"] is None


# Perceptual, where weights are on the machine


def test_lpips_is_the_packages(tmp_path: Path, astronaut: Tensor) -> None:
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="deprecated"):
        reference = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    names = {name: f"features.{name.split('.', 1)[1]}" for name in reference.net.state_dict()}
    torch.save({names[name]: value for name, value in reference.net.state_dict().items()}, tmp_path / "trunk.pth")

    metric = LPIPSDistance(read_trunk(tmp_path / "trunk.pth"))
    found = metric.compare(metric.features(astronaut), noisy(astronaut, 0.1))
    assert found.values["lpips"] == [reference(astronaut, noisy(astronaut, 0.1)).item()]


def test_weights_are_used_from_the_hub_cache_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert (LPIPSDistance.cached(), FID.cached()) == (None, None)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth").write_bytes(b"cut short")  # sha256 ed13456c...
    with pytest.raises(Refusal, match=r"alexnet-owt-7be5be79\.pth is damaged"):
        LPIPSDistance.cached()
    assert cached_weights("alexnet-owt-7be5be79.pth", "ed13456c") is not None


def test_fid_features_are_pytorch_fids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, astronaut: Tensor) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    weights = _inception_v3(num_classes=1008, aux_logits=False, weights=None).state_dict()
    torch.save(weights, tmp_path / "hub" / "checkpoints" / "pt_inception-2015-12-05-6726825d.pth")
    network = InceptionV3().eval()  # random weights: its own resizing and scaling are what is compared
    features = FID(network).features(astronaut)
    assert features.shape == (1, 2048)
    torch.testing.assert_close(features, network((astronaut + 1) / 2)[0][:, :, 0, 0])


# Identity


def test_identity_of_the_same_and_of_other_people(assets: Path, faces: FaceDescriptor, astronaut: Tensor) -> None:
    group = np.asarray(Image.open(assets / "photographs" / "t1.jpg").convert("RGB"))
    people = torch.cat((tensor(group[30:230, 835:1035]), tensor(group[320:520, 678:878])))
    one, other = faces(people)
    assert one is not None
    assert other is not None

    mean = mean_descriptor([people, astronaut, torch.zeros(1, 3, 64, 64)], faces)
    assert (mean.count, mean.failed) == (3, 1)
    metric = Identity(faces, mean)
    pairs = metric.compare(metric.features(torch.cat((people, people))), torch.cat((people, people.flip(0))))
    assert pairs.failures == {}
    assert pairs.values["id_same"] == [1, 1, 0, 0]
    assert pairs.values["id"][:2] == pytest.approx([1, 1], abs=1e-6)
    assert max(pairs.values["id"][2:]) < 0
    raw = Identity(faces, ZERO_MEAN)
    assert min(raw.compare(raw.features(people), people.flip(0)).values["id"]) > 0.7  # why a mean is subtracted


def test_no_face_is_a_counted_failure(faces: FaceDescriptor, astronaut: Tensor) -> None:
    metric, blank = Identity(faces, ZERO_MEAN), torch.zeros_like(astronaut)
    suite = Suite([metric])
    suite.update(["a", "b"], torch.cat((astronaut, blank)), {"fse": torch.cat((blank, astronaut))})
    suite.update(["c"], astronaut, {"fse": astronaut})
    measurements = suite.compute()
    assert measurements.pictures["status"].tolist() == [
        "id: no face found in the reconstruction",
        "id: no face found in the source",
        "ok",
    ]
    cells = measurements.summary()["fse"]
    assert (cells["id"]["expected"], cells["id"]["used"], cells["id"]["failed"]) == (3, 1, 2)
    assert cells["id"]["mean"] == pytest.approx(1)
    assert (cells["id_same"]["mean"], cells["id_same"]["used"]) == (1, 1)


def test_mean_descriptor_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mean.json"
    written = MeanDescriptor(np.random.default_rng(0).normal(size=128), count=256, failed=2)
    written.write(path, {"seed": 7})
    read = MeanDescriptor.read(path)
    assert (read.values.tolist(), read.count, read.failed) == (written.values.tolist(), 256, 2)
    assert json.loads(path.read_text())["provenance"] == {"seed": 7}
    for wrong in ("", "{}", json.dumps({"values": [1.0], "count": 1, "failed": 0})):
        path.write_text(wrong)
        with pytest.raises(Refusal, match=r"mean\.json"):
            MeanDescriptor.read(path)


def test_wrong_dlib_models_are_refused(tmp_path: Path, assets: Path) -> None:
    with pytest.raises(Refusal, match="there is no dlib model"):
        FaceDescriptor(tmp_path)
    (tmp_path / "shape_predictor_68_face_landmarks.dat").write_bytes(b"not a model")
    with pytest.raises(Refusal, match=r"landmarks\.dat is no shape_predictor"):
        FaceDescriptor(tmp_path)


# Distributions


def test_frechet_distance_of_gaussians_has_closed_form() -> None:
    rng = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(rng.normal(size=(40, 40)))
    mean1, mean2 = rng.normal(size=(2, 40))
    variance1, variance2 = rng.uniform(0, 3, size=(2, 40))
    variance1[:5] = 0  # singular
    covariances = [rotation @ np.diag(each) @ rotation.T for each in (variance1, variance2)]
    expected = np.square(mean1 - mean2).sum() + np.square(np.sqrt(variance1) - np.sqrt(variance2)).sum()
    found = frechet_distance(mean1, covariances[0], mean2, covariances[1])
    assert found == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(mean1, covariances[0], mean1, covariances[0]) == pytest.approx(0, abs=1e-9)


def test_agrees_with_pytorch_fid_and_torchmetrics() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 400, 64)) @ rng.normal(size=(64, 64))
    y = y + 0.3
    statistics = (x.mean(0), np.cov(x, rowvar=False), y.mean(0), np.cov(y, rowvar=False))
    found = frechet_distance(*statistics)
    assert found == pytest.approx(calculate_frechet_distance(*statistics), rel=1e-6)
    assert found == pytest.approx(_compute_fid(*map(torch.from_numpy, statistics)).item(), rel=1e-6)
    assert frechet_distance_of_samples(x, y) == pytest.approx(found, rel=1e-9)


@pytest.mark.parametrize("pictures", [40, 150])
def test_streamed_sums_short_cut_and_resampling_agree(pictures: int) -> None:
    """With fewer pictures than the 100 features, and with more."""
    rng = np.random.default_rng(0)
    x = 5 + rng.normal(size=(pictures, 100)) / np.arange(1, 101)
    y = x + rng.normal(size=(pictures, 100)) / 10
    pairs = np.stack((x, y), 1).astype(np.float32)
    x, y = pairs.astype(np.float64).swapaxes(0, 1)
    features = PairedFeatures(100)
    for start in range(0, pictures, 16):
        features.update(*(torch.from_numpy(pairs[start : start + 16, side]) for side in (0, 1)))
    np.testing.assert_allclose(features.sources.covariance, np.cov(x, rowvar=False), rtol=0, atol=1e-12)
    distance = features.distance()
    assert distance == pytest.approx(frechet_distance_of_samples(x, y), rel=1e-6)

    counts = rng.multinomial(pictures, np.full(pictures, 1 / pictures))
    drawn = [np.repeat(each, counts, axis=0) for each in (x, y)]
    expected = frechet_distance_of_samples(*drawn)
    assert resampled_by_gram(pairs)(counts) == pytest.approx(expected, rel=1e-6)
    assert resampled_directly(pairs, chunk=32)(counts) == pytest.approx(expected, rel=1e-6)

    low, high = features.interval(distance, resamples=50)
    assert 0 < low < distance < high
    assert (low, high) == features.interval(distance, resamples=50)


def test_interval_covers_the_expected_distance_at_this_number_of_pictures() -> None:
    rng = np.random.default_rng(0)

    def draw() -> PairedFeatures:
        x = rng.normal(size=(48, 80))
        features = PairedFeatures(80)
        features.update(*(torch.from_numpy(each) for each in (x, 0.9 * x + 0.3 * rng.normal(size=x.shape))))
        return features

    expected = np.mean([draw().distance() for _ in range(100)])
    covered = 0
    for _ in range(20):
        features = draw()
        low, high = features.interval(features.distance(), resamples=100)
        covered += low <= expected <= high
    assert covered >= 16


@pytest.mark.parametrize("related", [False, True])
def test_extrapolation_is_nearer_to_the_known_distance(related: bool) -> None:
    """Of Gaussians with 40 dimensions; related pairs, as of a picture and its reconstruction, or independent ones."""
    rng = np.random.default_rng(1)
    deviations = 1 / np.sqrt(np.arange(1, 41))
    known = np.square(0.3 * deviations).sum() + np.square((1 - math.sqrt(0.73)) * deviations).sum()
    errors = []
    for _ in range(6):
        x, noise = rng.normal(size=(2, 128, 40)) * deviations
        other = x if related else rng.normal(size=x.shape) * deviations
        features = PairedFeatures(40)
        features.update(torch.from_numpy(x), torch.from_numpy(0.8 * other + 0.3 * noise + 0.3 * deviations))
        distance = features.distance()
        extrapolated = features.extrapolated(distance)
        assert extrapolated is not None
        assert extrapolated == features.extrapolated(distance)
        errors.append((distance - known, extrapolated - known))
    plain, better = np.array(errors).T
    assert plain.mean() > 0.05 * known  # the bias is there
    assert abs(better.mean()) < plain.mean() / 2
    assert np.sqrt(np.square(better).mean()) < np.sqrt(np.square(plain).mean())


def test_extrapolation_states_its_numbers_of_pictures_and_needs_enough() -> None:
    assert subset_sizes(63) == []
    assert (subset_sizes(64)[0], subset_sizes(64)[-1]) == (32, 64)
    assert subset_sizes(256) == [128, 138, 149, 163, 179, 199, 224, 256]
    features = PairedFeatures(8)
    features.update(torch.rand(63, 8), torch.rand(63, 8))
    assert features.extrapolated(features.distance()) is None
    same = torch.rand(70, 8)
    features = PairedFeatures(8)
    features.update(same, same)
    assert features.extrapolated(features.distance()) == pytest.approx(0, abs=1e-6)


def test_sums_do_not_grow_with_the_pictures() -> None:
    sums = GaussianSums(64)
    before = sums.total.nbytes + sums.outer.nbytes
    for _ in range(100):
        sums.update(np.ones((8, 64)))
    assert (sums.count, sums.total.nbytes + sums.outer.nbytes) == (800, before)


def test_efficientnet_sees_a_cat(efficientnet: EfficientNetLite0) -> None:
    cat = tensor(data.chelsea()[17:-18, 84:-84][..., :3])
    probabilities = efficientnet(cat).softmax(1)[0]
    assert probabilities[281:286].sum() > 0.8  # ImageNet's five domestic cats
    assert probabilities.argmax() in range(281, 286)


def test_fd_effnet_grows_with_noise_and_is_zero_of_equal_sets(
    efficientnet: EfficientNetLite0, astronaut: Tensor
) -> None:
    """Through the suite: 33 cuts of a picture, one of which a method could not invert."""
    corners = np.random.default_rng(0).integers(0, 96, size=(33, 2)).tolist()
    cuts = torch.cat([astronaut[:, :, row : row + 160, column : column + 160] for row, column in corners])
    names = [f"{index:05d}" for index in range(33)]
    methods = {"same": cuts, "little": noisy(cuts, 0.1), "much": noisy(cuts, 0.4)}
    suite = Suite([MSE()], [FDEffNet(efficientnet)])
    for part in (slice(0, 16), slice(16, 32)):
        suite.update(names[part], cuts[part], {method: found[part] for method, found in methods.items()})
    suite.update(names[32:], cuts[32:], {method: methods[method][32:] for method in ("same", "much")})
    suite.fail(names[32], "little", "cannot be read")

    cells = {method: found["fd_effnet"] for method, found in suite.compute().summary().items()}
    same, little, much = (cells[method] for method in methods)
    assert same["mean"] == pytest.approx(0, abs=1e-6)
    distances = np.array([[each["low"], each["mean"], each["high"]] for each in (little, much)], dtype=float)
    assert (np.diff(distances) > 0).all()
    assert 1e-3 < distances[0, 1] < distances[1, 1]
    assert (little["expected"], little["used"], little["failed"]) == (33, 32, 1)
    assert (much["expected"], much["used"], much["failed"]) == (33, 33, 0)


# The suite


class Counting:
    """A metric of a user's own; counts how often the source is looked at."""

    key, label, higher_is_better, unit, range = "mean", "mean", False, "", (-1.0, 1.0)
    companions: tuple[Column, ...] = ()
    sources = 0

    def features(self, pictures: Tensor) -> Tensor:
        self.sources += len(pictures)
        return pictures

    def compare(self, source: Tensor, reconstructions: Tensor) -> Outcome:
        return Outcome({"mean": (reconstructions - source).mean((1, 2, 3)).tolist()})


def test_suite_looks_at_each_source_once_and_keeps_rows_apart(astronaut: Tensor) -> None:
    counting = Counting()
    suite = Suite([SSIM(), PSNR(), counting])
    pictures = torch.cat([noisy(astronaut, 0.1, seed)[:, :, :32, :32] for seed in range(4)]) / 2
    for batch in (slice(0, 3), slice(3, 4)):
        methods = {"brighter": pictures[batch] + 0.25, "copy": pictures[batch]}
        suite.update(["a", "b", "c", "d"][batch], pictures[batch], methods)
    suite.fail("e", "copy", "out of memory")
    assert counting.sources == 4
    assert [metric.key for metric in suite.metrics] == ["ssim", "psnr", "mean"]

    measurements = suite.compute()
    table = measurements.pictures.set_index(["picture", "method"])
    assert table.columns.tolist() == ["ssim", "psnr", "mean", "status"]
    assert len(table) == 10
    assert table.loc[("d", "brighter"), "mean"] == pytest.approx(0.25, abs=1e-6)
    assert table.loc[("d", "brighter"), "psnr"] == pytest.approx(-20 * math.log10(0.125), rel=1e-6)
    assert table.loc[("e", "copy"), "status"] == "out of memory"
    assert table.loc[("e", "brighter"), "status"] == "no reconstruction was given"

    summary = measurements.summary()
    assert summary["copy"]["psnr"]["mean"] == math.inf
    expected = {"expected": 5, "used": 4, "failed": 1}
    assert expected.items() <= summary["brighter"]["ssim"].items()
    assert summary["brighter"]["mean"]["low"] == pytest.approx(0.25, abs=1e-6)


def test_what_is_left_out_is_no_failure(astronaut: Tensor) -> None:
    suite = Suite([MSE()])
    suite.update(["a"], astronaut, {"fse": astronaut, "wplus": astronaut})
    suite.update(["b"], astronaut, {"fse": astronaut})
    suite.leave_out("b", "wplus")
    measurements = suite.compute()
    assert len(measurements.pictures) == 3
    cells = {method: found["mse"] for method, found in measurements.summary().items()}
    assert {m: (c["expected"], c["used"], c["failed"]) for m, c in cells.items()} == {
        "fse": (2, 2, 0),
        "wplus": (1, 1, 0),
    }


def test_suite_refuses_what_cannot_be_paired(astronaut: Tensor) -> None:
    suite = Suite([MSE()])
    with pytest.raises(ValueError, match=r"fse: values are in .*stated was \[-1, 1\]"):
        suite.update(["a"], astronaut, {"fse": astronaut * 1.5})
    with pytest.raises(ValueError, match="fse: shape"):
        suite.update(["a"], astronaut, {"fse": astronaut[:, :, :128, :128]})
    with pytest.raises(ValueError, match="2 names"):
        suite.update(["a", "b"], astronaut, {"fse": astronaut})
    suite.update(["a"], astronaut, {"fse": astronaut})
    with pytest.raises(ValueError, match="twice"):
        suite.update(["a"], astronaut, {"fse": astronaut})
    with pytest.raises(ValueError, match="twice"):
        suite.fail("a", "fse", "late")
    assert len(suite.compute().pictures) == 1


def test_a_method_without_any_value_has_a_reason_in_place_of_a_mean(astronaut: Tensor) -> None:
    suite = Suite([MSE()])
    suite.update(["a"], astronaut, {"fse": astronaut})
    suite.fail("a", "psp", "its weights are absent")
    cell = suite.compute().summary()["psp"]["mse"]
    assert (cell["mean"], cell["expected"], cell["used"], cell["failed"]) == (None, 1, 0, 1)
    assert cell["reason"] == "not computed: none of 1 pictures has a value"
