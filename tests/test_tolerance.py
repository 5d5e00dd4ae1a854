"""The gate lets the same values pass and catches what it is there for."""

from __future__ import annotations

import copy
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from eval import measurement
from eval.contest import Places
from eval.inversions import invert_pictures
from eval.metrics import pixel
from eval.metrics.metric import Outcome
from eval.metrics.perceptual import STLPIPSDistance
from eval.metrics.pixel import MSE, PSNR, SSIM
from eval.metrics.suite import Suite
from eval.profile import Profile
from eval.table1 import render
from eval.tolerance import Difference, Tolerance, additions, compare, main, nearest, read_tolerances
from fse.perceptual import STLPIPS
from fse.pictures import list_pictures, read_picture, write_picture
from fse.refusal import Refusal
from tests.conftest import ROOT

TOLERANCES = read_tolerances(ROOT / "params.yaml")
NAMES = [f"{number:05d}" for number in range(4)]


def pictures(seed: int) -> Tensor:
    """(4, 3, 48, 48): coloured waves, redder than blue, as faces are."""
    phases = torch.rand(4, 3, 1, 1, generator=torch.Generator().manual_seed(seed)) * 6
    x = torch.linspace(0, 9, 48)
    waves = (x[:, None] + phases).sin() * (1.3 * x + phases).cos()
    return (waves * 0.5 + torch.tensor([0.4, 0.0, -0.4])[:, None, None]).clamp(-1, 1)


def run(folder: Path, tamper: Callable[[Path], None] | None = None) -> dict[str, Any]:
    """``table1.json`` of four pictures and two methods, measured from files."""
    source = pictures(0)
    noise = torch.randn(source.shape, generator=torch.Generator().manual_seed(1))
    found = {"test": source, "fse": (source + 0.05 * noise).clamp(-1, 1), "psp": (source + 0.2 * noise).clamp(-1, 1)}
    for kind, batch in found.items():
        for name, picture in zip(NAMES, batch, strict=True):
            write_picture(picture, folder / kind / f"{name}.png")
    if tamper:
        tamper(folder)
    return measured(folder, Suite([SSIM(), PSNR(), MSE()]), ("fse", "psp"), 48)


def measured(folder: Path, suite: Suite, methods: tuple[str, ...], resolution: int) -> dict[str, Any]:
    """``table1.json`` of ``folder/test`` against ``folder/METHOD``."""
    inversions = {method: folder / method for method in methods}
    measurement.measure(list_pictures(folder / "test"), inversions, suite, resolution=resolution)
    places = Places(reports=folder / "reports")
    measurement.write(suite, "renders", places.measurements)
    render(places, {}, sets=["renders"])
    results: dict[str, Any] = json.loads((places.reports / "table1.json").read_text())
    return results


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(tmp_path_factory.mktemp("expected"))


Gate = Callable[[Any, Any], tuple[int, str]]


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Gate:
    """``python -m eval.tolerance`` with the project's own tolerances -> exit code and what it prints."""

    def run_gate(expected: Any, measured: Any) -> tuple[int, str]:
        for name, content in {"expected.json": expected, "measured.json": measured}.items():
            (tmp_path / name).write_text(json.dumps(content))
        files = {"--expected": tmp_path / "expected.json", "--measured": tmp_path / "measured.json"}
        options = [str(part) for option in files.items() for part in option]
        monkeypatch.setattr(sys, "argv", ["tolerance", *options, "--params", str(ROOT / "params.yaml")])
        code = 0
        try:
            main()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run_gate


def rows_of(text: str) -> set[tuple[str, str]]:
    """(where, quantity) of the table that the gate prints."""
    cells = [line.split() for line in text.splitlines() if line.startswith("renders / ")]
    return {(line[2], line[3].rstrip(",")) for line in cells}


def outside(expected: Any, measured: Any) -> set[tuple[str, str, str]]:
    differences = compare(expected, measured, TOLERANCES)
    return {(d.where, d.quantity, d.reason) for d in differences if not d.inside}


def test_the_same_run_agrees(expected: dict[str, Any], tmp_path: Path) -> None:
    assert outside(expected, run(tmp_path)) == set()


# Faults on purpose, through the code that measures and the command line


def test_swapped_colours_of_a_method_are_caught(expected: dict[str, Any], tmp_path: Path, gate: Gate) -> None:
    def swap(folder: Path) -> None:
        for path in list_pictures(folder / "fse"):
            write_picture(read_picture(path).flip(0), path)

    code, text = gate(expected, run(tmp_path, swap))
    assert code == 1
    assert rows_of(text) == {("fse", metric) for metric in ("ssim", "psnr", "mse")}


