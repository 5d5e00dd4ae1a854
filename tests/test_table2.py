"""From frames in folders to Table 2: clips are what is averaged and tested, and nothing is lost in silence."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from skimage import data
from torchvision.transforms.functional import gaussian_blur

from eval import clip_measurement, measurement, table2
from eval.clip_measurement import per_clip
from eval.clips import SourceClip, frames_of, number_of, read_clips
from eval.contest import Places
from eval.figures.filmstrip import filmstrip, shown_frames
from eval.figures.looping_clip import LARGEST, write_looping_clip
from eval.figures.style import save
from eval.measurement import Parts
from eval.metrics.clip_suite import ClipSuite
from eval.metrics.identity import MeanDescriptor
from eval.metrics.metric import PICTURE_RANGE
from eval.metrics.pixel import mse
from eval.profile import Profile
from eval.table2 import Judgement, evaluate, illustrate, render, section, tables_of
from fse.pictures import read_picture, write_picture
from fse.refusal import Refusal
from pipelines import invert_clips
from tests.conftest import ROOT
from tests.small_suite import small_clip_suite

CLIPS, FRAMES, SIDE = 3, 4, 192
BLUR = {"fse": 1.0, "psp": 3.0}  # what stands for an inversion here: the better method blurs less


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``clips/``, ``clip_inversions/METHOD/`` and ``test/mean_descriptor.json``: a face that moves in three ways. Frame
    2 of clip 02 is missing, a gap; the last frames of clip 01 are called extreme."""
    root = tmp_path_factory.mktemp("clips")
    picture = torch.from_numpy(data.astronaut()).permute(2, 0, 1).float() / 127.5 - 1
    record: dict[str, Any] = {"rate": 25, "clips": {}}
    for clip in range(CLIPS):
        name = f"{clip:02}"
        numbers = [n for n in range(FRAMES + (clip == 2)) if (clip, n) != (2, 2)]
        stems = [f"{name}_{n:03}" for n in numbers]
        entry = {"frames": stems, "extreme": stems[-2:] if clip == 1 else [], "interpolated": [], "gaps": []}
        record["clips"][name] = entry
        for stem in stems:
            y, x = 20 + 3 * clip, 120 + clip * number_of(stem)
            frame = picture[:, y : y + SIDE, x : x + SIDE]
            write_picture(frame, root / "clips/frames" / f"{stem}.png")
            for method, sigma in BLUR.items():
                blurred = gaussian_blur(frame, [31, 31], sigma)
                write_picture(blurred, root / "clip_inversions" / method / f"{stem}.png")
    (root / "clips/clips.json").write_text(json.dumps(record))
    (root / "test").mkdir()
    MeanDescriptor(np.full(128, 0.02), count=1).write(root / "test/mean_descriptor.json")
    return root


def places_of(root: Path, reports: Path) -> Places:
    return Places(root / "test", reports=reports, clips=root / "clips", clip_inversions=root / "clip_inversions")


