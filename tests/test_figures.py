"""Figures and curves: what is drawn is what was measured, by the rule that the caption tells, in the same bytes."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from eval.clips import SourceClip
from eval.contest import METHODS, OUT_OF_CONTEST
from eval.curves import svg, training_curves
from eval.figures.contestants import contestants, left_out
from eval.figures.editing import edits
from eval.figures.error_grid import ERROR_SCALE, caption, error_grid
from eval.figures.filmstrip import filmstrip
from eval.figures.other_domains import other_domains
from eval.figures.style import COLOURS, COLUMN, SMALLEST, colours, line, save
from eval.figures.teaser import alternative, teaser, typical
from eval.figures.zoom import SHARE, differing_patch
from fse.pictures import write_picture
from fse.refusal import Refusal

SIDE, COUNT = 32, 3
LABELS = {"psp": "pSp", "fse": "FSE, G(F, w)"}
OFFSETS = {"psp": 0.4, "fse": 0.1}
METRICS = {"mse": ("MSE", 4), "st_lpips": ("ST-LPIPS", 3)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four grey sources; a reconstruction is brighter by the method's offset on [-1, 1]."""
    root = tmp_path_factory.mktemp("figures")
    for name in ("d", "b", "c", "a"):
        write_picture(torch.zeros(3, SIDE, SIDE), root / "test" / f"{name}.png")
        for method, offset in OFFSETS.items():
            write_picture(torch.full((3, SIDE, SIDE), offset), root / method / f"{name}.png")
    return root


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    found = [
        {"picture": name, "method": method, "mse": offset**2, "st_lpips": offset, "status": "ok"}
        for name in "abcd"
        for method, offset in OFFSETS.items()
    ]
    return pd.DataFrame(found)


def grid(root: Path, rows: pd.DataFrame, inversions: Mapping[str, Path] | None = None) -> Figure:
    folders = inversions or {method: root / method for method in OFFSETS}
    return error_grid(root / "test", folders, LABELS, rows, METRICS, resolution=SIDE, count=COUNT)


def maps(figure: Figure) -> list[Axes]:
    """The axes of error maps, in the order of drawing: picture by picture, method by method."""
    return [axes for axes in figure.axes if axes.images and axes.images[0].get_array().ndim == 2]


def under(figure: Figure) -> list[str]:
    """The lines under pictures."""
    return [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel() and not axes.get_xlabel().startswith("abs")]


def letters(figure: Figure) -> list[float]:
    """Sizes of all texts that are printed, in points."""
    texts = figure.findobj(lambda artist: hasattr(artist, "get_fontsize") and artist.get_text())
    return [text.get_fontsize() for text in texts]


def test_maps_hold_the_errors_on_one_scale(root: Path, rows: pd.DataFrame) -> None:
    figure = grid(root, rows)
    found = maps(figure)
    assert len(found) == COUNT * len(OFFSETS)
    for axes, offset in zip(found, [*OFFSETS.values()] * COUNT, strict=True):
        image = axes.images[0]
        assert np.allclose(image.get_array(), offset / 2, atol=1 / 255)
        assert isinstance(image.norm, Normalize)
        assert (image.norm.vmin, image.norm.vmax) == (0, ERROR_SCALE)
    assert under(figure) == [f"MSE {o**2:.4f}\nST-LPIPS {o:.3f}" for o in OFFSETS.values()] * COUNT


def test_the_first_by_name_are_drawn_and_the_caption_says_so(root: Path, rows: pd.DataFrame) -> None:
    titles = [axes.get_title() for axes in grid(root, rows).axes if axes.get_title().startswith("source")]
    assert titles == ["source a", "source b", "source c"]
    assert "the first 3 by name, not chosen by hand" in caption("Set", root / "test", COUNT, ["MSE"])
    assert "the first 4 by name" in caption("Set", root / "test", 9, ["MSE"])


def test_failures_are_shown_as_such(root: Path, rows: pd.DataFrame, tmp_path: Path) -> None:
    broken = rows.copy()
    broken.loc[(broken["picture"] == "a") & (broken["method"] == "fse"), ["mse", "st_lpips"]] = np.nan
    broken.loc[(broken["picture"] == "b") & (broken["method"] == "fse"), "st_lpips"] = np.nan
    (tmp_path / "psp").mkdir()
    figure = grid(root, broken, {"psp": tmp_path / "psp", "fse": root / "fse"})
    assert len(maps(figure)) == COUNT
    assert sum(text.get_text() == "no picture" for axes in figure.axes for text in axes.texts) == COUNT
    assert under(figure)[1::2][:2] == ["not measured", "MSE 0.0100"]
    with pytest.raises(Refusal, match="no folder"):
        error_grid(root / "absent", {}, LABELS, rows, METRICS, resolution=SIDE)


