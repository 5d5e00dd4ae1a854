"""The paper's metrics from official files: readers, detector, identities, distances, sizes, processes, noise."""

from __future__ import annotations

import functools
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pytorch_fid import inception as pytorch_fid
from pytorch_fid.fid_score import calculate_frechet_distance
from skimage import data
from skimage.metrics import structural_similarity
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, unfold
from torchmetrics.image.kid import poly_kernel, poly_mmd
from torchvision.ops import nms

from eval import measurement
from eval.datasets.dataset import DataSet, Picture
from eval.datasets.tree import open_tree
from eval.measurement import Parts, measure, measure_ahead
from eval.metrics.arcface import ArcFaceIdentity
from eval.metrics.at_size import DistributionAtSize, PictureAtSize, Size, resized
from eval.metrics.curricularface import CurricularFace
from eval.metrics.distribution import (
    FID,
    Gaussian,
    GaussianSums,
    ReferenceSet,
    frechet_distance,
    frechet_distance_of_samples,
)
from eval.metrics.identity import pixels_of
from eval.metrics.inception import FIDInception
from eval.metrics.kernel_distance import kernel_distance
from eval.metrics.metric import Outcome
from eval.metrics.mtcnn import (
    CROP,
    MTCNN,
    TEMPLATE,
    OutputNet,
    ProposalNet,
    RefinementNet,
    similarity,
    suppressed,
    warp_to_template,
)
from eval.metrics.paper_suite import PRINTED, REFERENCES, paper_suite
from eval.metrics.pixel import MSE, PSNR, SSIM
from eval.metrics.reference_set import SetFeatures, set_features
from eval.metrics.source_features import SourceFeatures
from eval.metrics.ssim_variants import ms_ssim, uniform_ssim
from eval.metrics.suite import Suite
from eval.noise_spread import noise_spread, spread_table
from fse.checkpoints.numpy_file import read_numpy_dictionary
from fse.face_recognition import FaceRecognitionSize, IRFace
from fse.generators.stylegan2 import StyleGAN2, StyleGAN2Size
from fse.inversion import Inversion
from fse.pictures import read_picture, tensor_from_image, write_picture
from fse.refusal import Refusal
from fse.trunk import TrunkSize
from pipelines.rehearsal.buffalo import write_buffalo
from pipelines.rehearsal.mtcnn_arrays import write_mtcnn, write_numpy_dictionary
from tests.small_suite import SmallFID, small_suite