@pytest.fixture(scope="module")
def measured(root: Path, assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Places:
    """With every metric, rendered and illustrated."""
    places = places_of(root, tmp_path_factory.mktemp("reports"))
    evaluate(places, Profile(assets, resolution=SIDE))
    render(places, {"code": {}})
    illustrate(places, resolution=SIDE)
    return places


def quick(root: Path, folder: Path, **options: Any) -> None:
    folders = {method: root / "clip_inversions" / method for method in BLUR}
    clip_measurement.measure(
        read_clips(root / "clips"), folders, small_clip_suite(), folder, resolution=SIDE, **options
    )


def test_means_are_over_clips_of_means_over_frames(measured: Places, root: Path) -> None:
    results = json.loads((measured.reports / "table2.json").read_text())
    frames = pd.read_csv(measured.measurements / "clips.csv")
    assert len(frames) == len(BLUR) * CLIPS * FRAMES
    assert results["frames"] == {
        "frames": 12, "fewest": 4, "most": 4, "extreme": 2, "interpolated": 0, "without_crop": 1,
    }  # fmt: skip
    for method, sigma in BLUR.items():
        of_one = frames[frames["method"] == method]
        cells = results["sets"]["clips"]["methods"][method]
        for metric in ("ssim", "psnr", "mse", "st_lpips", "id"):
            clips = of_one.groupby(of_one["picture"].str[:2])[metric].mean()
            assert cells[metric]["mean"] == pytest.approx(clips.mean(), rel=1e-5)
            assert clips.min() - 1e-5 <= cells[metric]["low"] <= cells[metric]["mean"] <= cells[metric]["high"]
            assert cells[metric]["high"] <= clips.max() + 1e-5
            assert (cells[metric]["expected"], cells[metric]["used"], cells[metric]["failed"]) == (3, 3, 0)
        errors = []
        for path in frames_of(read_clips(root / "clips")):
            x, y = (read_picture(p)[None] for p in (path, root / "clip_inversions" / method / path.name))
            errors.append(mse(x, y, value_range=PICTURE_RANGE).item())
        assert cells["mse"]["mean"] == pytest.approx(np.mean(errors), rel=1e-4)  # as many frames in every clip
        assert sigma > 0
    ours, theirs = (results["sets"]["clips"]["methods"][method] for method in ("fse", "psp"))
    assert ours["psnr"]["mean"] > theirs["psnr"]["mean"]
    assert "fd_effnet" not in ours  # frames of one clip are no sample of a distribution


def test_stability_stands_beside_the_sources_own(measured: Places) -> None:
    results = json.loads((measured.reports / "table2.json").read_text())
    clips = pd.read_csv(measured.measurements / "clips_temporal.csv", dtype={"picture": str})
    assert set(clips["method"]) == {*BLUR, "source"}
    assert set(results["sets"]["clips_temporal"]["methods"]) == set(BLUR)
    assert results["source"]["tl_id"]["mean"] == pytest.approx(1)
    assert results["source"]["added_jitter"]["mean"] == 0
    gappy = clips[(clips["picture"] == "02") & (clips["method"] == "fse")].iloc[0]
    assert (gappy["tl_id_expected"], gappy["added_jitter_expected"], gappy["tg_id_expected"]) == (2, 0, 6)
    assert np.isnan(gappy["added_jitter"])  # 0, 1 and 3, 4: no three frames in a row
    cell = results["sets"]["clips_temporal"]["methods"]["fse"]["added_jitter"]
    assert (cell["expected"], cell["used"], cell["failed"]) == (3, 2, 1)
    text = (measured.reports / "table2.md").read_text()
    missing = "Added jitter %, Motion followed"  # of clip 02, which has a gap, and of clip 00, which rests
    assert f"3 expected, 2 used, 1 failed for pSp: {missing}; FSE, G(F, w): {missing}." in text
    assert "TL-ID (dlib) 8, TG-ID (dlib) 18, Lowest ID (dlib) 12, Warping error ‰ 8, Added jitter % 4" in text
    assert "Every method used all of its pairs." in text
    own = next(line for line in text.splitlines() if line.startswith("| Source"))
    assert "**" not in own  # no competitor
    assert "Mean distance of TL-ID (dlib) from 1: pSp " in text


def test_published_values_and_claims_stand_apart(measured: Places) -> None:
    text = (measured.reports / "table2.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| FSE, G(F, w)"))
    assert row.endswith("| *0.818* | *26.64* | *0.009* | *0.122* | *0.895* |")
    assert "RAVDESS, StyleGAN2 1024: other data" in text
    assert " LPIPS ↓" not in text.replace("*paper: LPIPS ↓*", "").replace("ST-LPIPS ↓", "")
    results = json.loads((measured.reports / "table2.json").read_text())
    orders = results["sets"]["clips"]["orderings"]
    assert {order["metric"] for order in orders.values()} == {"ssim", "psnr", "mse", "st_lpips", "id"}
    assert all(len(order["claims"]) == 10 for order in orders.values())
    stability = results["sets"]["clips_temporal"]["orderings"]
    assert all(order["first_only"] and len(order["claims"]) == 4 for order in stability.values())
    assert "FSE, G(F, w) > each of HFGI, ReStyle (pSp), pSp, e4e" in text
    tex = (measured.reports / "table2.tex").read_text()
    assert tex.count(r"\begin{table}") == tex.count(r"\end{table}") == 7
    assert r"Warping error \textperthousand{}" in tex
    sheet = list(csv.DictReader(io.StringIO((measured.reports / "table2.csv").read_text())))
    assert [(line["set"], line["method"]) for line in sheet] == [
        ("clips", "psp"), ("clips", "fse"), ("clips_temporal", "source"), ("clips_temporal", "psp"),
        ("clips_temporal", "fse"),
    ]  # fmt: skip