def test_the_patch_is_where_details_differ_and_not_where_colours_do() -> None:
    random = np.random.default_rng(0)
    one = np.full((64, 64, 3), 0.5, dtype=np.float32)
    other = one.copy()
    other[:30] += 0.3  # a larger difference, but flat
    other[40:52, 8:20] += random.choice([-0.1, 0.1], (12, 12, 1)).astype(np.float32)
    patch = differing_patch([one, other])
    assert patch.side == 64 // SHARE
    inside = np.zeros((64, 64), bool)
    inside[40:52, 8:20] = True
    assert patch.of(inside).sum() == inside.sum()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.integers(5, 40))
def test_the_patch_has_most_variance_of_all(seed: int, methods: int, side: int) -> None:
    pictures = list(np.random.default_rng(seed).random((methods, side, side, 3), dtype=np.float32))
    row, column, width = patch = differing_patch(pictures)
    assert patch.of(pictures[0]).shape == (width, width, 3)
    assert differing_patch(pictures[::-1]) == patch  # methods have no order
    assert differing_patch([picture.transpose(1, 0, 2) for picture in pictures]) == (column, row, width)


def test_the_teaser_takes_the_median_of_what_all_methods_have(root: Path) -> None:
    values = {"a": 0.5, "b": 0.1, "c": 0.3, "d": 0.2}
    ours = [{"picture": name, "method": "fse", "st_lpips": value} for name, value in values.items()]
    slow = [{"picture": name, "method": "psp", "st_lpips": 0.9} for name in "abc"]
    rows = pd.DataFrame([*ours, *slow])
    assert typical(rows, ["psp", "fse"], "st_lpips") == "c"  # of b, c, a
    assert typical(rows, ["fse"], "st_lpips") == "d"  # of b, d, c, a the lower median
    assert typical(rows, ["absent", "fse"], "st_lpips") == "d"
    with pytest.raises(Refusal, match="no picture has a value"):
        typical(rows.assign(st_lpips=np.nan), ["fse"], "st_lpips")
    metric = ("st_lpips", "ST-LPIPS", 3)
    figure = teaser(root / "test", {m: root / m for m in OFFSETS}, LABELS, rows, metric, resolution=SIDE)
    assert [axes.get_title() for axes in figure.axes] == ["source", "pSp", "FSE, G(F, w)"]
    assert under(figure) == ["c", "ST-LPIPS 0.900", "ST-LPIPS 0.300"]
    assert alternative(rows, LABELS, metric).endswith("FSE, G(F, w) 0.300, pSp 0.900.")


def test_figures_are_a_column_wide_and_can_be_read(root: Path, rows: pd.DataFrame) -> None:
    many = contestants({method: root / "fse" for method in METHODS})
    encoders = {method: folder for method, folder in many.items() if method not in ("wplus", "idinvert")}
    sources = sorted((root / "test").iterdir())
    frames = [root / f"clip/0_{number:03}.png" for number in range(6)]
    for path in frames:
        write_picture(torch.zeros(3, SIDE, SIDE), path)
    clip = SourceClip("0", tuple(frames), frozenset({"0_005"}))
    edited = pd.DataFrame({"picture": ["a"], "method": ["fse"], "direction": ["yaw"], "strength": [1.5]})
    turns = dict.fromkeys(["yaw", "smile", "eye_open", "skin_lightness"], "skin lightness")
    figures = [
        error_grid(root / "test", many, METHODS, rows, METRICS, resolution=SIDE, count=3),
        teaser(root / "test", many, METHODS, rows, ("st_lpips", "ST-LPIPS", 3), resolution=SIDE),
        other_domains(sources, encoders, METHODS, rows, METRICS, resolution=SIDE),
        filmstrip(clip, encoders, METHODS, rows, METRICS, resolution=SIDE),
        edits(root, "a", {m: METHODS[m] for m in encoders}, turns, edited.iloc[:0], strength=1.5, resolution=SIDE),
    ]
    for figure in figures:
        assert figure.get_figwidth() == COLUMN
        assert figure.get_figheight() < 10
        assert min(letters(figure)) >= SMALLEST
        FigureCanvasAgg(figure).draw()
        for axes in figure.axes:
            box = axes.get_position()
            assert box.x0 > -1e-9
            assert box.x1 < 1 + 1e-9
        headings = [axes.title.get_window_extent() for axes in figure.axes if axes.get_title()]
        assert not any(one.overlaps(other) for one, other in combinations(headings, 2))


