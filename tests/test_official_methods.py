"""Every row of the tables out of small files in the official formats; cars, which are not square."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from baselines.cars import PaddedInverter, load_official_codes_cars, padded_to_square, rows_of_the_car
from baselines.hfgi.residual_aligner import ResidualAligner, ResidualAlignerSize
from baselines.hfgi.residual_encoder import ResidualEncoder, ResidualEncoderSize
from baselines.hyperstyle.hypernetwork import HyperNetwork, HyperNetworkSize
from baselines.hyperstyle.w_encoder import WEncoder, WEncoderSize
from baselines.idinvert.encoder import InDomainEncoder
from baselines.idinvert.inversion import InDomainInverter
from baselines.idinvert.vgg16 import VGG16
from baselines.official_methods import CARS, FACES, OFFICIAL
from baselines.psp import PyramidEncoder, PyramidSize
from baselines.restyle import IterativeInverter
from baselines.styleres.transformation import Transformation, TransformationSize
from fse.generators.stylegan1 import StyleGAN1
from fse.generators.stylegan2 import StyleGAN2, StyleGAN2Size
from fse.inversion import InversionMethod
from fse.inverter import FeatureStyleInverter
from fse.refusal import Refusal
from fse.trunk import TrunkSize
from pipelines.official_assets import read_official_catalogue
from tests.golden.fill import image
from tests.test_families import fse_file
from tests.test_idinvert import ENCODER, GENERATOR, PERCEPTUAL
from tests.test_styleres import nvidia_state

SIDE, CODES, CHANNELS = 64, 10, (16, 16, 16, 8, 8)
TUNED, SHARED = (0, 2, 3, 5, 6, 8, 9, 11, 12), (0, 2, 3, 5, 6)
PYRAMID = PyramidSize(CODES, trunk=TrunkSize((8, 10, 12, 16), (1, 1, 1, 1), 8, form="ir_se"), head_width=8, side=SIDE)
ITERATIVE = replace(PYRAMID, trunk=replace(PYRAMID.trunk, input_channels=6), pyramid=False)
ENCODERS = {
    "psp": ("GradualStyleEncoder", PYRAMID),
    "e4e": ("Encoder4Editing", replace(PYRAMID, progressive=True)),
    "restyle_psp": ("BackboneEncoder", ITERATIVE),
    "restyle_e4e": ("ProgressiveBackboneEncoder", replace(ITERATIVE, progressive=True)),
}


def state_of(**networks: nn.Module) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": value for part, network in networks.items() for name, value in network.state_dict().items()
    }


def generator_of_tests() -> StyleGAN2:
    return StyleGAN2(StyleGAN2Size(SIDE, CHANNELS, mapping_depth=2))


class OfficialFolder:
    """Small files under the catalogue's ids; ``path`` knows them by nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        torch.manual_seed(0)
        self.generator = generator_of_tests()
        for domain in ("ffhq", "cars"):
            for row, (kind, size) in ENCODERS.items():
                self._save(f"{row}_{domain}", kind, encoder=PyramidEncoder(size), decoder=self.generator)
        encoder = PyramidEncoder(replace(PYRAMID, progressive=True))
        residue = ResidualEncoder(ResidualEncoderSize((4, 6, 8), (8, 64, 64)))
        aligner = ResidualAligner(ResidualAlignerSize((4, 6, 8, 10)))
        self._save(
            "hfgi_ffhq", "Encoder4Editing",
            encoder=encoder, decoder=self.generator, residue=residue, grid_align=aligner,
        )  # fmt: skip
        fse_file(folder / "fse_ffhq", None)
        hypernetwork = HyperNetwork(
            HyperNetworkSize(
                CHANNELS, (0, 2, 3, 5, 6, 8, 9, 11, 12), (0, 2, 3, 5, 6), 6, (4, 6, 8, 10), (1,) * 4, 6, 7, 12
            )
        )
        encoder = WEncoder(WEncoderSize(512, PYRAMID.trunk))
        self._save("hyperstyle_ffhq-hyperstyle_ffhq.pt", "Hyper", hypernet=hypernetwork, decoder=self.generator)
        self._save("hyperstyle_ffhq-faces_w_encoder.pt", "WEncoder", encoder=encoder, decoder=self.generator)
        encoder = PyramidEncoder(replace(PYRAMID, side=256, progressive=True))
        inserted = Transformation(TransformationSize(10, 8, 12)).state_dict()
        smooth = nvidia_state(self.generator) | {f"synthesis.b64.{name}": value for name, value in inserted.items()}
        content = {"e4e": encoder.state_dict(), "generator_smooth": smooth, "latent_avg": torch.randn(CODES, 512)}
        torch.save(content, folder / "styleres_ffhq")
        torch.save(StyleGAN1(GENERATOR).state_dict(), folder / "idinvert_generator")
        torch.save(InDomainEncoder(ENCODER).state_dict(), folder / "idinvert_encoder")
        torch.save(VGG16(PERCEPTUAL).state_dict(), folder / "idinvert_vgg16")

    def _save(self, asset: str, encoder_type: str, **networks: nn.Module) -> None:
        content = {
            "state_dict": state_of(**networks),
            "latent_avg": torch.randn(CODES, 512),
            "opts": Namespace(encoder_type=encoder_type),
        }
        torch.save(content, self.folder / asset)

    def path(self, asset: str, name: str | None = None) -> Path:
        found = self.folder / (f"{asset}-{name}" if name else asset)
        if not found.exists():
            raise Refusal(f"the official asset {asset} ({name}) is missing; fetch it")
        return found


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> OfficialFolder:
    return OfficialFolder(tmp_path_factory.mktemp("official"))


