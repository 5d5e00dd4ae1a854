"""The gate lets the same values pass and catches what it is there for."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from eval import measurement
from eval.metrics.pixel import MSE, PSNR, SSIM
from eval.metrics.suite import Suite
from eval.table1 import Places, render
from eval.tolerance import Difference, Tolerance, additions, compare, main, read_tolerances
from fse.pictures import write_picture
from fse.refusal import Refusal

TOLERANCES = {
    "ssim": Tolerance(absolute=0.002),
    "psnr": Tolerance(absolute=0.05),
    "mse": Tolerance(relative=0.02),
}
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
    suite = Suite([SSIM(), PSNR(), MSE()])
    sources = sorted((folder / "test").glob("*.png"))
    measurement.measure(sources, {method: folder / method for method in ("fse", "psp")}, suite, resolution=48)
    places = Places(reports=folder / "reports")
    measurement.write(suite, "renders", places.measurements)
    render(places, {}, sets=["renders"])
    results: dict[str, Any] = json.loads((places.reports / "table1.json").read_text())
    return results


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(tmp_path_factory.mktemp("expected"))


def outside(expected: Any, measured: Any) -> set[tuple[str, str, str]]:
    differences = compare(expected, measured, TOLERANCES)
    return {(d.where, d.quantity, d.reason) for d in differences if not d.inside}


def test_the_same_run_agrees(expected: dict[str, Any], tmp_path: Path) -> None:
    assert outside(expected, run(tmp_path)) == set()


def test_swapped_colours_are_caught(expected: dict[str, Any], tmp_path: Path) -> None:
    def swap(folder: Path) -> None:
        for name, picture in zip(NAMES, pictures(0).flip(1), strict=True):
            write_picture(picture, folder / "fse" / f"{name}.png")

    found = outside(expected, run(tmp_path, swap))
    assert {("renders / fse", metric, "moved") for metric in ("ssim", "psnr", "mse")} == found


def test_missing_pictures_are_caught(expected: dict[str, Any], tmp_path: Path) -> None:
    found = outside(expected, run(tmp_path / "a", lambda folder: (folder / "psp/00002.png").unlink()))
    assert ("renders / psp", "psnr, used", "count") in found
    assert not any(where == "renders / fse" for where, _, _ in found)
    fewer = run(tmp_path / "b", lambda folder: (folder / "test/00002.png").unlink())
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


def test_the_command_line(
    expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gate(expected: Any, measured: Any) -> tuple[int, str]:
        for name, content in {"expected.json": expected, "measured.json": measured}.items():
            (tmp_path / name).write_text(json.dumps(content))
        tolerances = {"ssim": {"absolute": 0.002}, "psnr": {"absolute": 0.05}, "mse": {"relative": 0.02}}
        (tmp_path / "p.yaml").write_text(yaml.safe_dump({"tolerance": tolerances}))
        files = {"--expected": "expected.json", "--measured": "measured.json", "--params": "p.yaml"}
        options = [text for option, file in files.items() for text in (option, str(tmp_path / file))]
        monkeypatch.setattr(sys, "argv", ["tolerance", *options])
        code = 0
        try:
            main()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    code, text = gate(expected, expected)
    assert code == 0
    assert "all 25 quantities" in " ".join(text.split())
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