def test_who_is_not_drawn_is_named() -> None:
    assert set(METHODS) - set(contestants(METHODS)) == set(OUT_OF_CONTEST)
    assert all(METHODS[method] in left_out(METHODS) for method in OUT_OF_CONTEST)
    assert left_out(contestants(METHODS)) == ""


def test_a_picture_that_is_no_face_stands_beside_what_became_of_it(root: Path, rows: pd.DataFrame) -> None:
    folders = {method: root / method for method in OFFSETS}
    sources = [root / "test/a.png", root / "test/b.png"]
    figure = other_domains(sources, folders, LABELS, rows, METRICS, resolution=SIDE)
    assert under(figure) == ["MSE\nST-LPIPS", "0.1600\n0.400", "0.0100\n0.100"] * 2


DICHROMACY = {  # Machado, Oliveira, Fernandes 2009, severity 1; on linear RGB
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("vision", DICHROMACY)
def test_methods_have_colours_and_lines_that_everybody_tells_apart(vision: str) -> None:
    assert set(COLOURS) == set(METHODS)
    seen = {}
    for method, colour in COLOURS.items():
        rgb = np.array(to_rgb(colour))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        linear = np.clip(np.asarray(DICHROMACY[vision]) @ linear, 0, 1)
        back = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
        seen[method] = rgb2lab(back[None, None])[0, 0]
    apart = {pair: float(deltaE_ciede2000(seen[pair[0]], seen[pair[1]])) for pair in combinations(seen, 2)}
    assert min(apart.values()) > 10, min(apart, key=apart.__getitem__)
    assert len({(line(method)["marker"], str(line(method)["linestyle"])) for method in METHODS}) == len(METHODS)
    others = colours([*METHODS, "mine", "yours"])
    assert len(set(others.values())) == len(METHODS) + 2


def test_files_repeat_themselves(root: Path, rows: pd.DataFrame, tmp_path: Path) -> None:
    for number in (1, 2):
        save(grid(root, rows), tmp_path / f"{number}.png")
    for suffix in ("png", "pdf"):
        assert (tmp_path / f"1.{suffix}").read_bytes() == (tmp_path / f"2.{suffix}").read_bytes()
    with Image.open(tmp_path / "1.png") as image:
        assert round(image.info["dpi"][0]) == 300
        assert not image.text  # type: ignore[attr-defined]
    assert not re.search(rb"/(CreationDate|ModDate|Producer)", (tmp_path / "1.pdf").read_bytes())


def test_curves_are_drawn_for_whatever_was_logged() -> None:
    steps = np.arange(2000)
    fse = pd.DataFrame({"step": steps, "seconds": steps * 2.0, "loss": np.exp(-steps / 500), "val_psnr_fw": np.nan})
    fse.loc[::500, "val_psnr_fw"] = [15.0, 20.0, 22.0, 23.0]
    psp = pd.DataFrame({"step": [0, 1000], "loss": [1.0, 0.5]})
    figure, again = (training_curves({"fse": fse, "psp": psp}, {"fse": "FSE <1>"}) for _ in range(2))
    assert figure is not None
    assert again is not None
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["loss", "validation PSNR of G(F, w), dB"]
    loss, validation = figure.axes
    assert [len(each.get_xdata()) for each in loss.lines] == [300, 2]  # thinned, not cut
    assert loss.lines[0].get_xdata()[-1] > 1990
    assert list(validation.lines[0].get_ydata()) == [15.0, 20.0, 22.0, 23.0]
    assert [each.get_color() for each in loss.lines] == [COLOURS["fse"], COLOURS["psp"]]
    drawn = svg(figure)
    assert drawn == svg(again)
    assert "currentColor" in drawn
    assert "FSE &lt;1&gt;" in drawn
    assert "style" not in drawn  # the page's policy would refuse it
    assert f'stroke="{COLOURS["fse"]}"' in drawn
    ElementTree.fromstring(drawn)
    assert training_curves({}, {}) is None
    assert training_curves({"fse": fse[["step", "seconds"]]}, {}) is None