TINY_FACE = FaceRecognitionSize(TrunkSize((8, 16, 24, 32), (1, 1, 1, 1), 8, form="ir"), affine=False)


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stand-ins of the metrics' official files, except for Inception's."""
    folder = tmp_path_factory.mktemp("official")
    write_mtcnn(folder)
    write_buffalo(folder / "buffalo_l.zip", folder)
    torch.manual_seed(0)
    face = IRFace(TINY_FACE)
    torch.save(face.state_dict(), folder / "CurricularFace_Backbone.pth")
    shapes = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}
    trunk = {f"features.{i}.weight": torch.randn(shape) / np.prod(shape[1:]) ** 0.5 for i, shape in shapes.items()}
    trunk |= {f"features.{i}.bias": torch.zeros(shape[0]) for i, shape in shapes.items()}
    torch.save(trunk, folder / "alexnet-owt-7be5be79.pth")
    return folder


FILES = {
    "curricularface": "CurricularFace_Backbone.pth",
    "alexnet": "alexnet-owt-7be5be79.pth",
    "inception_fid": "pt_inception-2015-12-05-6726825d.pth",
}


def located(folder: Path, asset: str, name: str | None = None) -> Path:
    path = folder / (name or FILES[asset])
    if not path.is_file():
        raise Refusal(f"the official asset {asset} is missing; run `fetch {asset}`")
    return path


@pytest.fixture(scope="module")
def face() -> Tensor:
    """(1, 3, 256, 256), of 8 bits."""
    return tensor_from_image(Image.fromarray(data.astronaut()[:256, 96:352]))[None]


def noisy(pictures: Tensor, sigma: float, seed: int = 0) -> Tensor:
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(seed))
    return (((pictures + sigma * noise).clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


# Arrays that NumPy has pickled


@pytest.mark.parametrize("form", ["Python 3, NumPy 1", "now"])
def test_a_dictionary_of_arrays_is_read_without_unpickling(tmp_path: Path, form: str) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "conv.weight": rng.normal(size=(3, 4, 2)).astype("f4"),
        "bias": np.asfortranarray(rng.normal(size=(3, 2))),
    }
    path = tmp_path / "net.npy"
    if form == "now":
        np.save(path, np.array(arrays, dtype=object), allow_pickle=True)
    else:
        write_numpy_dictionary(arrays, path)
    found = read_numpy_dictionary(path, "")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name].numpy(), array.astype("f4"))


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return (eval, ("__import__('pathlib').Path('ran').write_text('')",))


def test_what_is_no_dictionary_of_arrays_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "net.npy"
    good = tmp_path / "good.npy"
    np.save(good, np.array({"a": np.ones(50, "f4")}, dtype=object), allow_pickle=True)
    content = good.read_bytes()
    faults: dict[str, tuple[bytes | Any, str]] = {
        "code": ({"a": Runs()}, "builtins.eval"),
        "code alone": (Runs(), "builtins.eval"),
        "cut short": (content[:-40], "damaged or cut short"),
        "an array": (np.ones(3), "holds one array"),
        "objects": ({"a": "text"}, "no array of numbers"),
        "integers": ({"a": np.arange(3)}, "no array of floating-point numbers"),
        "a list": (["a"], "no dictionary"),
        "not NumPy's": (b"PK\x03\x04" * 20, "no array of NumPy"),
        "a wrong size": (content.replace(b"K2\x85", b"K3\x85"), "damaged: its size"),
    }
    for name, (value, message) in faults.items():
        if isinstance(value, bytes):
            path.write_bytes(value)
        elif isinstance(value, np.ndarray):
            np.save(path, value)
        else:
            holder = np.empty((), dtype=object)
            holder[()] = value
            np.save(path, holder, allow_pickle=True)
        with pytest.raises(Refusal, match=message):
            pytest.fail(f"{name} was read: {read_numpy_dictionary(path, '')}")
    assert not (tmp_path / "ran").exists()
    with pytest.raises(Refusal, match="no weights file"):
        read_numpy_dictionary(tmp_path / "absent.npy", "")
    assert pickle.dumps(Runs())  # the trap is one


# MTCNN


@torch.no_grad()
def test_proposals_are_those_of_every_window() -> None:
    """P-Net's map is the network applied to each window of 12 px, two pixels apart."""
    torch.manual_seed(0)
    network, picture = ProposalNet(), torch.randn(1, 3, 30, 36)
    logits, offsets = network(picture)
    assert logits.shape == (1, 2, 10, 13)
    for row, column in ((0, 0), (3, 7), (9, 12)):
        window = picture[:, :, 2 * row : 2 * row + 12, 2 * column : 2 * column + 12]
        for found, alone in zip((logits, offsets), network(window), strict=True):
            torch.testing.assert_close(found[:, :, row, column], alone[:, :, 0, 0], atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(("kind", "side", "name"), [(RefinementNet, 24, "conv4"), (OutputNet, 48, "conv5")])
def test_maps_are_flattened_column_by_column(kind: type[nn.Module], side: int, name: str) -> None:
    """As in Caffe: of (channel, row, column) the row runs fastest."""
    torch.manual_seed(0)
    features = kind().get_submodule("features")
    assert isinstance(features, nn.Sequential)
    x = torch.randn(2, 3, side, side)
    for layer_name, layer in features.named_children():
        if layer_name == "flatten":
            maps = x
        x = layer(x)
        if layer_name == "flatten":
            break
    assert maps.shape[2:] == (3, 3)
    assert features.get_submodule(name).in_features == maps[0].numel()
    for channel, row, column in ((0, 0, 1), (5, 2, 0), (maps.shape[1] - 1, 1, 2)):
        torch.testing.assert_close(x[:, channel * 9 + column * 3 + row], maps[:, channel, row, column])


def test_suppression_is_torchvisions() -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 60, (200, 2))
    boxes = np.column_stack((corner, corner + rng.uniform(5, 40, (200, 2)), rng.permutation(200) / 200))
    past = torch.from_numpy(boxes[:, :4] + (0, 0, 1, 1))  # there the right and lower edges are outside
    assert suppressed(boxes, 0.4) == nms(past, torch.from_numpy(boxes[:, 4]), 0.4).tolist()
    inside = np.array([[0.0, 0, 99, 99, 0.9], [10, 10, 19, 19, 0.8]])
    assert (suppressed(inside, 0.4), suppressed(inside, 0.4, of_the_smaller=True)) == ([0, 1], [0])


