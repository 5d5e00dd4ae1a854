"""``index.html``: everything is in it, nothing is fetched from elsewhere, and names cannot become markup."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from eval import measurement, report
from eval.contest import Places
from eval.curves import SCORE, settled, settled_sentences, training_curves
from eval.metrics.pixel import MSE, PSNR, SSIM
from eval.metrics.suite import Suite
from eval.profile import Profile
from fse.pictures import write_picture

EVIL = "<script>alert(1)</script>"


class Reader(HTMLParser):
    """Collects elements, and checks that they close in the order in which they opened."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report over two tiny sets and two methods, one of which has a name with markup in it and lost a picture."""
    root = tmp_path_factory.mktemp("report")
    places = Places(root / "test", root / "inversions", root / "reports")
    methods = ["fse", "psp", EVIL.replace("/", "_")]
    generator = torch.Generator().manual_seed(0)
    for name in ("renders", "photographs"):
        for picture in "abcde":
            source = torch.rand(3, 32, 32, generator=generator) * 2 - 1
            write_picture(source, places.test / name / f"{picture}.png")
            for method in methods:
                write_picture(source * 0.8, places.inversions / method / name / f"{picture}.png")
        (places.inversions / methods[2] / name / "c.png").unlink()
        suite = Suite([SSIM(), PSNR(), MSE()])
        folders = {method: places.inversions / method / name for method in methods}
        measurement.measure(sorted((places.test / name).iterdir()), folders, suite, resolution=32)
        measurement.write(suite, name, places.measurements)
    (places.reports / "training").mkdir()
    for method, score in {"fse": 0.1, "psp": 0.2}.items():
        curve = pd.DataFrame({"step": np.arange(9), "seconds": np.arange(9) * 60.0, "train/loss": 1.0, SCORE: score})
        curve.to_csv(places.reports / f"training/{method}.csv", index=False)
    (places.reports / "training/fse.json").write_text(json.dumps({"parameters": 8_047_232, "seconds": 3306}))
    (places.reports / "head.json").write_text(json.dumps({"psnr": {"mean": 31.25}, "note": EVIL}))
    return report.report(places, Profile(root / "assets", root / "weights", resolution=32))


def test_the_page_is_complete_and_self_contained(page: Path) -> None:
    text = page.read_text()
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    for tag, attributes in reader.seen:
        assert tag not in ("script", "iframe", "object")
        for key in ("src", "href"):
            address = attributes.get(key, "#")
            assert address.startswith(("#", "data:")), address
            if address.startswith("#") and len(address) > 1:
                assert f'id="{address[1:]}"' in text
        if tag == "img":
            assert attributes["alt"]
            assert attributes["src"].startswith("data:image/jpeg;base64,")
    assert len(text) < 4e6
    assert EVIL not in text
    assert EVIL in reader.text  # shown as text
    for shown in (
        "PSNR\u00a0↑",
        "other data",
        "no picture",
        "c.png",
        "31.25",
        "torch",
        "5 pictures expected",
        "training loss",
        "FSE against the best baseline",
        "The paper's orders of methods",
        "8.05",
        EVIL.replace("/", "_"),
        "FSE > pSp, did not change any more from 1 on, of 9 that all have",
    ):
        assert shown in reader.text, shown
    assert "prefers-color-scheme: dark" in text


def curve(scores: list[float], seconds: float = 1.0) -> pd.DataFrame:
    """Validated every 100 steps of ``seconds`` each, with rows between that have none."""
    step = np.arange(len(scores) * 100)
    frame = pd.DataFrame({"step": step, "seconds": (step + 1) * seconds, SCORE: np.nan})
    frame.loc[99::100, SCORE] = scores
    return frame


def test_the_budget_at_which_the_order_stops_changing() -> None:
    logs = {
        "a": curve([5, 3, 2, 1, 0.5]),
        "b": curve([4, 3.5, 3, 2, 1]),  # overtaken by a in the second validation
        "c": curve([6, 5, 2.5, 2.4, 2.3]),  # overtakes b in the third, and is overtaken in the fourth
    }
    found = settled(logs)
    assert found is not None
    assert (found.order, found.since, found.first_since, found.end) == (["a", "b", "c"], 399, 199, 499)

    slow = {**logs, "a": curve([5, 3, 2, 1, 0.5], seconds=2.0)}  # at equal times a is later
    found = settled(slow, by="seconds")
    assert found is not None
    assert (found.order, found.since, found.first_since, found.end) == (["b", "c", "a"], 400, 400, 500)
    at_the_end = settled({"a": curve([2, 2, 1]), "b": curve([1, 1, 2])})
    assert at_the_end is not None
    assert at_the_end.since == at_the_end.end
    assert (
        "still changed at 300, the last that all have"
        in settled_sentences({"a": curve([2, 1, 1]), "b": curve([1, 2, 0])}, {})[0]
    )
    first, second, _ = settled_sentences(slow, {"a": "A"})
    assert (
        "steps the order of the methods by the validation score, A > b > c, did not change any more from 400" in first
    )
    assert "from 7 on, of 8 that all have" in second  # minutes
    assert settled({"a": curve([1.0])}) is None
    assert settled({"a": curve([1.0]), "b": pd.DataFrame({"step": [1]})}) is None
    assert settled_sentences({}, {}) == []


def test_every_method_has_a_curve_and_only_what_compares_is_drawn() -> None:
    logs = {f"m{i}": curve([1.0, 0.5]).assign(**{"train/loss": 1.0, "train/critic_loss": 2.0}) for i in range(9)}
    figure = training_curves(logs, {})
    assert figure is not None
    assert [axes.get_title() for axes in figure.axes] == [
        "validation: MSE + 0.2 ST-LPIPS",
        "training loss, of each method its own",
    ]
    assert [len(axes.lines) for axes in figure.axes] == [9, 9]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*logs]


def test_the_hardest_come_first(page: Path) -> None:
    places = Places(page.parents[1] / "test", page.parents[1] / "inversions", page.parent)
    _, pictures = measurement.read("renders", places.measurements)
    pictures["st_lpips"] = pictures["picture"].map({"a": 0.1, "b": 0.5, "c": 0.9, "d": np.nan, "e": 0.3})
    folders = {"fse": places.inversions / "fse/renders"}
    found = report.hardest(places.test / "renders", folders, {"fse": "FSE"}, pictures)
    assert [name for name, _ in found] == ["c", "b", "e", "a"]
    assert [value for _, _, value in found[0][1]] == ["", "ST-LPIPS 0.900"]
    assert report.hardest(places.test / "renders", folders, {"fse": "FSE"}, pictures.drop(columns="st_lpips")) == []


def test_the_page_repeats_itself(page: Path) -> None:
    first = page.read_bytes()
    root = page.parents[1]
    places = Places(root / "test", root / "inversions", root / "reports")
    assert report.report(places, Profile(root / "assets", root / "weights", resolution=32)).read_bytes() == first
    assert str(root).encode() not in first.replace(str(root / "inversions").encode(), b"")
