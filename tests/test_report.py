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
from eval.metrics.pixel import MSE, PSNR, SSIM
from eval.metrics.suite import Suite
from eval.profile import Profile
from eval.table1 import Places
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
    methods = ["fse", EVIL.replace("/", "_")]
    generator = torch.Generator().manual_seed(0)
    for name in ("renders", "photographs"):
        for picture in "abcde":
            source = torch.rand(3, 32, 32, generator=generator) * 2 - 1
            write_picture(source, places.test / name / f"{picture}.png")
            for method in methods:
                write_picture(source * 0.8, places.inversions / method / name / f"{picture}.png")
        (places.inversions / methods[1] / name / "c.png").unlink()
        suite = Suite([SSIM(), PSNR(), MSE()])
        folders = {method: places.inversions / method / name for method in methods}
        measurement.measure(sorted((places.test / name).iterdir()), folders, suite, resolution=32)
        measurement.write(suite, name, places.measurements)
    (places.reports / "training").mkdir()
    pd.DataFrame({"step": np.arange(9), "loss": 1.0}).to_csv(places.reports / "training/fse.csv", index=False)
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
    for shown in ("PSNR\u00a0↑", "other data", "no picture", "c.png", "31.25", "loss", "torch", "5 pictures expected"):
        assert shown in reader.text, shown
    assert "prefers-color-scheme: dark" in text


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