def test_a_face_is_brought_to_the_template() -> None:
    angle, scale, shift = 0.4, 3.5, np.array([40.0, 90])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks = TEMPLATE @ turn.T + shift
    found = similarity(landmarks, TEMPLATE)
    np.testing.assert_allclose(found[:, :2], np.linalg.inv(turn), atol=1e-6)
    np.testing.assert_allclose(landmarks @ found[:, :2].T + found[:, 2], TEMPLATE, atol=1e-3)

    pixels = np.zeros((600, 600, 3), dtype=np.uint8)
    for x, y in landmarks.round().astype(int):
        pixels[y - 4 : y + 5, x - 4 : x + 5] = 255
    crop = warp_to_template(pixels, landmarks)
    assert crop.shape == (CROP, CROP, 3)
    assert all(crop[y, x, 0] > 200 for x, y in TEMPLATE.round().astype(int))

    profile = (TEMPLATE - 56) * (0.3, 1) + 56  # landmarks close together: the script's crop is mirrored
    assert np.linalg.det(similarity(profile, TEMPLATE)[:, :2]) < 0 < np.linalg.det(found[:, :2])


def test_the_first_face_is_cut_out_by_its_landmarks(official: Path, face: Tensor) -> None:
    detector = MTCNN.load({name: official / f"{name}.npy" for name in ("pnet", "rnet", "onet")})
    pixels = pixels_of(face)[0]
    boxes, landmarks = detector.detect(pixels)
    assert (np.diff(boxes[:, 4]) <= 0).all()
    np.testing.assert_array_equal(detector.crop(pixels), warp_to_template(pixels, landmarks[0]))
    assert len(detector.detect(pixels[:, :90])[0]) > 0  # the stand-in looks at maps that are not wide
    assert len(detector.detect(pixels[:90])[0]) == 0
    assert detector.crop(pixels[:19, :19]) is None  # smaller than the smallest face
    detector.onet.conv6_1.bias[1] = -9.0
    assert detector.crop(pixels) is None
    detector.rnet.conv5_1.bias[1] = -9.0
    assert detector.crop(pixels) is None
    detector.pnet.conv4_2.bias[:] = 1e4  # boxes of no sensible size: those of weights that are no detector's
    assert detector.crop(pixels) is None


def test_arrays_of_another_network_are_refused(official: Path) -> None:
    files = {name: official / f"{name}.npy" for name in ("pnet", "rnet", "onet")}
    with pytest.raises(Refusal, match=r"pnet\.npy: the parameter features\.conv1\.weight has shape"):
        MTCNN.load({**files, "rnet": files["pnet"]})


# Identity


def test_identity_by_curricularface(official: Path, face: Tensor) -> None:
    mtcnn = {name: official / f"{name}.npy" for name in ("pnet", "rnet", "onet")}
    metric = CurricularFace.load(official / "CurricularFace_Backbone.pth", mtcnn)
    pictures = torch.cat((face, face.flip(3)))
    source = metric.features(pictures)
    crop = metric.detector.crop(pixels_of(face)[0])
    assert crop is not None
    assert source[0] is not None
    expected = metric.network(tensor_from_image(Image.fromarray(crop))[None])[0]
    torch.testing.assert_close(source[0], expected, atol=1e-5, rtol=1e-4)
    outcome = metric.compare(source, pictures)
    assert outcome.values["id_curricular"] == pytest.approx([1, 1], abs=1e-6)
    assert metric.compare(source, pictures.flip(0)).values["id_curricular"][0] < 1 - 1e-6

    metric.detector.onet.conv6_1.bias[1] = -9.0
    blind = metric.compare(source, pictures)
    assert blind.failures == dict.fromkeys((0, 1), "no face found in the reconstruction")
    assert np.isnan(blind.values["id_curricular"]).all()
    assert metric.compare([None, None], pictures).failures[0] == "no face found in the source"
    with pytest.raises(Refusal, match=r"output_layer\.3\.weight is missing"):
        CurricularFace.load(official / "alexnet-owt-7be5be79.pth", mtcnn)