def test_colours_swapped_in_every_picture_are_caught(
    assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gate: Gate
) -> None:
    """By the perceptual distance alone: the pixel metrics are means over channels and cannot see it."""
    perceptual = STLPIPSDistance(STLPIPS.load(assets / "stlpips/alex_shift_tolerant.pth"))
    run(tmp_path)
    results = []
    for flipped in (False, True):
        if flipped:
            monkeypatch.setattr(measurement, "read_picture", lambda path, side: read_picture(path, side).flip(0))
        results.append(measured(tmp_path, Suite([PSNR(), perceptual]), ("fse", "psp"), 48))
    code, text = gate(*results)
    assert code == 1
    assert rows_of(text) <= {("fse", "st_lpips"), ("psp", "st_lpips")}
    assert rows_of(text)


@pytest.mark.parametrize("metric", ["psnr", "ssim", "mse"])
def test_a_metric_in_the_wrong_range_is_caught(
    metric: str, expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gate: Gate
) -> None:
    """PSNR of the peak 1 on [-1, 1] (6.02 dB low), SSIM of 0...255 with the constants of [0, 1], MSE on [0, 1]."""

    def of_peak_1(self: PSNR, source: Tensor, found: Tensor) -> Outcome:
        return Outcome({"psnr": (-10 * (source - found).double().square().mean((1, 2, 3)).log10()).tolist()})

    def on_unit_range(self: MSE, source: Tensor, found: Tensor) -> Outcome:
        return Outcome({"mse": ((source - found) / 2).double().square().mean((1, 2, 3)).tolist()})

    def of_bytes(pictures: Tensor, value_range: tuple[float, float]) -> Tensor:
        return (pictures.double() + 1) * 127.5

    if metric == "ssim":

        def in_bytes(call: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*arguments: Any) -> Any:
                with monkeypatch.context() as patch:
                    patch.setattr(pixel, "_unit", of_bytes)
                    return call(*arguments)

            return wrapped

        monkeypatch.setattr(SSIM, "features", in_bytes(SSIM.features))
        monkeypatch.setattr(SSIM, "compare", in_bytes(SSIM.compare))
    else:
        monkeypatch.setattr(*((PSNR, "compare", of_peak_1) if metric == "psnr" else (MSE, "compare", on_unit_range)))
    code, text = gate(expected, run(tmp_path))
    assert code == 1
    assert rows_of(text) == {("fse", metric), ("psp", metric)}


