"""The stand-ins of the rehearsal: all of them, in the official formats, read and run as the official files would be."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import av
import pytest
import torch
from torch import Tensor

from baselines.official_methods import OFFICIAL
from eval.datasets.celeba_hq import read_attributes
from eval.datasets.ffhq import official_md5
from eval.datasets.official import SETS, read_official
from eval.metrics.paper_suite import paper_suite
from eval.profile import Profile
from eval.ravdess import draw, read_archives
from fse.alignment import FaceAligner
from fse.bisenet import BiSeNet
from fse.checkpoints.checkpoint import official_network
from fse.checkpoints.reader import read_checkpoint
from fse.encoder import FeatureStyleEncoder
from fse.face_recognition import ArcFace
from fse.generators.families import read_generator
from fse.generators.stylegan2 import StyleGAN2
from fse.latents import sample_z
from fse.refusal import Refusal
from pipelines.official_assets import Catalogue, read_official_catalogue
from pipelines.official_folder import OfficialFolder
from pipelines.paper.stand_ins import README, is_finished, is_rehearsal, mark
from pipelines.paper.survey import entry
from pipelines.paper.surveyed import Surveyed
from pipelines.rehearsal.build import build
from pipelines.rehearsal.generators import SOURCE
from pipelines.rehearsal.pytorch_file_writer import legacy_bytes
from tests.golden.vectors import Golden

ROOT = Path(__file__).resolve().parents[1]
GENERATORS = (
    "stylegan2-ffhq-config-f.pt", "stylegan2-car-config-f.pt", "psp_ffhq_encode.pt", "afhqcat.pkl", "afhqdog.pkl",
    "ffhq.pkl", "stylegan3-t-ffhq-1024x1024.pkl", "stylegan3-r-ffhq-1024x1024.pkl", "styleganinv_ffhq256_generator.pth",
)  # fmt: skip
ROWS = [(domain, row) for domain, methods in OFFICIAL.items() for row in methods]


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory, assets: Path) -> Path:
    folder = tmp_path_factory.mktemp("stand_ins") / "official"
    build(folder, Profile(assets, ROOT / "weights"), ROOT / "directions/generator.safetensors")
    return folder


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return read_official_catalogue().for_stand_ins()


@pytest.fixture(scope="module")
def surveyed(stand_ins: Path, catalogue: Catalogue) -> Surveyed:
    """As the pipeline's first stage leaves it to the others."""
    folder, unpacked = OfficialFolder(stand_ins, catalogue), sorted((stand_ins / "buffalo_l").iterdir())
    found = folder.survey(allow_partial=True)
    assets = {
        name: entry(state, unpacked if name == "buffalo_l" else [], folder, Path.cwd())
        for name, state in found.assets.items()
    }
    assert {path.name for path in found.unrecognised} == {"det_10g.onnx", "w600k_r50.onnx"}
    return Surveyed(assets, rehearsal=True)


def pictures(folder: Path) -> Tensor:
    """The first two of CelebA-HQ, (2, 3, 1024, 1024)."""
    faces = read_official("celeba_hq_1000", folder / "CelebAMask-HQ.zip", allow_partial=True)
    return torch.stack([faces.tensor(i)[1] for i in range(2)])


def test_every_asset_that_was_released_is_here(surveyed: Surveyed, catalogue: Catalogue, stand_ins: Path) -> None:
    states = {asset.id: surveyed.assets[asset.id]["state"] for asset in catalogue.assets}
    expected = {
        asset.id: "never released" if asset.status == "never released" else "here" for asset in catalogue.assets
    }
    assert states == expected
    assert is_finished(stand_ins)
    assert "mean nothing" in (stand_ins / README).read_text(encoding="utf-8")
    assert sum(path.stat().st_size for path in stand_ins.rglob("*") if path.is_file()) < 400e6