def test_extreme_poses_are_held_against_the_other_frames_of_their_clips(measured: Places) -> None:
    judgement = Judgement.read(measured)
    extreme = tables_of(judgement)[0].under[-1]
    assert extreme.title == "Extreme poses"
    frames = judgement.frames[(judgement.frames["method"] == "fse") & (judgement.frames["picture"].str[:2] == "01")]
    means = frames.groupby("extreme")["psnr"].mean()
    row = next(row for row in extreme.rows if row[0] == "FSE, G(F, w)")
    assert list(row[1:3]) == [f"{means[False]:.2f}", f"{means[True]:.2f}"]
    assert list(row[-2:]) == ["2 / 2", "1"]


def test_rendering_repeats_itself(measured: Places, tmp_path: Path) -> None:
    again = replace(measured, reports=tmp_path)
    shutil.copytree(measured.measurements, again.measurements)
    render(again, {"code": {}})
    illustrate(again, resolution=SIDE)
    names = [*(f"table2.{suffix}" for suffix in ("json", "md", "csv", "tex")), "figure9.png", "figure9.pdf"]
    for name in [*names, *(f"clips/{path.name}" for path in (tmp_path / "clips").iterdir())]:
        first = (measured.reports / name).read_bytes()
        assert first == (again.reports / name).read_bytes(), name
        assert str(measured.reports).encode() not in first


def test_the_section_is_of_what_was_measured(measured: Places, tmp_path: Path) -> None:
    found = section(measured)
    assert found is not None
    assert [table.key for table in found.tables] == ["clips", "clips_temporal"]
    assert [each.path.name for each in found.illustrations] == ["figure9.png", "00.webp", "01.webp"]
    assert all(each.path.is_file() and each.alternative for each in found.illustrations)
    assert "of 50 claims 0 held" in found.introduction[1]  # three clips cannot tell
    assert section(replace(measured, reports=tmp_path)) is None


def test_broken_frames_are_named_and_the_others_go_on(root: Path, tmp_path: Path) -> None:
    broken = tmp_path / "clips"
    shutil.copytree(root, broken)
    torn = broken / "clip_inversions/psp/00_001.png"
    torn.write_bytes(torn.read_bytes()[:900])
    (broken / "clip_inversions/fse/01_003.png").unlink()
    quick(broken, tmp_path / "found")
    frames = pd.read_csv(tmp_path / "found/clips.csv").set_index(["picture", "method"])
    assert "00_001.png cannot be read" in frames.loc[("00_001", "psp"), "status"]
    assert "there is no picture" in frames.loc[("01_003", "fse"), "status"]
    assert (frames["status"] != "ok").sum() == 2
    assert frames["psnr"].isna().sum() == 2
    clips = pd.read_csv(tmp_path / "found/clips_temporal.csv", dtype={"picture": str}).set_index(["picture", "method"])
    assert clips.loc[("00", "psp"), ["warping_error_expected", "warping_error_used"]].tolist() == [3, 1]
    assert clips.loc[("00", "psp"), "status"] == "no frame of the reconstruction in frame 1"
    assert clips.loc[("00", "fse"), "status"] == "ok"
    failures = json.loads((tmp_path / "found/clips.json").read_text())["failures"]
    assert {(each["picture"], each["method"]) for each in failures} == {("00_001", "psp"), ("01_003", "fse")}
    shutil.rmtree(broken / "clip_inversions/psp")
    with pytest.raises(Refusal, match=r"nothing of 'psp' can be measured \(there is no picture .*00_000\.png"):
        quick(broken, tmp_path / "none")


