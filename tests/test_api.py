"""``from fse import Inverter``: what goes in, what comes out, and latents on disk."""

from __future__ import annotations

import contextlib
import doctest
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from baselines.hfgi.inversion import ConsultedInversion
from fse import Inverter, api
from fse.alignment import FaceAligner
from fse.checkpoints.safetensors_file import read_tensors, write_tensors
from fse.directions import Direction
from fse.inversion import Inversion
from fse.inverter import CodesInverter, FeatureStyleInverter
from fse.latents import sample_z
from fse.latents_file import fingerprint
from fse.pictures import image_from_tensor, open_picture, read_picture, write_picture
from fse.refusal import Refusal
from tests.conftest import ROOT
from tests.tiny import tiny_encoder, tiny_generator, tiny_pyramid


@pytest.fixture(scope="module")
def inverter() -> Inverter:
    """FSE, untrained, at 64 px, with two directions."""
    generator = tiny_generator()
    vectors = torch.randn(2, generator.num_codes, 512, generator=torch.Generator().manual_seed(1)) * 0.1
    directions = {name: Direction(name, vector) for name, vector in zip(("smile", "yaw"), vectors, strict=True)}
    return Inverter(FeatureStyleInverter(tiny_encoder(generator), generator), name="fse", directions=directions)


@pytest.fixture(scope="module")
def pictures(inverter: Inverter) -> Tensor:
    """(3, 3, 64, 64), of 8 bits."""
    generator = inverter.generator
    made = generator.synthesize(generator.map(sample_z(5, 3)))
    return torch.stack([torch.from_numpy(np.array(image_from_tensor(each))) for each in made]).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def found(inverter: Inverter, pictures: Tensor) -> api.Inverted:
    return inverter.invert(pictures / 127.5 - 1)