def test_identity_by_arcface(official: Path, face: Tensor) -> None:
    metric = ArcFaceIdentity(official / "det_10g.onnx", official / "w600k_r50.onnx")
    pictures = torch.cat((face, face.flip(3)))
    source = metric.features(pictures)
    values = metric.compare(source, pictures).values["id_arcface"]
    assert values == pytest.approx([1, 1], abs=1e-9)
    assert metric.compare(source, pictures.flip(0)).values["id_arcface"][0] < 1 - 1e-6
    for detector, recogniser in (("w600k_r50.onnx",) * 2, ("det_10g.onnx",) * 2, ("pnet.npy", "w600k_r50.onnx")):
        with pytest.raises(Refusal, match="buffalo_l"):
            ArcFaceIdentity(official / detector, official / recogniser)


# Distances


def test_inception_is_pytorch_fids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, face: Tensor) -> None:
    torch.manual_seed(0)
    network = FIDInception()
    for parameter in network.parameters():
        parameter.normal_(0, 0.05)
    tensors = {name: value for name, value in network.layers.state_dict().items() if "tracked" not in name}
    tensors |= {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    torch.save(tensors, tmp_path / "inception.pth")
    official = pytorch_fid._inception_v3(num_classes=1008, aux_logits=False, weights=None)
    counts = {name: value for name, value in official.state_dict().items() if "tracked" in name}
    monkeypatch.setattr(pytorch_fid, "load_state_dict_from_url", lambda *_, **__: {**counts, **tensors})
    metric = FID.load(tmp_path / "inception.pth")
    picture = face[:, :, :200, :150]
    expected = pytorch_fid.InceptionV3().eval()((picture + 1) / 2)[0].flatten(1)
    torch.testing.assert_close(metric.features(picture), expected, rtol=0, atol=0)
    assert expected.std() > 0
    del tensors["Mixed_7c.branch_pool.conv.weight"]
    torch.save(tensors, tmp_path / "inception.pth")
    with pytest.raises(Refusal, match=r"Mixed_7c\.branch_pool\.conv\.weight is missing"):
        FID.load(tmp_path / "inception.pth")


def features_of(n: int, seed: int = 0, shift: float = 0.3) -> NDArray[np.float32]:
    """(n, 2, 24), related as a picture and its reconstruction."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 24))
    return np.stack((x, 0.8 * x + 0.6 * rng.normal(size=x.shape) + shift), 1).astype(np.float32)


@pytest.mark.parametrize("n", [3, 60, 1100])  # the last one is more than two blocks
def test_kernel_distance_is_torchmetrics_without_own_reconstructions(n: int) -> None:
    pairs = features_of(n)
    x, y = torch.from_numpy(pairs).double().unbind(1)
    crossed = poly_kernel(x, y)
    without = (crossed.sum() - crossed.trace()) / (n * (n - 1))
    expected = poly_mmd(x, y) + 2 * (crossed.mean() - without)
    assert kernel_distance(pairs).value == pytest.approx(expected.item(), rel=1e-9)


def test_kernel_distances_interval_is_the_jackknifes() -> None:
    pairs = features_of(40)
    found = kernel_distance(pairs)
    left_out = np.array([kernel_distance(np.delete(pairs, i, 0)).value for i in range(40)])
    error = np.sqrt(39 / 40 * np.square(left_out - left_out.mean()).sum())
    assert (found.low, found.high) == pytest.approx((found.value - 1.96 * error, found.value + 1.96 * error), rel=1e-9)


def test_kernel_distance_does_not_depend_on_the_number_of_pictures() -> None:
    few = np.mean([kernel_distance(features_of(30, seed)).value for seed in range(200)])
    assert few == pytest.approx(kernel_distance(features_of(3000, 999)).value, rel=0.1)


def cuts_of(face: Tensor, count: int, side: int = 64) -> Tensor:
    corners = np.random.default_rng(1).integers(0, 256 - side, size=(count, 2)).tolist()
    return torch.cat([face[:, :, row : row + side, column : column + side] for row, column in corners])


def laid_out(pictures: Tensor, folder: Path) -> DataSet:
    """A set of files, each of a picture."""
    names = [f"{i:02}" for i in range(len(pictures))]
    for picture, name in zip(pictures, names, strict=True):
        write_picture(picture, folder / f"{name}.png")
    files = tuple(Picture(name, f"{name}.png") for name in names)
    return DataSet("set", "FFHQ", len(names), open_tree(folder), files)


def test_fid_to_another_set(tmp_path: Path, face: Tensor) -> None:
    """To the sources themselves it is the plain one, at each size; and it is pytorch-fid's of the two sets."""
    pictures, others = cuts_of(face, 40), noisy(cuts_of(face.flip(3), 60), 0.05)
    sizes: dict[str, Size | None] = {"": None, "_256": (24, 32)}
    references: dict[str, list[ReferenceSet]] = {suffix: [] for suffix in sizes}
    for name, of in (("own", pictures), ("other", others)):
        path = tmp_path / f"{name}.npz"
        dataset = laid_out(of, tmp_path / name)
        set_features(dataset, SmallFID(), sizes, count=50, batch=7).write(path)
        for suffix, found in references.items():
            found.append(SetFeatures.read(path).reference(name, suffix))
    small = SmallFID(references["_256"])
    suite = Suite([MSE()], [SmallFID(references[""]), DistributionAtSize(small, (24, 32), "_256", " 256")])
    made = noisy(pictures, 0.2)
    suite.update(dataset.names[:40], pictures, {"fse": made})
    cells = suite.compute().summary()["fse"]
    labels = {each.key: each.label for each in suite.metrics}
    assert labels["fid_to_own"] == "FID to FFHQ (n = 40)"
    assert labels["fid_to_other_256"] == "FID to FFHQ (n = 50) 256"
    for suffix, size in sizes.items():
        assert cells["fid_to_own" + suffix]["mean"] == pytest.approx(cells["fid" + suffix]["mean"], rel=1e-6)
        features = []
        for each in (others[:50], made):
            taken = each if size is None else resized(each, size)
            features.append(SmallFID().features(taken).double().numpy())
        statistics = [part for x in features for part in (x.mean(0), np.cov(x, rowvar=False))]
        expected = calculate_frechet_distance(*statistics)
        assert cells["fid_to_other" + suffix]["mean"] == pytest.approx(expected, rel=1e-4)
    features = [SmallFID().features(each).numpy() for each in (pictures, made)]
    assert cells["kid"]["mean"] == pytest.approx(kernel_distance(np.stack([*features], 1)).value, rel=1e-6)

    class Stopped(SmallFID):
        """Killed in the fifth batch."""

        batches = 0

        def features(self, pictures: Tensor) -> Tensor:
            self.batches += 1
            if self.batches > 8:  # two sizes each
                raise KeyboardInterrupt
            return super().features(pictures)

    unfinished, counted = tmp_path / "runs/unfinished.npz", Stopped()
    going_on = partial(set_features, dataset, sizes=sizes, count=50, batch=7, unfinished=unfinished, every=2)
    with pytest.raises(KeyboardInterrupt):
        going_on(metric=counted)
    counted.batches = 0  # four of the eight batches are left
    again = going_on(metric=counted)
    assert counted.batches == 8
    assert not unfinished.exists()
    for suffix, whole in SetFeatures.read(path).at.items():
        assert np.array_equal(again.at[suffix].mean, whole.mean)
        assert np.array_equal(again.at[suffix].factor, whole.factor)

    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(Refusal, match=r"other\.npz holds no features of a set"):
        SetFeatures.read(path)
    with pytest.raises(Refusal, match="1 pictures of FFHQ have no covariance"):
        set_features(dataset, SmallFID(), sizes, count=1)


@pytest.mark.parametrize(("n", "dimensions"), [(3, 8), (40, 8), (40, 64)])
def test_a_gaussian_of_sums_is_that_of_samples(n: int, dimensions: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, dimensions)), rng.normal(size=(n + 3, dimensions)) + 0.5
    sums = GaussianSums(dimensions)
    sums.update(x)
    other, expected = Gaussian.of_samples(y), frechet_distance_of_samples(x, y)
    for each in (Gaussian.of_sums(sums), Gaussian.of_samples(x)):
        assert each.distance(other) == pytest.approx(expected, rel=1e-6)
        assert other.distance(each) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("pictures", "without"), [(2, {"fid", "fid_inf", "kid"}), (5, {"fid_inf"}), (6, set())])
