"""From pictures in folders to Table 1: what is measured, what is printed, and what happens to broken pictures."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from PIL import Image, ImageFilter
from rich.console import Console
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from eval import measurement, table1
from eval.contest import Places
from eval.measurement import Parts
from eval.metrics.identity import FaceDescriptor, mean_descriptor
from eval.metrics.pixel import MSE, PSNR, SSIM
from eval.metrics.suite import Part, Suite
from eval.profile import Profile
from eval.table1 import Judged, evaluate, evaluate_own, published, render
from eval.tables import Column, Estimate, Row, Table, TextTable
from fse.alignment import FaceAligner, align_every_face
from fse.inversion import Inversion
from fse.pictures import PictureFolder, batches
from fse.refusal import Refusal

BLUR = {"fse": 1.0, "psp": 4.0}  # what stands for an inversion here: the better method blurs less
SOURCES = {"renders": ["astronaut", "t1_0"], "photographs": ["t1_2", "t1_4", "t1_5"]}


@dataclass
class Blurring:
    """A user's own method: it knows no codes and returns what it is given, blurred."""

    sigma: float

    def invert(self, pictures: Tensor) -> Inversion:
        return Inversion(torch.zeros(len(pictures), 1, 512), None, gaussian_blur(pictures, [31, 31], self.sigma))

    def edit(self, inversion: Inversion, direction: Tensor, strength: float) -> Tensor:
        return inversion.picture


@dataclass(frozen=True)
class BlurringProfile(Profile):
    """The embedded profile with methods that need no training."""

    def method(self, name: str, generator: object = None) -> Blurring:  # type: ignore[override]
        return Blurring(BLUR[name])