def test_the_official_catalogue_does_not_take_them_for_the_official_files(stand_ins: Path) -> None:
    found = OfficialFolder(stand_ins, read_official_catalogue(), embedded=stand_ins / "no folder")
    found.state.path = stand_ins / ".other.json"
    found.state.recorded = {}
    states = found.survey(allow_partial=True).assets
    for name in ("psp_ffhq", "e4e_ffhq", "restyle_psp_cars", "stylegan2_ffhq", "afhqcat", "stylegan3_t_ffhq", "bisenet",
                 "mtcnn", "inception_fid", "alexnet", "fse_boundaries"):  # fmt: skip
        assert states[name].state == "wrong", name


@pytest.mark.parametrize("name", GENERATORS)
def test_generators_give_pictures_of_ordinary_contrast(name: str, stand_ins: Path) -> None:
    generator = read_generator(stand_ins / name)
    picture = generator.synthesize(generator.map(sample_z(3, 4)))
    assert picture.isfinite().all()
    assert 0.15 < picture.std() < 0.6
    assert (picture.abs() > 1).float().mean() < 0.1
    assert (picture[0] - picture[1]).std() > 0.1
    assert torch.equal(picture, read_generator(stand_ins / name).synthesize(generator.map(sample_z(3, 4))))


def test_the_same_network_is_in_nvidias_file_and_in_rosinalitys(stand_ins: Path) -> None:
    one, other = (read_generator(stand_ins / name) for name in ("stylegan2-ffhq-config-f.pt", "ffhq.pkl"))
    codes = one.map(sample_z(4, 2))
    assert torch.allclose(one.synthesize(codes), other.synthesize(codes), atol=1e-4)
    assert torch.allclose(one.mean_code, other.mean_code)


@pytest.mark.parametrize(
    ("file", "prefix", "vector"),
    [
        ("afhqcat.pkl", "", "stylegan2_ada_64_map2"),
        ("stylegan3-t-ffhq-1024x1024.pkl", "", "stylegan3_t_64"),
        ("stylegan3-r-ffhq-1024x1024.pkl", "", "stylegan3_r_64"),
        ("stylegan2-car-config-f.pt", "g_ema.", "stylegan2_rosinality_64"),
        ("e4e_cars_encode.pt", "state_dict.decoder.", "stylegan2_rosinality_64"),
    ],
)
def test_parameters_have_the_official_names(file: str, prefix: str, vector: str, stand_ins: Path) -> None:
    def unsized(names: Mapping[str, object]) -> set[str]:
        """Without what a name tells of widths, and without the mapping networks' further layers."""
        short = {re.sub(r"(L\d+_\d+)_\d+", r"\1", name) for name in names}
        return {name for name in short if not re.match(r"style\.[3-8]\.", name)}

    own = read_checkpoint(stand_ins / file).part(prefix)
    assert unsized(own) == unsized(Golden(vector).names_and_shapes())