def content_of(path: Path) -> dict[str, Any]:
    """What the file holds, by PyTorch's own reader, which builds tensors and the options and nothing else."""
    with torch.serialization.safe_globals([Namespace]):
        found: dict[str, Any] = torch.load(path, weights_only=True)
    return found


def pictures(height: int = 128, width: int = 128, count: int = 2) -> Tensor:
    return torch.from_numpy(image("input:official", (count, 3, height, width)))


def test_the_catalogue_says_the_same() -> None:
    """Rows, their files, and that each file is what its row reads."""
    assets = read_official_catalogue().assets
    for domain, table in (("faces", "T1"), ("cars", "C")):
        needed: dict[str, set[str]] = {}
        for asset in assets:
            for row in {row for need in asset.needed_for if need.table == table for row in need.rows}:
                if asset.status != "never released":
                    needed.setdefault(row, set()).add(asset.id)
        assert {row: set(method.assets) for row, method in OFFICIAL[domain].items()} == needed


@pytest.mark.parametrize(
    ("domain", "row"), [(domain, row) for domain, rows in OFFICIAL.items() for row in rows], ids=lambda value: value
)
def test_each_row_inverts_and_edits(domain: str, row: str, official: OfficialFolder) -> None:
    found = OFFICIAL[domain][row]
    method = found.load(official.path, torch.device("cpu"))
    assert isinstance(method, InversionMethod)
    if isinstance(method, InDomainInverter):
        method.steps = 2
    shown = pictures() if domain == "faces" else pictures(96)
    inversion = method.invert(shown)
    side = GENERATOR.resolution if row == "idinvert" else SIDE
    assert inversion.picture.shape == (2, 3, side if domain == "faces" else side * 3 // 4, side)
    assert inversion.picture.isfinite().all()
    assert not torch.allclose(inversion.codes[0], inversion.codes[1])
    direction = torch.randn(512, generator=torch.Generator().manual_seed(1))
    edited = method.edit(inversion, direction, 0.0)
    torch.testing.assert_close(edited, inversion.picture, rtol=1e-4, atol=1e-4)
    assert (method.edit(inversion, direction, 1.0) - edited).abs().mean() > 1e-3

    needed = list(found.assets)
    for missing in needed:

        def path(asset: str, name: str | None = None, missing: str = missing) -> Path:
            return official.path(f"absent {asset}" if asset == missing else asset, name)

        with pytest.raises(Refusal, match=f"absent {missing}.* is missing"):
            found.load(path, torch.device("cpu"))


@pytest.mark.parametrize("row", FACES)
def test_a_method_moves_whole(row: str, official: OfficialFolder) -> None:
    """Its networks, what they hold beside parameters, and its own tensors."""
    method = FACES[row].load(official.path, torch.device("meta"))
    tensors = [value for value in vars(method).values() if isinstance(value, Tensor)]
    for network in (value for value in vars(method).values() if isinstance(value, nn.Module)):
        for module in network.modules():
            held = (*vars(module).values(), *module._parameters.values(), *module._buffers.values())
            tensors += [value for value in held if isinstance(value, Tensor)]
    assert len(tensors) > 50
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_in_domain_inversion_resizes_as_opencv(official: OfficialFolder) -> None:
    """Its official script's way: from 1024 to 256 the mean of the two middle pixels of four, in both directions."""
    method = FACES["idinvert"].load(official.path, torch.device("cpu"))
    assert isinstance(method, InDomainInverter)
    method.steps, side = 0, GENERATOR.resolution
    large = pictures(4 * side, 4 * side)
    middle = large.unflatten(3, (side, 4))[..., 1:3].mean(4).unflatten(2, (side, 4))[:, :, :, 1:3].mean(3)
    torch.testing.assert_close(method.invert(large).codes, method.invert(middle).codes)


class TestCars:
    def test_padding_is_undone(self) -> None:
        car = pictures(384, 512, 1)
        square = padded_to_square(car)
        assert square.shape == (1, 3, 512, 512)
        assert (square[:, :, :64] == -1).all()
        assert (square[:, :, 448:] == -1).all()
        assert torch.equal(rows_of_the_car(square), car)
        for height, width in ((512, 512), (512, 384), (381, 508)):
            with pytest.raises(ValueError, match=f"not {height} x {width}"):
                padded_to_square(torch.zeros(1, 3, height, width))

    def test_fse_sees_squares_and_gives_cars(self, official: OfficialFolder) -> None:
        """For a generator of 64 px the small encoder wants F of 16 x 16, of pictures of 256."""
        method = FACES["fse"].load(official.path, torch.device("cpu"))
        assert isinstance(method, FeatureStyleInverter)
        cars = PaddedInverter(method)
        assert isinstance(cars, InversionMethod)
        shown = pictures(384, 512)
        found, square = cars.invert(shown), method.invert(padded_to_square(shown))
        assert torch.equal(found.codes, square.codes)
        assert torch.equal(found.picture, square.picture[:, :, 8:56])
        direction = torch.ones(512)
        assert torch.equal(cars.edit(found, direction, 2.0), method.edit(square, direction, 2.0)[:, :, 8:56])

    def test_e4e_sees_pictures_that_are_wide(self, official: OfficialFolder) -> None:
        method = CARS["e4e"].load(official.path, torch.device("cpu"))
        shown = pictures(96)
        content = content_of(official.path("e4e_cars"))
        encoder = PyramidEncoder(ENCODERS["e4e"][1]).eval()
        encoder.load_state_dict(
            {k.removeprefix("encoder."): v for k, v in content["state_dict"].items() if "encoder." in k}
        )
        with torch.no_grad():
            codes = encoder(interpolate(shown, (48, 64), mode="bilinear", antialias=True)) + content["latent_avg"]
            picture = official.generator.eval().synthesize(codes)
        found = method.invert(shown)
        torch.testing.assert_close(found.codes, codes)
        torch.testing.assert_close(found.picture, picture[:, :, 8:56])

    def test_restyle_cuts_its_estimates(self, official: OfficialFolder) -> None:
        """Officially pooled to a square and cut in the first step, and cut before it is pooled in the later ones."""
        method = CARS["restyle_psp"].load(official.path, torch.device("cpu"))
        assert isinstance(method, IterativeInverter)
        content = content_of(official.path("restyle_psp_cars"))
        generator, encoder, shown = official.generator.eval(), method.encoder, pictures(48, 64)
        with torch.no_grad():
            codes = content["latent_avg"].expand(2, -1, -1)
            estimate = adaptive_avg_pool2d(generator.synthesize(codes), 64)[:, :, 8:56]
            for _ in range(5):
                codes = codes + encoder(torch.cat((shown, estimate), 1))
                estimate = adaptive_avg_pool2d(generator.synthesize(codes)[:, :, 8:56], (48, 64))
        torch.testing.assert_close(method.invert(shown).codes, codes, rtol=1e-4, atol=1e-4)

    def test_other_generators_are_refused(self, official: OfficialFolder, tmp_path: Path) -> None:
        state = state_of(encoder=PyramidEncoder(replace(PYRAMID, num_codes=6)))
        first = {f"{name}": value for name, value in StyleGAN1(GENERATOR).state_dict().items()}
        options = Namespace(encoder_type="GradualStyleEncoder")
        torch.save({"state_dict": state, "latent_avg": torch.zeros(512), "opts": options} | first, tmp_path / "car.pt")
        with pytest.raises(Refusal, match=r"car\.pt"):
            load_official_codes_cars(tmp_path / "car.pt", "GradualStyleEncoder")