def test_the_fewest_pictures_are_a_parameter(face: Tensor, pictures: int, without: set[str]) -> None:
    """Few ones go a way of their own, which gives the same distances."""
    suite, x = Suite([MSE()], [SmallFID()], fewest=3), cuts_of(face, pictures)
    suite.update([f"{i}" for i in range(pictures)], x, {"fse": noisy(x, 0.2)})
    cells = suite.compute().summary()["fse"]
    assert {key for key, cell in cells.items() if cell["mean"] is None} == without
    assert all(f"at least {3 + 3 * (key == 'fid_inf')} needed" in cells[key]["reason"] for key in without)
    if "fid" not in without:
        features = [SmallFID().features(each).double().numpy() for each in (x, noisy(x, 0.2))]
        moments = [part for each in features for part in (each.mean(0), np.cov(each, rowvar=False))]
        assert cells["fid"]["mean"] == pytest.approx(frechet_distance(*moments), rel=1e-4)


# Variants of SSIM


def test_uniform_ssim_is_scikit_images(face: Tensor) -> None:
    for height, width in ((256, 256), (7, 7), (37, 64)):
        x = (face[:, :, :height, :width].double() + 1) / 2
        y = (noisy(2 * x - 1, 0.2) + 1) / 2
        expected = structural_similarity(
            x[0].permute(1, 2, 0).numpy(), y[0].permute(1, 2, 0).numpy(), data_range=1.0, channel_axis=2
        )
        assert uniform_ssim(x, y).item() == pytest.approx(expected, rel=1e-9)
    with pytest.raises(ValueError, match="7 x 7"):
        uniform_ssim(x[..., :6], x[..., :6])


