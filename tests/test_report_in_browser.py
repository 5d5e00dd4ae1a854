"""The page in headless Chromium: it renders, moves, sorts, prints, and asks nobody for anything."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from eval.figures.style import COLOURS
from tests.reports import EVIL, PICTURES, shared_report

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",  # as root, in containers
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDE, NARROW = {"width": 1400, "height": 900}, {"width": 390, "height": 844}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed: `apt-get install chromium`")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_report(tmp_path_factory)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Opened:
    """A page, with all that it said to the console and asked of the network."""

    def __init__(self, chromium: Browser, path: Path, **options: Any) -> None:
        self.context = chromium.new_context(**{"viewport": WIDE, **options})
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.address = path.as_uri()
        self.page.goto(self.address)

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def names(self) -> list[str]:
        """The browser's list, from above."""
        found: list[str] = self.page.locator(".option > span:first-child").all_text_contents()
        return found

    def choose(self, **choices: str) -> None:
        for key, value in choices.items():
            self.page.locator(f"[data-choice={key}]").select_option(value)

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).text_content())

    def hold(self, expression: str) -> Any:
        return self.page.evaluate(expression)


@pytest.fixture(scope="module")
def opened(chromium: Browser, made: Path) -> Iterator[Opened]:
    with Opened(chromium, made) as opened:
        yield opened


@pytest.fixture
def fresh(opened: Opened) -> Opened:
    """The same tab, loaded anew."""
    opened.page.goto(opened.address)
    return opened


def test_it_renders_in_silence_and_alone(fresh: Opened) -> None:
    assert fresh.said == []
    assert [address for address in fresh.asked if not address.startswith(("file:", "data:"))] == []
    loaded = fresh.hold("[...document.images].filter(i => i.getAttribute('src')).map(i => i.naturalWidth)")
    assert len(loaded) > 20
    assert min(loaded) > 0
    assert fresh.page.title() == "GAN inversion, measured"
    assert fresh.hold("document.querySelectorAll('h1').length") == 1
    assert fresh.hold("document.documentElement.scrollWidth <= innerWidth")
    # An inline script or style that is not the page's own is refused by its policy.
    fresh.hold("document.body.insertAdjacentHTML('beforeend', '<p id=x style=\"color: red\">x</p>')")
    fresh.hold(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hacked = 1'}))"
    )
    assert fresh.hold("window.hacked") is None
    assert fresh.hold("getComputedStyle(document.getElementById('x')).color") != "rgb(255, 0, 0)"
    fresh.said.clear()


def test_the_slider_uncovers_the_picture_under_it(fresh: Opened) -> None:
    slider = fresh.page.locator(".slider")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box is not None

    def seen(share: float) -> tuple[int, ...]:
        """What is painted at a place, in RGB: the pictures are of different contrast."""
        at = {"x": box["x"] + share * box["width"], "y": box["y"] + 0.3 * box["height"]}
        clip = {"x": at["x"] - 12, "y": at["y"] - 12, "width": 24, "height": 24}
        return tuple(fresh.page.screenshot(clip=clip))

    before = seen(0.3)
    assert slider.get_attribute("aria-valuetext") == "50 % pSp, 50 % FSE, G(F, w)"
    fresh.page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    fresh.page.mouse.down()
    fresh.page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.5 * box["height"], steps=4)
    fresh.page.mouse.up()
    assert 5 <= int(slider.input_value()) <= 15
    assert "pSp, " in str(slider.get_attribute("aria-valuetext"))
    assert seen(0.3) != before  # the right picture now
    for key, moved in (("End", 100), ("ArrowLeft", 99), ("Home", 0), ("ArrowRight", 1)):
        slider.press(key)
        assert int(slider.input_value()) == moved
        assert fresh.hold("getComputedStyle(document.querySelector('.edge')).left").endswith("px")
    left = fresh.hold("document.querySelector('.edge').offsetLeft / document.querySelector('.pair').clientWidth")
    assert left == pytest.approx(0.01, abs=0.01)