@pytest.fixture(scope="module")
def faces(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``test/SET/NAME.png``, ``test/mean_descriptor.json`` and ``inversions/METHOD/SET/NAME.png``."""
    root = tmp_path_factory.mktemp("faces")
    photographs = [assets / "photographs" / name for name in ("astronaut.png", "t1.jpg")]
    aligner = FaceAligner(assets / "dlib/shape_predictor_68_face_landmarks.dat")
    aligned = align_every_face(photographs, aligner)
    for name, pictures in SOURCES.items():
        for folder in (root / "test" / name, *(root / "inversions" / method / name for method in BLUR)):
            folder.mkdir(parents=True)
        for picture in pictures:
            aligned[picture].save(root / "test" / name / f"{picture}.png")
            for method, sigma in BLUR.items():
                blurred = aligned[picture].filter(ImageFilter.GaussianBlur(sigma))
                blurred.save(root / "inversions" / method / name / f"{picture}.png")
    streamed = (pictures for _, (pictures,) in batches(2, PictureFolder(root / "test/renders")))
    mean_descriptor(streamed, FaceDescriptor(assets / "dlib")).write(root / "test/mean_descriptor.json")
    return root


@pytest.fixture(scope="module")
def measured(faces: Path, assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Places:
    """Both sets measured with every metric, and rendered."""
    places = Places(faces / "test", faces / "inversions", tmp_path_factory.mktemp("reports"))
    evaluate(places, Profile(assets))
    render(places, {"code": {}})
    return places


def pixel_suite() -> Suite:
    return Suite([SSIM(), PSNR(), MSE()])


def test_the_files_hold_what_was_measured(measured: Places) -> None:
    results = json.loads((measured.reports / "table1.json").read_text())
    assert results["profile"] == "embedded"
    sheet = list(csv.DictReader(io.StringIO((measured.reports / "table1.csv").read_text())))
    text = (measured.reports / "table1.md").read_text()
    for name, pictures in SOURCES.items():
        rows = pd.read_csv(measured.measurements / f"{name}.csv")
        assert results["sets"][name]["n"] == len(pictures)
        assert sorted(rows["picture"].unique()) == sorted(pictures)
        assert set(rows["status"]) == {"ok"}
        for method in BLUR:
            cells = results["sets"][name]["methods"][method]
            assert {"ssim", "psnr", "mse", "st_lpips", "id", "fd_effnet"} <= set(cells)
            for metric in ("ssim", "psnr", "mse", "st_lpips", "id", "id_same"):
                mean = rows[rows["method"] == method][metric].mean()
                assert cells[metric]["mean"] == pytest.approx(mean, rel=1e-6)
                assert cells[metric]["low"] <= cells[metric]["mean"] <= cells[metric]["high"]
            line = next(line for line in sheet if (line["set"], line["method"]) == (name, method))
            assert float(line["psnr_low"]) == pytest.approx(cells["psnr"]["low"], rel=1e-6)
            assert f"{cells['psnr']['mean']:.2f}" in text
        ours, theirs = (results["sets"][name]["methods"][method] for method in ("fse", "psp"))
        assert ours["psnr"]["mean"] > theirs["psnr"]["mean"]
        assert ours["st_lpips"]["mean"] < theirs["st_lpips"]["mean"]
        assert f"**{ours['psnr']['mean']:.2f}**" in text  # the best is bold, the other is not
        assert f"**{theirs['psnr']['mean']:.2f}**" not in text
    assert f"{len(SOURCES['photographs'])} pictures expected, 3 used, 0 failed" in text
    assert "FD-EffNet not computed: 3 pictures" in text  # a Fréchet distance of three pictures is none


def test_published_values_stand_apart_and_are_labelled(measured: Places) -> None:
    text = (measured.reports / "table1.md").read_text().partition("####")[0]
    assert published().notes[0] in text
    text = text.replace(published().notes[0], "")
    assert "CelebA-HQ, StyleGAN2 1024: other data" in text
    assert "*paper: LPIPS ↓*" in text
    assert " LPIPS ↓" not in text.replace("*paper: LPIPS ↓*", "").replace("ST-LPIPS ↓", "")
    assert "FID" not in text.replace("*paper: FID ↓*", "")
    row = next(line for line in text.splitlines() if line.startswith("| FSE, G(F, w)"))
    assert row.endswith("| *0.641* | *23.65* | *0.019* | *0.066* | *0.80* | *19.03* |")
    tex = (measured.reports / "table1.tex").read_text()
    assert tex.index("FSE, G(F, w)") < tex.index("other data") < tex.index("19.03")


def test_the_published_rows_are_consistent() -> None:
    """Mean PSNR is at most the PSNR of the mean MSE (Jensen), so MSE on [-1, 1] is at least 4 * 10^(-PSNR / 10)."""
    rows = published().rows
    assert len(rows) == 6
    for row in rows:
        psnr, mse = row.cells["psnr"].mean, row.cells["mse"].mean
        assert psnr is not None
        assert mse is not None
        assert 1 <= mse / (4 * 10 ** (-psnr / 10)) < 1.4


def test_rendering_repeats_itself_and_names_no_machine_paths(measured: Places, tmp_path: Path) -> None:
    again = Places(reports=tmp_path)
    shutil.copytree(measured.measurements, again.measurements)
    render(again, {"code": {}})
    for suffix in ("json", "md", "csv", "tex"):
        first = (measured.reports / f"table1.{suffix}").read_bytes()
        assert first == (again.reports / f"table1.{suffix}").read_bytes()
        assert str(measured.reports).encode() not in first


def test_the_size_of_a_batch_changes_nothing(faces: Path) -> None:
    found = []
    for batch in (1, 2, 16):
        suite = pixel_suite()
        sources = sorted((faces / "test/photographs").iterdir())
        folders = {method: faces / "inversions" / method / "photographs" for method in BLUR}
        measurement.measure(sources, folders, suite, resolution=256, batch=batch)
        found.append(suite.compute().pictures)
    for other in found[1:]:
        pd.testing.assert_frame_equal(found[0], other, rtol=1e-9)


def test_broken_pictures_are_named_and_the_others_go_on(faces: Path, tmp_path: Path) -> None:
    root = tmp_path / "faces"
    shutil.copytree(faces, root)
    folder = "photographs"
    torn = root / f"inversions/psp/{folder}/t1_4.png"
    torn.write_bytes(torn.read_bytes()[:9000])
    (root / f"inversions/fse/{folder}/t1_2.png").unlink()
    suite = pixel_suite()
    sources = sorted((root / "test" / folder).iterdir())
    measurement.measure(sources, {m: root / "inversions" / m / folder for m in BLUR}, suite, resolution=256)
    results = measurement.write(suite, folder, tmp_path / "measurements")
    assert results.n == 3
    for method in BLUR:
        cell = results.methods[method]["psnr"]
        assert (cell["expected"], cell["used"], cell["failed"]) == (3, 2, 1)
    assert {(each["picture"], each["method"]) for each in results.failures} == {("t1_4", "psp"), ("t1_2", "fse")}
    assert measurement.read(folder, tmp_path / "measurements")[0] == results
    text = table1.table_of(Judged.read(folder, Places(reports=tmp_path))).markdown()
    assert "3 pictures expected, 2 used, 1 failed." in text
    assert re.search(r"^- t1_4 by pSp: .*t1_4\.png cannot be read", text, re.MULTILINE)


def test_a_method_on_a_subset_is_stated_and_competes_with_nobody(faces: Path, tmp_path: Path) -> None:
    suite, folder = pixel_suite(), "photographs"
    sources = sorted((faces / "test" / folder).iterdir())
    folders = {method: faces / "inversions" / of / folder for method, of in {"wplus": "fse", "psp": "psp"}.items()}
    measurement.measure(sources, folders, suite, resolution=256, batch=2, subsets={"wplus": 1, "e4e": 1})
    results = measurement.write(suite, folder, tmp_path / "measurements")
    assert results.failures == []
    assert (results.methods["wplus"]["psnr"]["expected"], results.methods["psp"]["psnr"]["expected"]) == (1, 3)
    assert results.methods["wplus"]["psnr"]["mean"] > results.methods["psp"]["psnr"]["mean"]
    table = table1.table_of(Judged.read(folder, Places(reports=tmp_path)))
    assert [row.name for row in table.rows] == ["W+ optimisation (first 1)", "pSp"]
    assert table.best(table.columns[1]) == frozenset()  # a lone competitor is not best
    text = table.markdown()
    assert "was run on the first 1 by name only" in text
    assert "failed for W+ optimisation" not in text


def test_a_larger_budget_competes_with_nobody(faces: Path, tmp_path: Path) -> None:
    suite, folder = pixel_suite(), "photographs"
    sources = sorted((faces / "test" / folder).iterdir())
    # The longer trainings are the best by far, of the baseline too.
    of = {"psp": "psp", "hfgi_long": "fse", "fse_long": "fse", "fse": "psp"}
    folders = {method: faces / "inversions" / name / folder for method, name in of.items()}
    measurement.measure(sources, folders, suite, resolution=256)
    results = measurement.write(suite, folder, tmp_path / "measurements")
    assert results.methods["fse_long"]["psnr"]["mean"] > results.methods["fse"]["psnr"]["mean"]
    judged = Judged.read(folder, Places(reports=tmp_path))
    assert {(each.method, each.other) for each in judged.comparisons} == {("fse", "psp")}
    table = table1.table_of(judged)
    assert [row.key for row in table.rows] == ["psp", "hfgi_long", "fse_long", "fse"]
    assert all(table.best(column) == {"psp", "fse"} for column in table.columns)  # the same pictures
    assert "HFGI (2x budget); FSE (4x budget), G(F, w) had a larger budget than the others" in table.markdown()


def test_what_was_stopped_goes_on_where_it_was(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the second batch, then called again: the first is not measured anew, and the files are the same."""
    calls: list[list[str]] = []
    stop = False

    class Stoppable(Suite):
        def measure(self, names: Sequence[str], *rest: Any) -> Part:
            if stop and calls:
                raise KeyboardInterrupt
            calls.append(list(names))
            return super().measure(names, *rest)

    def run(name: str) -> Places:
        places = Places(faces / "test", faces / "inversions", tmp_path / name)
        evaluate(places, Profile(), sets=["photographs"], methods=["psp", "fse"], batch=1, subsets={"fse": 2})
        return places

    monkeypatch.setattr(Profile, "suite", lambda *_: Stoppable([SSIM(), PSNR(), MSE()]))
    whole = run("whole").measurements
    calls.clear()
    stop = True
    with pytest.raises(KeyboardInterrupt):
        run("stopped")
    assert calls == [["t1_2"]]
    stop = False
    calls.clear()
    stopped = run("stopped").measurements
    assert calls == [["t1_4"], ["t1_5"]]
    for suffix in ("csv", "json"):
        name = f"photographs.{suffix}"
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()
    assert sorted(path.name for path in stopped.iterdir() if any(path.iterdir() if path.is_dir() else [path])) == [
        "photographs.csv",
        "photographs.json",
    ]


def test_parts_belong_to_the_pictures_and_the_code(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"1")
    found = {"psp": [picture]}
    first = Parts(tmp_path / "parts", "code")
    path = first.path([picture], found)
    rows: dict[tuple[str, str], dict[str, float | str]] = {("a", "psp"): {"psnr": 20.5, "status": "id: no face"}}
    first.write(path, [Part(rows, {("fd", "psp"): torch.ones(2, 1, 3)})])
    [read] = first.read(path) or []
    assert read.rows == rows
    assert torch.equal(read.features["fd", "psp"], torch.ones(2, 1, 3))
    assert Parts(tmp_path / "parts", "other code").path([picture], found) != path
    assert first.path([picture], {"e4e": [picture]}) != path
    path.write_bytes(path.read_bytes()[:40])
    assert first.read(path) is None
    picture.write_bytes(b"2")
    assert first.path([picture], found) != path
    first.remove()
    assert not (tmp_path / "parts").exists()


def test_the_command_line(
    faces: Path, assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    for name, target in {"assets": assets, "test": faces / "test", "inversions": faces / "inversions"}.items():
        (tmp_path / "data" / name).symlink_to(target)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    arguments = ["table1", "--sets", "renders", "--methods", "psp,fse", "--limit", "1", "--processes", "1"]
    monkeypatch.setattr(sys, "argv", arguments)
    table1.main()
    printed = capsys.readouterr().out
    assert "manifold: 1 picture " in printed
    assert max(map(len, printed.splitlines())) <= 80
    results = json.loads((tmp_path / "reports/table1.json").read_text())
    assert results["sets"]["renders"]["n"] == 1
    assert re.fullmatch("[0-9a-f]{64}", results["provenance"]["inputs"]["assets"])

    for options, expected in {
        ("--methods", "e4e"): "weights/picture_head.safetensors",
        ("--sets", "cats"): "run `dvc repro data`, which makes it",
        ("--limit", "0"): "--limit is 0: give at least 1",
        ("--processes", "0"): "--processes is 0: give at least 1",
        ("--device", "abacus"): "the device abacus cannot be used",
    }.items():
        monkeypatch.setattr(sys, "argv", ["table1", "--sets", "renders", *options])
        with pytest.raises(SystemExit) as exit_:
            table1.main()
        assert exit_.value.code == 2
        assert expected in capsys.readouterr().err


def test_own_pictures(faces: Path, assets: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    shutil.copy(faces / "test/renders/astronaut.png", mine / "good.png")
    shutil.copy(faces / "test/renders/t1_0.png", mine / "good.jpeg")  # the same name but for the suffix
    Image.open(mine / "good.png").resize((300, 200)).save(mine / "oblong.webp")
    Image.open(mine / "good.png").save(mine / "old.bmp")
    (mine / "torn.jpg").write_bytes((assets / "photographs/t1.jpg").read_bytes()[:5000])
    (mine / "notes.txt").write_text("not a picture")
    places = Places(faces / "test", reports=tmp_path / "out")
    name = evaluate_own(mine, places, BlurringProfile(assets), methods=["psp", "fse"])
    [table] = render(places, {}, sets=[name]).tables
    results, _ = measurement.read(name, places.measurements)
    assert {each["picture"] for each in results.failures} == {"good.png", "oblong.webp", "old.bmp", "torn.jpg"}
    assert results.methods["psp"]["psnr"]["used"] == 1
    assert table.best(table.columns[0]) == {"fse"}
    assert (places.reports / "inversions/fse/good.png").exists()
    for method in ("good.png", "good.jpeg"):
        (mine / method).unlink()
    with pytest.raises(Refusal, match=r"none of the 3 pictures of .*mine can be used; the first: .*old\.bmp"):
        evaluate_own(mine, places, BlurringProfile(assets), methods=["psp"])


def test_own_pictures_aligned(faces: Path, assets: Path, tmp_path: Path) -> None:
    places = Places(faces / "test", reports=tmp_path)
    name = evaluate_own(assets / "photographs", places, BlurringProfile(assets), methods=["fse"], align=True)
    results, pictures = measurement.read(name, places.measurements)
    assert results.n == 7
    assert set(pictures["status"]) == {"ok"}
    aligned, expected = (
        Image.open(p).tobytes() for p in (tmp_path / "pictures/t1_2.png", faces / "test/photographs/t1_2.png")
    )
    assert aligned == expected


def test_rounding_decides_ties_and_a_lone_method_is_not_best() -> None:
    column = Column("mse", "MSE", higher_is_better=False, decimals=3)
    rows = [
        Row(key, key, {"mse": Estimate(mean)}) for key, mean in {"a": 0.0191, "b": 0.0194, "c": 0.02, "d": None}.items()
    ]
    assert Table("t", "T", [column], rows).best(column) == {"a", "b"}
    assert Table("t", "T", [column], rows[2:]).best(column) == frozenset()


def test_names_from_outside_cannot_break_the_tables() -> None:
    column = Column("id", "ID_50% & {x}", higher_is_better=True, decimals=2)
    rows = [Row("m", r"a|b_c ^ ~ \x [bold]", {"id": Estimate(-0.051, -0.2, 0.1)}), Row("n", "n", {})]
    table = Table("t", "100 % #1 $5", [column], rows, notes=["1 < 2"], failures=["[red]x"])
    tex = table.latex()
    assert r"ID\_50\% \& \{x\} $\uparrow$" in tex
    assert r"a|b\_c \textasciicircum{} \textasciitilde{} \textbackslash{}x [bold] & $-$0.05 \\" in tex
    assert "[$-$0.20, 0.10]" in tex
    assert tex.count("{") - tex.count(r"\{") == tex.count("}") - tex.count(r"\}")
    assert r"a\|b_c" in table.markdown()
    console = Console(file=io.StringIO(), width=120)
    console.print(table.rich(120))
    assert "[bold]" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "[red]x" in console.file.getvalue()  # type: ignore[attr-defined]
    further = TextTable("k", "T_1", ["A & b", "c"], [["x|y", "[bold] 5 %"]], ["n_1 > 2"])
    assert r"A \& b & c \\" in further.latex()
    assert r"x\|y" in further.markdown()
    console.print(further.rich())
    assert "[bold] 5 %" in console.file.getvalue()  # type: ignore[attr-defined]


def test_the_transcription_states_its_source() -> None:
    paper = yaml.safe_load((Path(table1.__file__).with_name("published.yaml")).read_text())["table1"]
    assert paper["label"] == "CelebA-HQ, StyleGAN2 1024: other data"
    assert "2202.02183" in paper["source"]