def test_ms_ssim_is_its_direct_definition(face: Tensor) -> None:
    """Window by window; the dynamic range is that of the result's own lowest value, scale by scale."""
    source = face[:, :, :128, 40:168].expand(2, -1, -1, -1)
    result = torch.cat((noisy(source[:1], 0.2), noisy(source[:1] * 0.3 + 0.2, 0.1)))
    assert ms_ssim(source, source).tolist() == pytest.approx([1, 1], abs=1e-12)
    found = ms_ssim(result, source)
    for index, value in enumerate(found.tolist()):
        x, y, product = result[index : index + 1].double(), source[index : index + 1].double(), 1.0
        for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            side = min(11, *x.shape[2:])
            line = torch.exp(-(torch.arange(side) - side // 2).double().square() / 4.5)
            window = (line[:, None] * line / line.sum() ** 2).flatten()[:, None]
            a, b = (unfold(each.transpose(0, 1), side) for each in (x, y))  # (3, side^2, windows)
            span = 2 if x.min() < -0.5 else 1
            mean_a, mean_b = (a * window).sum(1, keepdim=True), (b * window).sum(1, keepdim=True)
            covariance = (window * (a - mean_a) * (b - mean_b)).sum(1, keepdim=True)
            variances = (window * ((a - mean_a).square() + (b - mean_b).square())).sum(1, keepdim=True)
            contrast = (2 * covariance + (0.03 * span) ** 2) / (variances + (0.03 * span) ** 2)
            c1 = (0.01 * span) ** 2
            luminance = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
            product *= (contrast * luminance if scale == 4 else contrast).mean().item() ** weight
            x, y = avg_pool2d(x, 2), avg_pool2d(y, 2)
        assert value == pytest.approx(product, rel=1e-8)


# Sizes, and the whole suite


def test_resized_in_memory_as_from_the_file(tmp_path: Path, face: Tensor) -> None:
    write_picture(face[0], tmp_path / "a.png")
    assert torch.equal(resized(face, (96, 96))[0], read_picture(tmp_path / "a.png", 96))
    assert torch.equal(resized(face, (96, 128))[0], measurement.read_at(tmp_path / "a.png", (96, 128)))
    assert resized(face, (256, 256)) is face


def test_one_pass_gives_the_numbers_of_both_sizes(face: Tensor) -> None:
    """Of pictures that are not square, too."""
    pictures = cuts_of(face, 34)[:, :, :48]
    found = noisy(pictures, 0.2)
    both = Suite(
        [SSIM(), PictureAtSize(SSIM(), (24, 32), "_256", " 256"), PictureAtSize(PSNR(), (24, 32), "_256", " 256")],
        [SmallFID(), DistributionAtSize(SmallFID(), (24, 32), "_256", " 256")],
    )
    assert [each.key for each in both.metrics] == [
        "ssim", "ssim_256", "psnr_256", "fid", "fid_inf", "kid", "fid_256", "fid_256_inf", "kid_256",
    ]  # fmt: skip
    names = [f"{i:02}" for i in range(34)]
    both.update(names, pictures, {"fse": found})
    small = Suite([SSIM(), PSNR()], [SmallFID()])
    small.update(names, resized(pictures, (24, 32)), {"fse": resized(found, (24, 32))})
    ours, theirs = both.compute(), small.compute()
    for key in ("ssim", "psnr"):
        assert ours.pictures[f"{key}_256"].tolist() == theirs.pictures[key].tolist()
    for key in ("fid", "kid"):
        assert ours.summary()["fse"][f"{key}_256"] == theirs.summary()["fse"][key]


def test_the_papers_suite_of_what_is_here(official: Path, face: Tensor, tmp_path: Path) -> None:
    path = functools.partial(located, official)
    suite, absent = paper_suite(path, size=(64, 64), cache=tmp_path / "cache")
    assert absent == dict.fromkeys(
        ("FID", "KID"), "the official asset inception_fid is missing; run `fetch inception_fid`"
    )
    keys = [each.key for each in suite.metrics]
    assert set(PRINTED) - set(keys) == {"fid", "fid_inf", "kid", *(f"fid_to_{name}" for name in REFERENCES)}
    assert paper_suite(path, distributions=False)[1] == {}
    assert {each.key: each.label for each in suite.metrics}["psnr_256"] == "PSNR 64"
    suite.update(["a"], face, {"copy": face, "fse": noisy(face, 0.1)})
    rows = suite.compute().pictures.set_index("method")
    assert rows["status"].tolist() == ["ok", "ok"]
    assert rows.loc["copy", ["ssim", "ssim_256", "ms_ssim", "id_curricular", "id_arcface"]].tolist() == pytest.approx(
        [1] * 5
    )
    assert rows.loc["copy", ["mse", "mse_256", "lpips"]].tolist() == [0, 0, 0]
    assert (rows.loc["fse", ["mse", "mse_256", "lpips"]] > 0).all()
    assert rows.loc["fse", "mse"] > rows.loc["fse", "mse_256"]  # the noise averages out

    cars, absent = paper_suite(lambda asset, name=None: located(tmp_path, asset, name), faces=False, size=(48, 64))
    assert list(absent) == ["LPIPS", "FID", "KID"]
    cars.update(["a"], face[:, :, :96, :128], {"fse": noisy(face, 0.1)[:, :, :96, :128]})
    assert cars.compute().pictures.loc[0, ["psnr", "psnr_256"]].astype(float).between(10, 40).all()
    assert {each.key: each.label for each in cars.metrics}["psnr_256"] == "PSNR 48x64"


# Caches and processes


class Counted:
    """How often the sources are looked at."""

    key, label, higher_is_better, unit, range = "counted", "counted", True, "", (0.0, 1.0)
    companions = ()

    def __init__(self) -> None:
        self.calls = 0

    def features(self, pictures: Tensor) -> list[Tensor | None]:
        self.calls += 1
        return [None if picture.mean() > 0 else picture.mean((1, 2)) for picture in pictures]

    def compare(self, source: list[Tensor | None], reconstructions: Tensor) -> Outcome:
        return Outcome({"counted": [0.0 if each is None else float(each.sum()) for each in source]})


def test_sources_are_looked_at_once_across_calls(tmp_path: Path, face: Tensor) -> None:
    def values(pictures: Tensor, basis: str = "code") -> tuple[int, list[float]]:
        metric = Counted()
        suite = Suite([metric], source_features=SourceFeatures(tmp_path, basis, {"counted"}))
        suite.update(["a", "b"], pictures, {"fse": pictures, "psp": pictures})
        return metric.calls, suite.compute().pictures["counted"].tolist()

    pictures = torch.cat((face, -face))
    first = values(pictures)
    assert first[0] == 1
    assert values(pictures) == (0, first[1])
    other = pictures.clone()
    other[0, 0, 0, 0] += 1 / 127.5
    assert values(other)[0] == 1  # one level of one pixel
    assert values(pictures, "other code")[0] == 1
    for file in tmp_path.iterdir():
        file.write_bytes(b"damaged")
    assert values(pictures) == first


@pytest.fixture
def folders(tmp_path: Path, face: Tensor) -> tuple[list[Path], dict[str, Path]]:
    """41 sources, and inversions by two methods, one of which lacks one and has a damaged one."""
    pictures = cuts_of(face, 41, 48)
    sources = [tmp_path / "source" / f"{i:02}.png" for i in range(41)]
    inversions = {name: tmp_path / name for name in ("fse", "psp")}
    for i, source in enumerate(sources):
        write_picture(pictures[i], source)
        for seed, folder in enumerate(inversions.values()):
            write_picture(noisy(pictures[i], 0.1 + 0.1 * seed, i), folder / source.name)
    (inversions["psp"] / "03.png").unlink()
    (inversions["psp"] / "17.png").write_bytes(b"no picture")
    return sources, inversions


def test_processes_give_the_numbers_of_one(tmp_path: Path, folders: tuple[list[Path], dict[str, Path]]) -> None:
    sources, inversions = folders
    written = []
    for processes in (1, 2):
        options: dict[str, Any] = {
            "resolution": (48, 48),
            "batch": 5,
            "subsets": {"psp": 38},
            "parts": Parts(tmp_path / f"parts{processes}", "code"),
        }
        measure_ahead(sources, inversions, small_suite, processes=processes, **options)
        if processes > 1:  # and nothing is left for this process to measure
            assert len([*(tmp_path / "parts2").glob("*.pt")]) == 9
            before = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts2").iterdir()}
        suite = small_suite()
        measure(sources, inversions, suite, **options)
        out = tmp_path / f"out{processes}"
        kept = measurement.write(suite, "set", out)
        written.append([(out / f"set.{suffix}").read_bytes() for suffix in ("csv", "json")])
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "parts2").iterdir()}
    assert written[0] == written[1]
    cell = kept.methods["psp"]["fid"]
    assert (cell["expected"], cell["used"], cell["failed"]) == (38, 36, 2)