def test_it_works_by_touch(chromium: Browser, made: Path) -> None:
    with Opened(chromium, made, viewport=NARROW, has_touch=True, is_mobile=True) as phone:
        slider = phone.page.locator(".slider")
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        assert box is not None
        phone.page.touchscreen.tap(box["x"] + 0.8 * box["width"], box["y"] + 0.5 * box["height"])
        assert 70 <= int(slider.input_value()) <= 90
        assert phone.hold("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert phone.said == []


def test_the_list_is_sorted_by_what_was_chosen(fresh: Opened) -> None:
    """Distances grow from a to e, by every method; pSp is worst at b (tests/reports.py)."""
    assert fresh.names()[0] == "b"  # where pSp and FSE differ most
    assert "0.700" in fresh.text(".option >> nth=0")
    fresh.choose(order="right")
    assert fresh.names() == [*"edcba"]
    fresh.choose(order="left")
    assert fresh.names() == [*"bedca"]
    fresh.choose(order="name")
    assert fresh.names() == [*PICTURES]
    fresh.choose(order="apart", left="source")
    assert fresh.names() == [*"edcba"]  # the farther from the source the worse
    fresh.choose(metric="psnr")
    psnr = [float(text) for text in fresh.page.locator(".option > span:nth-child(3)").all_text_contents()]
    assert psnr == sorted(psnr)
    fresh.choose(set="photographs")
    assert sorted(fresh.names()) == [*PICTURES]
    assert fresh.page.locator("[data-choice=metric]").input_value() == "psnr"  # the choice stays


def test_it_is_used_by_keyboard_and_says_what_it_shows(fresh: Opened) -> None:
    fresh.choose(order="name")
    listing, status = fresh.page.locator("[role=listbox]"), fresh.page.locator(".numbers [role=status]")
    listing.focus()
    shown = []
    for key, name in (("Home", "a"), ("ArrowDown", "b"), ("End", "e"), ("ArrowUp", "d"), ("PageUp", "a")):
        fresh.page.keyboard.press(key)
        chosen = fresh.page.locator("[aria-selected=true]")
        assert chosen.count() == 1
        assert chosen.locator("span").first.text_content() == name
        assert listing.get_attribute("aria-activedescendant") == chosen.get_attribute("id")
        assert str(status.text_content()).startswith(f"Picture {name}, {PICTURES.index(name) + 1} of 5: pSp ST-LPIPS ")
        assert fresh.text(".values caption") == name
        shown.append(fresh.hold("document.querySelector('img.right').src"))
    assert len(set(shown)) == 4
    fresh.page.get_by_role("button", name="next").press("Enter")
    assert fresh.text(".values caption") == "b"
    label = fresh.page.locator("[aria-selected=true]").get_attribute("aria-label")
    assert label == "2: b; pSp 0.700, FSE, G(F, w) 0.200"
    fresh.page.get_by_role("button", name="source").press("Space")  # of the strip: on the right
    assert fresh.page.locator("[data-choice=right]").input_value() == "source"
    assert fresh.text(".values caption") == "b"  # the same picture

    fresh.page.goto(fresh.address)
    fresh.page.keyboard.press("Tab")
    assert fresh.hold("document.activeElement.className") == "skip"
    assert fresh.hold("document.activeElement.getBoundingClientRect().top") >= 0  # comes into view
    fresh.page.keyboard.press("Enter")
    assert fresh.hold("document.activeElement.id") == "main"
    unnamed = fresh.hold(
        "[...document.querySelectorAll('button, select, input, [role]')].filter(e => !(e.getAttribute('aria-label')"
        " || e.closest('label') || e.textContent.trim() || e.getAttribute('role') === 'status')).length"
    )
    assert unnamed == 0
    reached = set()
    for _ in range(80):
        fresh.page.keyboard.press("Tab")
        reached.add(fresh.hold("document.activeElement.className || document.activeElement.tagName"))
        outline = fresh.hold("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none" or fresh.hold("document.activeElement.matches('.slider, body')")  # seen where it is
    assert {"slider", "list", "SELECT"} <= reached


def test_what_is_missing_is_said(fresh: Opened) -> None:
    evil = EVIL.replace("/", "_")
    fresh.choose(left=evil, order="name", set="renders")
    assert fresh.page.locator(".none").is_hidden()
    fresh.page.locator(".option").nth(2).click()
    assert fresh.text(".none").startswith(f"{evil} has no picture of c")
    assert "—" in fresh.text(".option >> nth=2")
    assert fresh.hold("document.querySelectorAll('script').length") == 2


def test_columns_sort_and_say_so(fresh: Opened) -> None:
    table = fresh.page.locator("#table-renders")

    def order() -> list[str]:
        found: list[str] = table.locator("tbody th").all_text_contents()
        return found

    original = order()
    psnr = table.locator("thead button", has_text="PSNR").first
    psnr.click()
    heading = table.locator("[aria-sort]")
    assert heading.get_attribute("aria-sort") == "descending"
    values = [
        float(v)
        for v in fresh.hold(
            "[...document.querySelectorAll('#table-renders tbody tr')].map(r => r.cells[2].dataset.value)"
        )
    ]
    assert values == sorted(values, reverse=True)  # the best first
    assert order() == original[::-1]
    assert "sorted by PSNR ↑, descending" in fresh.text("#said")
    psnr.press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    table.locator("thead button", has_text="MSE").first.press("Space")
    assert heading.count() == 1
    assert heading.get_attribute("aria-sort") == "ascending"  # lower is better
    psnr.click()
    assert heading.get_attribute("aria-sort") == "descending"
    psnr.click()
    psnr.click()
    assert heading.count() == 0
    assert order() == original
    assert table.locator("td.best").count() > 0
    assert "best" in str(table.locator("td.best").first.text_content())
    fresh.page.locator("#table-gains thead button", has_text="Gain").click()
    gains = fresh.page.locator("#table-gains tbody th").all_text_contents()
    assert gains == ["high", "low", "none"]  # what has no value is last


def test_clips_play_only_for_those_who_want_it(chromium: Browser, made: Path) -> None:
    """An animated picture moves while its address is the clip's, a film while it is not paused."""
    moves = "(e => e.paused === undefined ? e.src !== e.closest('.clip').querySelector('.still').src : !e.paused)"
    for wish, plays in (("no-preference", True), ("reduce", False)):
        with Opened(chromium, made, reduced_motion=wish) as opened:
            assert opened.page.locator(".clip").count() == 2
            for clip in opened.page.locator(".clip").all():
                clip.scroll_into_view_if_needed()
                clip.get_by_role("button", name="Pause the clip" if plays else "Play the clip").wait_for()
                assert clip.locator(".moving").evaluate(moves) is plays
                clip.get_by_role("button").press("Enter")
                assert clip.get_by_role("button").text_content() == ("Play the clip" if plays else "Pause the clip")
                assert clip.locator(".moving").evaluate(moves) is not plays
            film = opened.page.locator("video")
            assert film.evaluate("film => film.videoWidth") == 48
            assert film.get_attribute("controls") is None  # the button stands for them
            assert opened.said == []


def _contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_in_light_and_dark(chromium: Browser, made: Path, scheme: str) -> None:
    with Opened(chromium, made, color_scheme=scheme) as opened:
        page = opened.hold("getComputedStyle(document.body).backgroundColor")
        assert (_contrast(page, "rgb(0, 0, 0)") > 10) is (scheme == "light")
        for selector in (
            "body",
            ".lead",
            ".notes",
            "nav a",
            "td.best b",
            "td.paper",
            "figcaption",
            ".option",
            ".curves",
        ):
            colour = opened.hold(f"getComputedStyle(document.querySelector({selector!r})).color")
            behind = opened.hold(
                f"let e = document.querySelector({selector!r});"
                "const clear = 'rgba(0, 0, 0, 0)';"
                "while (e.parentElement && getComputedStyle(e).backgroundColor === clear) e = e.parentElement;"
                "e === document.documentElement ? getComputedStyle(document.body).backgroundColor"
                " : getComputedStyle(e).backgroundColor"
            )
            assert _contrast(colour, behind) >= 4.5, selector  # WCAG AA
        for method, drawn in COLOURS.items():
            colour = opened.hold(
                "const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');"
                f"path.setAttribute('stroke', {drawn!r}); document.querySelector('.curves').append(path);"
                "getComputedStyle(path).stroke"
            )
            # Okabe and Ito's orange and sky blue are 2.2 on white; there the lines' dashes and marks help.
            assert _contrast(colour, page) >= (3 if scheme == "dark" else 2), method


def test_it_prints_and_needs_no_script(chromium: Browser, made: Path) -> None:
    with Opened(chromium, made) as opened:
        opened.page.emulate_media(media="print")
        for selector in (".browser", "nav", ".moving", ".clip button"):
            assert not opened.page.locator(selector).first.is_visible(), selector
        for selector in (".still", ".hardest", "#table-renders", "#provenance"):
            assert opened.page.locator(selector).first.is_visible(), selector
        assert opened.hold("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        printed = opened.page.pdf(prefer_css_page_size=True)
        assert printed.startswith(b"%PDF")
        assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") <= 20
    with Opened(chromium, made, java_script_enabled=False) as opened:
        assert opened.page.locator("noscript").is_visible()
        assert not opened.page.locator(".browser").is_visible()
        assert opened.page.locator("#table-renders tbody tr").count() == 3