@pytest.mark.parametrize(("domain", "row"), ROWS)
def test_every_official_loader_reads_and_inverts(
    domain: str, row: str, surveyed: Surveyed, stand_ins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = OFFICIAL[domain][row].load(surveyed.path, torch.device("cpu"))
    if row == "idinvert":
        monkeypatch.setattr(method, "steps", 2)
    seen = pictures(stand_ins)[:, :, : 768 if domain == "cars" else None]
    found = method.invert(seen)
    rows, side = (10, 64) if domain == "cars" or row == "idinvert" else (12, 128)
    assert found.codes.shape == (2, rows, 512)
    assert found.picture.shape == (2, 3, side * 3 // 4 if domain == "cars" else side, side)
    assert found.picture.isfinite().all()
    assert 0.1 < found.picture.std() < 1
    assert (found.picture[0] - found.picture[1]).std() > 0.01  # it looks at the picture
    edited = method.edit(found, torch.ones(512) / 512**0.5, 5.0)
    assert edited.isfinite().all()
    assert (edited - found.picture).std() > 0.01


def test_networks_of_the_losses_fit_each_other(stand_ins: Path) -> None:
    tensors = {name: read_checkpoint(stand_ins / name) for name in ("backbone.pth", "143_enc.pth", "79999_iter.pth")}
    kinds = {"backbone.pth": ArcFace, "143_enc.pth": FeatureStyleEncoder, "79999_iter.pth": BiSeNet}
    networks = {
        name: official_network(kinds[name], found.tensors, found.options, name, "-") for name, found in tensors.items()
    }
    assert networks["backbone.pth"].size.trunk == networks["143_enc.pth"].size.trunk  # FSE starts from ArcFace
    one, other = pictures(stand_ins)[:1], pictures(stand_ins)[1:]
    levels = [networks["backbone.pth"].levels(picture) for picture in (one, other)]
    assert all((a - b).abs().mean() > 1e-3 for a, b in zip(*levels, strict=True))
    assert len(networks["79999_iter.pth"].labels(one).unique()) > 1


def test_every_metric_is_there_and_finds_a_face_in_whatever_it_is_given(surveyed: Surveyed, stand_ins: Path) -> None:
    suite, absent = paper_suite(surveyed.path)
    assert absent == {}
    source = pictures(stand_ins)[:, :, ::4, ::4]
    noise = 2 * torch.rand(source.shape, generator=torch.Generator().manual_seed(0)) - 1
    identity = [metric for metric in suite.picture_metrics if metric.key.startswith("id_")]
    assert len(identity) == 2
    for reconstruction, metrics in (
        (source.roll(9, -1), suite.picture_metrics),
        (noise, identity),
        (torch.full_like(source, -1), identity),
    ):
        for metric in metrics:
            outcome = metric.compare(metric.features(source), reconstruction)
            assert not outcome.failures, metric.label
            for values in outcome.values.values():
                assert torch.tensor(values).isfinite().all(), metric.label


@pytest.mark.parametrize("name", SETS)
def test_every_set_is_read(name: str, surveyed: Surveyed, catalogue: Catalogue) -> None:
    (asset,) = (asset.id for asset in catalogue.assets if name in asset.sets)
    dataset = read_official(name, surveyed.path(asset), allow_partial=True)
    assert len(dataset) == {"celeba_hq_test": 5}.get(name, 2 if "_v2_" in name else 10)
    assert "PARTIAL" in dataset.described
    assert len({image.tobytes() for _, image in dataset}) == len(dataset)


def test_what_comes_with_the_faces_fits_them(surveyed: Surveyed) -> None:
    celeba = read_official("celeba_hq_10000", surveyed.path("celeba_hq"), allow_partial=True)
    attributes = read_attributes(celeba)
    assert len(attributes.names) == 40
    assert (attributes.labels.any(0) & ~attributes.labels.all(0)).all()
    other = read_attributes(celeba, surveyed.path("celeba_attributes", "list_attr_celeba.txt"))
    assert (other.labels == attributes.labels).all()
    ffhq = read_official("ffhq", surveyed.path("ffhq"), allow_partial=True)
    ffhq.check_md5(official_md5(surveyed.path("ffhq_metadata"), ffhq))
    aligner = FaceAligner(surveyed.path("dlib_68"))
    for dataset in (celeba, ffhq):
        assert all(len(aligner.landmarks(image.resize((256, 256)))) == 1 for _, image in dataset)


def test_clips_show_a_face(stand_ins: Path, tmp_path: Path, assets: Path) -> None:
    recordings = read_archives(stand_ins / "ravdess")
    assert {each.trial.actor for each in recordings} == set(range(1, 25))
    paths = [each.extract(tmp_path) for each in draw(recordings, 3)]
    assert len({path.read_bytes() for path in paths}) == 3
    aligner = FaceAligner(assets / "dlib/shape_predictor_68_face_landmarks.dat")
    for path in paths:
        with av.open(str(path)) as file:
            frames = [frame.to_image() for frame in file.decode(video=0)]
        assert len(frames) == 30
        assert len(aligner.landmarks(frames[15])) == 1


def test_a_stand_in_of_another_kind_is_not_taken(stand_ins: Path, catalogue: Catalogue, tmp_path: Path) -> None:
    for name, other in (("psp_ffhq_encode.pt", "e4e_ffhq_encode.pt"), ("afhqcat.pkl", "stylegan3-t-ffhq-1024x1024.pkl"),
                        ("backbone.pth", "model_ir_se50.pth"), ("afhq.zip", "CelebAMask-HQ.zip")):  # fmt: skip
        shutil.copyfile(stand_ins / other, tmp_path / name)
    states = OfficialFolder(tmp_path, catalogue).survey(allow_partial=True).assets
    reasons = {name: states[name].files[0].how for name in ("psp_ffhq", "afhqcat", "arcface_iresnet50", "afhq")}
    assert all(states[name].state == "wrong" for name in reasons)
    assert reasons["psp_ffhq"] == "it holds e4e and not psp"
    assert reasons["afhqcat"] == "it holds stylegan3 and not stylegan2-ada"
    assert reasons["arcface_iresnet50"] == "it holds ir-se-50 and not arcface"


def test_the_source_in_the_pickles_would_be_noticed(stand_ins: Path) -> None:
    assert SOURCE.encode() in (stand_ins / "afhqdog.pkl").read_bytes()
    with pytest.raises(AssertionError, match="was run"):
        exec(SOURCE)


def test_other_files_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "psp_ffhq_encode.pt").write_bytes(b"a gigabyte")
    with pytest.raises(Refusal, match="holds files that are no stand-ins"):
        mark(tmp_path, finished=False)
    assert [path.name for path in tmp_path.iterdir()] == ["psp_ffhq_encode.pt"]
    mark(tmp_path / "new", finished=False)
    assert is_rehearsal(tmp_path / "new")
    assert not is_finished(tmp_path / "new")


def test_the_older_form_of_files_is_pytorchs_and_always_the_same(tmp_path: Path) -> None:
    def content() -> dict[str, object]:
        whole = torch.arange(12.0).reshape(3, 4).clone()
        state = {"whole": whole, "part": whole[1:, ::2], "count": torch.tensor(3), "half": torch.ones(2).half()}
        return {"state_dict": state, "opts": {"a": [1, None, "b"]}, "none": torch.zeros(0, 3)}

    assert legacy_bytes(content()) == legacy_bytes(content())
    (tmp_path / "x.pth").write_bytes(legacy_bytes(content()))
    found, wanted = torch.load(tmp_path / "x.pth", weights_only=True), content()
    assert found["opts"] == wanted["opts"]
    assert found["none"].shape == (0, 3)
    state = wanted["state_dict"]
    assert isinstance(state, dict)
    assert all(torch.equal(found["state_dict"][name], tensor) for name, tensor in state.items())
    assert found["state_dict"]["part"].untyped_storage().data_ptr() == found["state_dict"]["whole"].data_ptr()
    assert read_checkpoint(tmp_path / "x.pth").options == {"opts": wanted["opts"]}


def test_the_generators_of_a_domain_agree(stand_ins: Path) -> None:
    """As officially: all methods for faces have one generator, and those for cars another."""
    faces, cars = (read_generator(stand_ins / f"stylegan2-{name}-config-f.pt") for name in ("ffhq", "car"))
    assert isinstance(faces, StyleGAN2)
    assert (faces.num_codes, cars.num_codes) == (12, 10)
    for file, generator in (("hyperstyle_ffhq.pt", faces), ("ckpt.pt", faces), ("psp_cars_encode.pt", cars)):
        codes = generator.map(sample_z(5, 1))
        assert torch.equal(read_generator(stand_ins / file).synthesize(codes), generator.synthesize(codes))
