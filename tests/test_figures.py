"""The error grid and the training curves: what is drawn is what was measured, and every run draws the same bytes."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image

from eval.curves import svg, training_curves
from eval.figures.error_grid import ERROR_SCALE, caption, error_grid
from eval.figures.style import save
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


def test_maps_hold_the_errors_on_one_scale(root: Path, rows: pd.DataFrame) -> None:
    found = maps(grid(root, rows))
    assert len(found) == COUNT * len(OFFSETS)
    for axes, offset in zip(found, [*OFFSETS.values()] * COUNT, strict=True):
        image = axes.images[0]
        assert np.allclose(image.get_array(), offset / 2, atol=1 / 255)
        assert isinstance(image.norm, Normalize)
        assert (image.norm.vmin, image.norm.vmax) == (0, ERROR_SCALE)
        assert axes.get_xlabel() == f"MSE {offset**2:.4f}  ST-LPIPS {offset:.3f}"


def test_the_first_by_name_are_drawn_and_the_caption_says_so(root: Path, rows: pd.DataFrame) -> None:
    titles = [axes.get_title() for axes in grid(root, rows).axes if axes.get_title()]
    assert titles == ["a", "b", "c"]
    assert "the first 3 by name, not chosen by hand" in caption("Set", root / "test", COUNT, ["MSE"])
    assert "the first 4 by name" in caption("Set", root / "test", 9, ["MSE"])


def test_failures_are_shown_as_such(root: Path, rows: pd.DataFrame, tmp_path: Path) -> None:
    broken = rows.copy()
    broken.loc[(broken["picture"] == "a") & (broken["method"] == "fse"), ["mse", "st_lpips"]] = np.nan
    broken.loc[(broken["picture"] == "b") & (broken["method"] == "fse"), "st_lpips"] = np.nan
    (tmp_path / "psp").mkdir()
    figure = grid(root, broken, {"psp": tmp_path / "psp", "fse": root / "fse"})
    assert len(maps(figure)) == COUNT
    assert sum(text.get_text() == "no picture" for axes in figure.axes for text in axes.texts) == 2 * COUNT
    assert [axes.get_xlabel() for axes in maps(figure)[:2]] == ["not measured", "MSE 0.0100"]
    with pytest.raises(Refusal, match="no folder"):
        error_grid(root / "absent", {}, LABELS, rows, METRICS, resolution=SIDE)


def test_files_repeat_themselves(root: Path, rows: pd.DataFrame, tmp_path: Path) -> None:
    for number in (1, 2):
        save(grid(root, rows), tmp_path / f"{number}.png")
    for suffix in ("png", "pdf"):
        assert (tmp_path / f"1.{suffix}").read_bytes() == (tmp_path / f"2.{suffix}").read_bytes()
    with Image.open(tmp_path / "1.png") as image:
        assert round(image.info["dpi"][0]) >= 150
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
    assert [len(line.get_xdata()) for line in loss.lines] == [300, 2]  # thinned, not cut
    assert loss.lines[0].get_xdata()[-1] > 1990
    assert list(validation.lines[0].get_ydata()) == [15.0, 20.0, 22.0, 23.0]
    drawn = svg(figure)
    assert drawn == svg(again)
    assert "currentColor" in drawn
    assert "FSE &lt;1&gt;" in drawn
    ElementTree.fromstring(drawn)
    assert training_curves({}, {}) is None
    assert training_curves({"fse": fse[["step", "seconds"]]}, {}) is None