# Noise


class Renders:
    """A method: the codes of a picture are its mean colour's."""

    def __init__(self, generator: StyleGAN2) -> None:
        self.generator = generator

    def invert(self, pictures: Tensor) -> Inversion:
        codes = self.generator.mean_code + pictures.mean((1, 2, 3))[:, None, None]
        return Inversion(codes, None, self.generator.synthesize(codes).tanh())

    def edit(self, inversion: Inversion, direction: Tensor, strength: float) -> Tensor:
        raise NotImplementedError


def test_spread_over_draws_of_noise(tmp_path: Path, face: Tensor) -> None:
    torch.manual_seed(0)
    generator = StyleGAN2(StyleGAN2Size(32, (16, 16, 16, 16), mapping_depth=1), 3).eval().requires_grad_(False)
    sources = [tmp_path / f"{i}.png" for i in range(3)]
    for picture, source in zip(cuts_of(face, 3, 32), sources, strict=True):
        write_picture(picture, source)
    stored = [buffer.clone() for buffer in generator.noises.buffers()]

    def spread(strength: float, seeds: list[int], chosen: list[Path] = sources) -> Any:
        for name, parameter in generator.named_parameters():
            if name.endswith("noise.weight"):
                parameter.fill_(strength)
        method = Renders(generator)
        return noise_spread(method, generator, chosen, Suite([MSE(), PSNR()]), seeds=seeds, resolution=32)

    still = spread(0.0, [1, 2])[0]
    assert still.drawn == (still.stored, still.stored)
    assert (still.deviation, still.within) == (0, 0)
    noisy_ = spread(0.3, [1, 2, 3])
    assert noisy_ == spread(0.3, [1, 2, 3])
    assert len({*noisy_[0].drawn, noisy_[0].stored}) == 4
    assert noisy_[0].deviation == pytest.approx(np.std(noisy_[0].drawn, ddof=1))
    assert 0 < noisy_[0].deviation < noisy_[0].within  # averaged over pictures
    alone = spread(0.3, [1], sources[:1])[0].drawn + spread(0.3, [1], sources[1:])[0].drawn
    assert alone[0] / 3 + 2 * alone[1] / 3 == pytest.approx(noisy_[0].drawn[0])  # a draw is of the picture alone
    for before, after in zip(stored, generator.noises.buffers(), strict=True):
        assert torch.equal(before, after)
    assert spread_table(noisy_, "FSE", 3).rows[0][0] == "MSE"