def test_what_was_stopped_goes_on_where_it_was(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the second clip, then called again: the first is not measured anew, and the files are the same."""
    calls: list[str] = []
    stop = False

    class Stoppable(ClipSuite):
        def measure(self, name: str, *rest: Any) -> Any:
            if stop and calls:
                raise KeyboardInterrupt
            calls.append(name)
            return super().measure(name, *rest)

    suite = small_clip_suite()
    monkeypatch.setattr(Profile, "clip_suite", lambda *_: Stoppable(suite.frames, suite.metrics))

    def run(name: str) -> Path:
        places = places_of(root, tmp_path / name)
        evaluate(places, Profile(resolution=SIDE), subsets={"psp": 2})
        return places.measurements

    whole = run("whole")
    calls.clear()
    stop = True
    with pytest.raises(KeyboardInterrupt):
        run("stopped")
    assert calls == ["00"]
    stop = False
    calls.clear()
    stopped = run("stopped")
    assert calls == ["01", "02"]
    names = sorted(path.name for path in whole.iterdir() if path.is_file())
    assert names == ["clips.csv", "clips.json", "clips_temporal.csv", "clips_temporal.json"]
    for name in names:
        assert (whole / name).read_bytes() == (stopped / name).read_bytes()
    of_two = json.loads((whole / "clips.json").read_text())["methods"]["psp"]["psnr"]
    assert (of_two["expected"], of_two["used"]) == (2, 2)


def test_processes_give_the_numbers_of_one(root: Path, tmp_path: Path) -> None:
    broken = tmp_path / "clips"
    shutil.copytree(root, broken)
    (broken / "clip_inversions/psp/00_001.png").write_bytes(b"no picture")
    folders = {method: broken / "clip_inversions" / method for method in BLUR}
    clips, written = read_clips(broken / "clips"), []
    for processes in (1, 2):
        parts = Parts(tmp_path / f"parts{processes}", "code")
        options: dict[str, Any] = {"resolution": SIDE, "subsets": {"psp": 2}, "parts": parts}
        clip_measurement.measure_ahead(clips, folders, small_clip_suite, processes=processes, **options)
        files = {path: path.stat().st_mtime_ns for path in parts.folder.glob("*.pt")}
        assert len(files) == (CLIPS if processes > 1 else 0)
        out = tmp_path / f"out{processes}"
        clip_measurement.measure(clips, folders, small_clip_suite(), out, **options)
        # What the processes measured is not measured again.
        assert all(path.stat().st_mtime_ns == time for path, time in files.items())
        written.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert written[0] == written[1]
    assert len(written[0]) == 4


def test_frames_have_a_size_of_their_own(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pictures of that size are, a few at a time; the metrics over time, and what is missing, stay as they are."""
    monkeypatch.setattr(clip_measurement, "BATCH", 3)
    broken = tmp_path / "clips"
    shutil.copytree(root, broken)
    (broken / "clip_inversions/psp/00_001.png").write_bytes(b"no picture")
    size = (SIDE // 2, SIDE // 2 + 8)
    quick(broken, tmp_path / "same")
    quick(broken, tmp_path / "native", measured=size)
    same, native = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("same", "native")
    )
    assert same["clips_temporal.csv"] == native["clips_temporal.csv"]
    assert same["clips.csv"] != native["clips.csv"]
    frames = pd.read_csv(tmp_path / "native/clips.csv").set_index(["picture", "method"])
    assert "00_001.png" in str(frames.loc[("00_001", "psp"), "status"])
    assert frames["psnr"].notna().sum() == len(frames) - 1 == len(BLUR) * CLIPS * FRAMES - 1
    suite = small_clip_suite().frames
    sources = frames_of(read_clips(root / "clips"))
    measurement.measure(sources, {"fse": root / "clip_inversions/fse"}, suite, resolution=size)
    measurement.write(suite, "pictures", tmp_path)
    pictures = pd.read_csv(tmp_path / "pictures.csv").set_index(["picture", "method"])
    np.testing.assert_allclose(
        frames.xs("fse", level="method")[["psnr", "mse"]], pictures.xs("fse", level="method")[["psnr", "mse"]], 1e-5
    )


def test_clips_are_read_as_they_are_chosen(root: Path, tmp_path: Path) -> None:
    clips = read_clips(root / "clips")
    assert [clip.name for clip in clips] == ["00", "01", "02"]
    assert clips[2].numbers == (0, 1, 3, 4)
    last = read_clips(root / "clips", limit=2, frames=1)
    assert [path.stem for path in frames_of(last)] == ["00_003", "01_003"]
    assert last[1].extreme == {"01_003"}
    with pytest.raises(Refusal, match=r"there are no clips in .*: run `make repro`"):
        read_clips(tmp_path)
    for wrong in ("[]", '{"rate": 25, "clips": {"00": {"frames": ["01_000"]}}}', '{"clips": {}}', "{"):
        (tmp_path / "clips.json").write_text(wrong)
        with pytest.raises(Refusal, match=r"clips\.json (is no record of|names no) clips"):
            read_clips(tmp_path)
    (tmp_path / "clips.json").write_text('{"rate": 25, "clips": {"00": {"frames": ["00_000"]}}}')
    with pytest.raises(Refusal, match=r"the frame .*00_000\.png is missing"):
        read_clips(tmp_path)


def test_a_clip_means_over_the_frames_that_have_a_value() -> None:
    rows = {"picture": ["00_000", "00_001", "01_000"], "method": "fse", "psnr": [20.0, np.nan, 30.0]}
    rows |= {"extreme": False, "interpolated": False, "status": "ok"}
    found = per_clip(pd.DataFrame(rows))
    assert found[["picture", "psnr"]].to_numpy().tolist() == [["00", 20.0], ["01", 30.0]]
    assert "extreme" not in found


# Figures


def clip(count: int, extreme: int) -> SourceClip:
    paths = tuple(Path(f"07_{n:03}.png") for n in range(count))
    return SourceClip("07", paths, frozenset(path.stem for path in paths[count - extreme :]))


@pytest.mark.parametrize(
    ("count", "extreme", "expected"),
    [(16, 4, [0, 4, 7, 11, 14, 15]), (16, 0, [0, 3, 6, 9, 12, 15]), (3, 0, [0, 1, 2]), (4, 4, [2, 3])],
)
def test_the_strip_ends_in_extreme_poses(count: int, extreme: int, expected: list[int]) -> None:
    assert [number_of(path.stem) for path in shown_frames(clip(count, extreme))] == expected


def test_the_strip_shows_what_was_measured_and_what_is_missing(root: Path, tmp_path: Path) -> None:
    [_, second, _] = read_clips(root / "clips")
    rows = [
        {"picture": path.stem, "method": "fse", "id": number / 10}
        for number, path in enumerate(second.frames)
        if number
    ]
    folders = {"fse": root / "clip_inversions/fse", "psp": tmp_path}
    labels = {"fse": "FSE", "psp": "pSp"}
    figure = filmstrip(second, folders, labels, pd.DataFrame(rows), {"id": ("ID", 2)}, resolution=SIDE)
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == [
        "0.00 s", "0.04 s", "0.08 s, extreme", "0.12 s, extreme",
    ]  # fmt: skip
    assert [axes.get_xlabel() for axes in figure.axes[4:8]] == ["not measured", "ID 0.10", "ID 0.20", "ID 0.30"]
    assert sum(text.get_text() == "no picture" for axes in figure.axes for text in axes.texts) == 4
    save(figure, tmp_path / "strip.png")
    assert (tmp_path / "strip.pdf").is_file()


def test_a_loop_runs_forwards_and_backwards(root: Path, tmp_path: Path) -> None:
    moving = read_clips(root / "clips")[1]
    folders = {method: root / "clip_inversions" / method for method in BLUR} | {"e4e": tmp_path}
    path = tmp_path / "loops/01.webp"
    write_looping_clip(moving, folders, {"fse": "FSE", "psp": "pSp", "e4e": "e4e"}, path)
    assert path.stat().st_size <= LARGEST
    with Image.open(path) as image:
        assert (image.n_frames, image.size) == (2 * FRAMES - 2, (3 * 160, 176))  # type: ignore[attr-defined]
        pictures = []
        for number in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(number)
            pictures.append(np.asarray(image.convert("RGB")).astype(int))
    there, back, far = pictures[1], pictures[5], pictures[3]
    assert np.abs(there - back).mean() < 0.5 * np.abs(there - far).mean()
    assert [each.name for each in path.parent.iterdir()] == ["01.webp"]
    with pytest.raises(Refusal, match="no method has all frames of clip 01"):
        write_looping_clip(moving, {"e4e": tmp_path}, {"e4e": "e4e"}, path)


# Commands


def test_the_command_line(
    root: Path, assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    for name in ("clips", "clip_inversions", "test"):
        (tmp_path / "data" / name).symlink_to(root / name)
    (tmp_path / "data/assets").symlink_to(assets)
    (tmp_path / "params.yaml").write_text("evaluate_clips: {frames: 2, subset: {psp: 1}}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Profile, "clip_suite", lambda *_: small_clip_suite())
    monkeypatch.setattr(sys, "argv", ["table2", "--clips", "2", "--processes", "1"])
    table2.main()
    printed = capsys.readouterr().out
    assert "Rendered talking-face clips: 2 clips, 4 frames" in printed
    results = json.loads(Path("reports/table2.json").read_text())
    assert results["sets"]["clips"]["methods"]["psp"]["psnr"]["expected"] == 1
    assert results["provenance"]["parameters"]["evaluate_clips"]["frames"] == 2
    monkeypatch.setattr(sys, "argv", ["table2", "--render-only"])
    table2.main()
    for options, expected in {
        ("--methods", "e4e"): "there are no inversions by 'e4e' in data/clip_inversions/e4e: run `make repro`",
        ("--clips", "0"): "--clips is 0: give at least 1",
        ("--processes", "0"): "--processes is 0: give at least 1",
        ("--device", "abacus"): "the device abacus cannot be used",
    }.items():
        monkeypatch.setattr(sys, "argv", ["table2", *options])
        with pytest.raises(SystemExit) as exit_:
            table2.main()
        assert exit_.value.code == 2
        assert expected in capsys.readouterr().err


def test_the_stage_inverts_the_chosen_frames(
    root: Path, assets: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text())
    parameters["evaluate_clips"] |= {"clips": 2, "frames": 3, "subset": {"fse_w": 1}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(parameters))
    monkeypatch.chdir(tmp_path)
    options = [f"--{key}={path}" for key, path in (("assets", assets), ("weights", weights), ("clips", root / "clips"))]
    monkeypatch.setattr(sys, "argv", ["invert_clips", "fse_w", *options])
    invert_clips.main()
    made = sorted(path.name for path in Path("data/clip_inversions/fse_w").glob("*.png"))
    assert made == ["00_001.png", "00_002.png", "00_003.png"]
    assert read_picture(Path("data/clip_inversions/fse_w") / made[0]).shape == (3, 256, 256)