def test_examples_in_the_docstrings_run(assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("data", "weights", "directions"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    results = doctest.testmod(api)
    assert results.attempted >= 12
    assert results.failed == 0
    assert open_picture(tmp_path / "smiling.png").size == (256, 256)


def test_importing_the_package_does_not_load_pytorch() -> None:
    code = (
        "import sys, fse, fse.refusal; assert 'torch' not in sys.modules; fse.Inverter; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    with pytest.raises(ImportError, match="Invertor"):
        from fse import Invertor  # type: ignore[attr-defined]  # noqa: F401


class TestWhatGoesIn:
    def test_every_way_to_hand_in_a_picture_is_the_same(
        self, inverter: Inverter, pictures: Tensor, found: api.Inverted, tmp_path: Path
    ) -> None:
        arrays = pictures.permute(0, 2, 3, 1).numpy()
        images = [Image.fromarray(array) for array in arrays]
        for name, image in zip("abc", images, strict=True):
            image.save(tmp_path / f"{name}.png")
        for given_in in (
            tmp_path,
            sorted(tmp_path.iterdir()),
            [str(path) for path in sorted(tmp_path.iterdir())],
            images,
            arrays,
            list(arrays),
            [pictures[0] / 127.5 - 1, pictures[1:] / 127.5 - 1],
            [tmp_path / "a.png", images[1], arrays[2]],
        ):
            again = inverter.invert(given_in)
            torch.testing.assert_close(again.codes, found.codes)
        assert inverter.invert(tmp_path).names == ("a", "b", "c")
        assert inverter.invert(Image.open(tmp_path / "b.png")).names == ("b",)

    def test_batches_do_not_matter(self, inverter: Inverter, pictures: Tensor, found: api.Inverted) -> None:
        torch.testing.assert_close(inverter.invert(pictures / 127.5 - 1, batch=2).codes, found.codes)
        one_by_one = torch.cat([found.edit("smile", batch=1).tensor, found.edit("smile", batch=2).tensor])
        torch.testing.assert_close(one_by_one, found.edit("smile").tensor.repeat(2, 1, 1, 1))

    def test_other_sizes_are_resized_as_pillow_does(self, inverter: Inverter, pictures: Tensor) -> None:
        array = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
        smooth = Image.fromarray(array).resize((160, 160), Image.Resampling.BOX, reducing_gap=None)
        tensor = torch.from_numpy(np.array(smooth)).permute(2, 0, 1) / 127.5 - 1
        (by_pillow,), (by_torch,) = inverter.reader.read(smooth), inverter.reader.read(tensor)
        assert (by_pillow.picture - by_torch.picture).abs().max() < 1.5 / 127.5  # Pillow rounds to 8 bits

    def test_faces_are_aligned(self, inverter: Inverter, assets: Path) -> None:
        model = assets / api.LANDMARKS_MODEL
        reader = Inverter(inverter.method, name="fse", landmarks_model=model).reader
        group, portrait = assets / "photographs/t1.jpg", assets / "photographs/astronaut.png"
        names = [each.name for each in reader.read([group, portrait], "every")]
        assert names == [*(f"t1_{number}" for number in range(6)), "astronaut"]
        (aligned,) = reader.read(portrait, True)
        expected = FaceAligner(model).align(open_picture(portrait), resolution=64)
        np.testing.assert_array_equal(image_from_tensor(aligned.picture), expected)
        with pytest.raises(Refusal, match="no face was found in the picture; use a frontal"):
            reader.read(Image.new("RGB", (200, 100)), True)
        with pytest.raises(Refusal, match="cannot be aligned without the landmark model"):
            inverter.invert(portrait, align=True)

    def test_what_is_no_picture_is_refused(self, inverter: Inverter, tmp_path: Path) -> None:
        (tmp_path / "bad.png").write_text("no")
        for wrong, error, sentence in (
            (3, TypeError, "a picture is a path, an image, an array or a tensor, not int"),
            (np.zeros((4, 4, 3)), ValueError, r"uint8, not \(4, 4, 3\) float64"),
            (torch.zeros(4, 4, 3), ValueError, r"not \(4, 4, 3\)"),
            (torch.full((3, 64, 64), 255.0), ValueError, r"lie in \[-1, 1\]"),
            (torch.full((3, 64, 64), torch.nan), ValueError, r"lie in \[-1, 1\]"),
            (torch.zeros(3, 64, 32), Refusal, "32 x 64 pixels, not square"),
            (Image.new("RGB", (4, 5)), Refusal, "the picture is 4 x 5 pixels, not square"),
            ([], ValueError, "there is nothing to invert"),
            (tmp_path / "bad.png", Refusal, "bad.png is not a PNG"),
            (tmp_path / "none.png", Refusal, "there is no picture .*none.png"),
        ):
            with pytest.raises(error, match=sentence):
                inverter.invert(wrong)  # type: ignore[arg-type]


class TestWhatComesOut:
    def test_reconstruction_and_edit_are_the_method_s(self, inverter: Inverter, pictures: Tensor) -> None:
        batch = (pictures / 127.5 - 1).contiguous()  # the order in memory changes the last bits
        found, own = inverter.invert(batch), inverter.method.invert(batch)
        assert torch.equal(found.pictures.tensor, own.picture)
        vector = inverter.directions["yaw"].vector
        expected = inverter.method.edit(own, vector, -1.5)
        for direction in ("yaw", inverter.directions["yaw"], vector):
            assert torch.equal(found.edit(direction, -1.5).tensor, expected)
        assert torch.equal(found.edit({"yaw": -1.5}).tensor, expected)
        both = 2 * inverter.directions["smile"].vector - vector
        torch.testing.assert_close(found.edit({"smile": 2, "yaw": -1}).tensor, inverter.method.edit(own, both, 1.0))

    def test_parts(self, found: api.Inverted) -> None:
        assert len(found) == 3
        assert [len(each) for each in found] == [1, 1, 1]
        assert found.feature is not None
        last = found[-1]
        assert last.feature is not None
        assert torch.equal(last.codes, found.codes[2:])
        assert torch.equal(last.feature, found.feature[2:])
        torch.testing.assert_close(found[1:].edit("smile").tensor, found.edit("smile")[1:].tensor)
        with pytest.raises(IndexError):
            found[3]

    def test_mixing_is_figure_8_s(self, inverter: Inverter, found: api.Inverted) -> None:
        generator = inverter.generator
        assert found.feature is not None
        expected = generator.synthesize(found.codes[1:2], found.feature[:1])
        torch.testing.assert_close(found[0].mix(found[1]).tensor, expected)
        everything = found[0].mix(found)
        assert everything.names == ("picture_picture",) * 3
        torch.testing.assert_close(everything.tensor[:1], found.pictures.tensor[:1])
        with pytest.raises(ValueError, match="3 and 2 pictures cannot be mixed"):
            found.mix(found[:2])

    def test_methods_without_a_feature_tensor_mix_codes(self, pictures: Tensor) -> None:
        generator = tiny_generator()
        found = Inverter(CodesInverter(tiny_pyramid(generator), generator), name="psp").invert(pictures / 127.5 - 1)
        codes = torch.cat([found.codes[:1, : generator.feature_codes], found.codes[1:2, generator.feature_codes :]], 1)
        torch.testing.assert_close(found[0].mix(found[1]).tensor, generator.synthesize(codes))

    def test_saving(self, found: api.Inverted, tmp_path: Path) -> None:
        one = found[0]
        assert one.save(tmp_path / "new/a.png") == [tmp_path / "new/a.png"]
        np.testing.assert_array_equal(open_picture(tmp_path / "new/a.png"), one.pictures[0])
        assert one.save(str(tmp_path / "folder")) == [tmp_path / "folder/picture.png"]
        assert one.edit("smile").save(tmp_path / "w.WEBP")
        with Image.open(tmp_path / "w.WEBP") as file:
            assert file.format == "WEBP"
        with pytest.raises(Refusal, match=r"3 pictures do not go into the one file .*x\.png; give a folder"):
            found.save(tmp_path / "x.png")
        with pytest.raises(Refusal, match="two of the pictures have one name"):
            found.save(tmp_path / "folder")
        with pytest.raises(Refusal, match=r"a\.gif was not written: pictures are \.png"):
            write_picture(torch.zeros(3, 4, 4), tmp_path / "a.gif")

    def test_wrong_edits_are_refused(self, found: api.Inverted, inverter: Inverter) -> None:
        with pytest.raises(Refusal, match="there is no direction 'grin'; known are smile, yaw"):
            found.edit("grin")
        with pytest.raises(Refusal, match="the strength is nan; give a number"):
            found.edit("smile", float("nan"))
        with pytest.raises(Refusal, match="with the strength 1e\\+30 no picture comes out"):
            found.edit("smile", 1e30)
        bare = Inverter(inverter.method, name="fse")
        with pytest.raises(Refusal, match="known are none; load the inverter with a file of directions"):
            bare.vector("smile")
        with pytest.raises(ValueError, match="has no attribute `generator`"):
            Inverter(object(), name="mine")  # type: ignore[arg-type]


class TestLatents:
    @pytest.fixture(scope="class")
    def saved(self, found: api.Inverted, tmp_path_factory: pytest.TempPathFactory) -> Path:
        path = tmp_path_factory.mktemp("latents") / "three.safetensors"
        replace(found, names=("a", "b", "c d")).save_latents(path)
        return path

    def test_they_come_back_as_they_were(self, saved: Path, inverter: Inverter, found: api.Inverted) -> None:
        again = inverter.load_latents(saved)
        assert again.names == ("a", "b", "c d")
        assert torch.equal(again.codes, found.codes)
        assert torch.equal(again.inversion.picture, found.inversion.picture)
        assert torch.equal(again.edit("smile", 2).tensor, found.edit("smile", 2).tensor)

    @pytest.mark.parametrize("method", ["psp", "hfgi"])
    def test_of_every_kind_of_shipped_method(self, method: str, assets: Path, weights: Path, tmp_path: Path) -> None:
        """HFGI's edits consult a residual besides the feature tensor, so it has to come back, too."""
        inverter = Inverter.load(assets, weights, method)
        generator = inverter.generator
        found = inverter.invert(generator.synthesize(generator.map(sample_z(6, 1))).clamp(-1, 1))
        found.save_latents(tmp_path / "a.safetensors")
        again = inverter.load_latents(tmp_path / "a.safetensors")
        assert type(again.inversion) is (ConsultedInversion if method == "hfgi" else Inversion)
        direction = torch.randn(512, generator=torch.Generator().manual_seed(2)) * 0.1
        assert torch.equal(again.edit(direction).tensor, found.edit(direction).tensor)
        torch.testing.assert_close(again.inversion.picture, found.inversion.picture)

    def test_another_method_s_and_another_generator_s_are_refused(self, saved: Path, inverter: Inverter) -> None:
        with pytest.raises(Refusal, match=r"three.* holds latents of the method 'fse', not of 'mine'"):
            Inverter(inverter.method, name="mine").load_latents(saved)
        other = tiny_generator()
        other.mean_code += 1
        method = FeatureStyleInverter(tiny_encoder(other), other)
        with pytest.raises(Refusal, match=r"three\.safetensors was made with another generator"):
            Inverter(method, name="fse").load_latents(saved)

    def test_fingerprint_is_of_the_parameters(self) -> None:
        generator = tiny_generator()
        same = fingerprint(tiny_generator(4)), fingerprint(generator)
        assert same[0] == same[1]
        generator.mean_code[0, 0] += 1e-3
        assert fingerprint(generator) != same[1]

    @pytest.mark.parametrize(
        ("key", "value", "sentence"),
        [
            ("format", "other", "holds no latents"),
            ("names", '["a", "b", "../../c"]', "no names of pictures"),
            ("names", '["a", "b", ".."]', "no names of pictures"),
            ("names", '["a", "b"]', "not in single precision for 2 names"),
            ("names", "[1, 2, 3]", "no names of pictures"),
            ("names", "{", "does not describe its tensors"),
            ("shapes", "[]", "should describe codes, feature"),
            ("shapes", '{"codes": null, "feature": null}', "should describe"),
            ("shapes", '{"codes": [3, 8, 512], "feature": null}', "feature is not of the shape None"),
            ("shapes", "[" * 100_000, "does not describe its tensors"),
        ],
    )
    def test_wrong_headers_are_refused(
        self, saved: Path, inverter: Inverter, tmp_path: Path, key: str, value: str, sentence: str
    ) -> None:
        tensors, header = read_tensors(saved)
        write_tensors(tmp_path / "x.safetensors", tensors, header | {key: value})
        with pytest.raises(Refusal, match=rf"x\.safetensors.*{sentence}"):
            inverter.load_latents(tmp_path / "x.safetensors")

    def test_wrong_tensors_are_refused(self, saved: Path, inverter: Inverter, tmp_path: Path) -> None:
        tensors, header = read_tensors(saved)
        shapes = json.loads(header["shapes"])
        for codes, sentence in (
            (tensors["codes"].half(), "not in single precision"),
            (torch.full_like(tensors["codes"], torch.inf), "not finite"),
            (tensors["codes"][:, :-1], "does not fit the method 'fse' and its generator"),
        ):
            described = json.dumps(shapes | {"codes": list(codes.shape)})
            write_tensors(tmp_path / "x.safetensors", tensors | {"codes": codes}, header | {"shapes": described})
            with pytest.raises(Refusal, match=sentence):
                inverter.load_latents(tmp_path / "x.safetensors")

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_damaged_files_are_refused_or_read(
        self, saved: Path, inverter: Inverter, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        content = bytearray(saved.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, 900))] = data.draw(st.integers(0, 255))
        path = tmp_path_factory.mktemp("damaged") / "x.safetensors"
        path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        with contextlib.suppress(Refusal):
            inverter.load_latents(path)

    def test_what_cannot_be_written_is_refused(self, found: api.Inverted, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(Refusal, match=r"the latents .*a\.safetensors cannot be written"):
            found.save_latents(tmp_path / "file/a.safetensors")
        assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208


def test_device_that_is_not_there_is_refused(assets: Path, weights: Path) -> None:
    with pytest.raises(Refusal, match="the device abacus cannot be used"):
        Inverter.load(assets, weights, device="abacus")


def test_every_format_keeps_the_picture(tmp_path: Path) -> None:
    noise = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    smooth = torch.nn.functional.interpolate(noise, size=64, mode="bilinear")
    for suffix, kind, most in ((".png", "PNG", 1e-4), (".jpg", "JPEG", 1e-3), (".webp", "WEBP", 1e-3)):
        (path,) = api.Pictures(["a"], smooth).save(tmp_path / f"a{suffix}")
        assert (read_picture(path) - smooth[0]).square().mean() < most, suffix
        with Image.open(path) as file:
            assert file.format == kind