def test_an_encoder_with_shuffled_weights_is_caught(assets: Path, weights: Path, tmp_path: Path, gate: Gate) -> None:
    """The shipped encoder on two photographs, and again with the numbers of every tensor in another order."""
    for name, box in {"astronaut.png": (60, 0, 380, 320), "t1.jpg": (820, 20, 1050, 250)}.items():
        photograph = Image.open(assets / "photographs" / name).convert("RGB").crop(box).resize((256, 256))
        (tmp_path / "test").mkdir(exist_ok=True)
        photograph.save(tmp_path / "test" / f"{Path(name).stem}.png")
    shuffled = tmp_path / "weights"
    shuffled.mkdir()
    shutil.copy(weights / "picture_head.safetensors", shuffled)
    with safe_open(weights / "fse.safetensors", "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    random = torch.Generator().manual_seed(0)
    for name, tensor in tensors.items():
        tensors[name] = tensor.flatten()[torch.randperm(tensor.numel(), generator=random)].view_as(tensor)
    save_file(tensors, shuffled / "fse.safetensors", metadata)
    results = []
    for folder in (weights, shuffled):
        invert_pictures(list_pictures(tmp_path / "test"), tmp_path / "fse", "fse", Profile(assets, folder))
        results.append(measured(tmp_path, Suite([SSIM(), PSNR(), MSE()]), ("fse",), 256))
    code, text = gate(*results)
    assert code == 1
    assert rows_of(text) == {("fse", metric) for metric in ("ssim", "psnr", "mse")}


def test_a_missing_picture_is_caught(expected: dict[str, Any], tmp_path: Path, gate: Gate) -> None:
    code, text = gate(expected, run(tmp_path / "a", lambda folder: (folder / "psp/00002.png").unlink()))
    assert code == 1
    assert "psnr, used" in text
    assert {where for where, _ in rows_of(text)} == {"psp"}
    fewer = run(tmp_path / "b", lambda folder: (folder / "test/00002.png").unlink())
    code, text = gate(expected, fewer)
    assert code == 1
    assert ("renders", "pictures", "count") in outside(expected, fewer)


def test_shuffled_pictures_are_caught(expected: dict[str, Any], tmp_path: Path) -> None:
    def shuffle(folder: Path) -> None:
        paths = [folder / "fse" / f"{name}.png" for name in NAMES]
        contents = [path.read_bytes() for path in paths]
        for path, content in zip(paths, contents[1:] + contents[:1], strict=True):
            path.write_bytes(content)

    assert ("renders / fse", "psnr", "moved") in outside(expected, run(tmp_path, shuffle))


def test_values_in_the_wrong_place_or_range_are_caught(expected: dict[str, Any]) -> None:
    methods = expected["sets"]["renders"]["methods"]

    def changed(change: Callable[[dict[str, Any]], object]) -> set[tuple[str, str, str]]:
        measured = copy.deepcopy(expected)
        change(measured["sets"]["renders"]["methods"])
        return outside(expected, measured)

    def unit_range(found: dict[str, Any]) -> None:  # MSE on [0, 1], PSNR with a peak squared of 2 (3.01 dB low)
        found["fse"]["mse"]["mean"] /= 4
        found["psp"]["psnr"]["mean"] -= 3.0103

    assert changed(unit_range) == {("renders / fse", "mse", "moved"), ("renders / psp", "psnr", "moved")}
    swapped = changed(lambda found: found.update(fse=methods["psp"], psp=methods["fse"]))
    assert len(swapped) == 6
    assert changed(lambda found: found["fse"].pop("ssim")) == {("renders / fse", "ssim", "missing")}
    assert changed(lambda found: found.pop("psp")) == {("renders / psp", "method", "missing")}
    for nothing in (None, float("nan")):
        assert changed(lambda found, value=nothing: found["fse"]["psnr"].update(mean=value))  # type: ignore[misc]
    assert outside(expected, {"sets": {}}) == {("renders", "set", "missing")}


def test_the_bound_is_absolute_plus_relative_and_inclusive() -> None:
    def one(expected: float | None, measured: float | None, **tolerance: float) -> Difference:
        results = [{"sets": {"s": {"n": 1, "methods": {"m": {"x": {"mean": mean}}}}}} for mean in (expected, measured)]
        return compare(results[0], results[1], {"x": Tolerance(**tolerance)})[1]

    assert one(2.0, 2.75, absolute=0.25, relative=0.25).inside
    assert not one(2.0, 2.76, absolute=0.25, relative=0.25).inside
    assert one(-2.0, -2.75, absolute=0.25, relative=0.25).inside
    assert one(1.0, 1.0).inside
    assert not one(1.0, 1.0 + 1e-12).inside
    assert one(None, None).inside
    assert not one(None, 1.0, absolute=9).inside


def test_what_the_record_lacks_is_told_and_passes(expected: dict[str, Any]) -> None:
    measured = copy.deepcopy(expected)
    measured["sets"]["renders"]["methods"]["mine"] = {"psnr": {"mean": 1.0}}
    assert outside(expected, measured) == set()
    assert additions(expected, measured) == ["renders / mine / psnr"]


def test_mistakes_in_the_files_are_refused(expected: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no entry for 'mse'"):
        compare(expected, expected, {key: TOLERANCES[key] for key in ("ssim", "psnr")})
    with pytest.raises(Refusal, match=r"not of the form of table1\.json"):
        compare({"sets": {"renders": {"methods": {}}}}, expected, TOLERANCES)
    path = tmp_path / "params.yaml"
    for text, message in {
        "tolerance: {psnr: {absolut: 1}}": r"tolerance\.psnr has the unknown key 'absolut'",
        "tolerance: {psnr: 0.1}": r"tolerance\.psnr is 0\.1",
        "tolerance: {psnr: {relative: -1}}": r"both >= 0",
        "tolerance: {psnr: {relative: 1e-3}}": r"tolerance\.psnr is .*'1e-3'",  # YAML 1.1 reads it as text
        "train: {}": "has no mapping 'tolerance'",
        "tolerance: [": "cannot be understood",
    }.items():
        path.write_text(text)
        with pytest.raises(Refusal, match=message):
            read_tolerances(path)


def test_the_command_line(expected: dict[str, Any], gate: Gate) -> None:
    code, text = gate(expected, expected)
    assert code == 0
    assert "all 25 quantities" in " ".join(text.split())
    moved = copy.deepcopy(expected)
    moved["sets"]["renders"]["methods"]["fse"]["psnr"]["mean"] += 0.0125
    moved["sets"]["renders"]["methods"]["psp"]["psnr"]["mean"] -= 0.02
    found = nearest(compare(expected, moved, TOLERANCES))
    assert {metric: each.used for metric, each in found.items()} == pytest.approx({"ssim": 0, "psnr": 0.4, "mse": 0})
    code, text = gate(expected, moved)
    assert code == 0
    assert re.search(r"psnr +renders / psp +\S+ +-0\.02 +40\.0%", text)
    moved = copy.deepcopy(expected)
    moved["sets"]["renders"]["methods"]["fse"]["psnr"]["mean"] += 0.06
    code, text = gate(expected, moved)
    assert code == 1
    assert "renders / fse" in text
    assert "0.06" in text
    assert "1 of 25 quantities" in " ".join(text.split())
    code, text = gate([], expected)
    assert code == 2
    assert text.startswith("error: ")
