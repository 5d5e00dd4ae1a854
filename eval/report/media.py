"""Figures and clips as ``data:`` addresses, small enough for a page that is sent by mail."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import av
from PIL import Image

from eval.section import Illustration, Section
from fse.refusal import Refusal

SCREEN = 150
"""Pixels of the page for an inch of a figure, so that its smallest letters (5.5 points) have 11 pixels."""
WITHOUT_DPI = 200  # of a picture that does not say how many pixels an inch has
WIDEST = 1200  # px of the page
CLIPS_LIMIT = 2_500_000  # bytes of all clips in the page; what comes after is shown by its first frame
FIGURE_QUALITY = 58
"""Of AVIF: a figure of faces keeps as much by PSNR and SSIM as in WebP at 80, in two thirds of the bytes."""
STILL_QUALITY = 50


@dataclass(frozen=True)
class Medium:
    """An illustration as the page shows it.

    Attributes
    ----------
    kind : str
        ``picture``; ``clip``, an animated picture; ``film``, a video; ``absent``, a file that is not there.
    address : str
        Of the picture, clip or film, ``data:...``.
    still : str
        Of a clip or film, its first frame: for print, and for who wants no movement.
    width, height : int
        On the page, in its pixels.
    note : str
        What the page adds to the caption.
    """

    kind: Literal["picture", "clip", "film", "absent"]
    caption: str
    alternative: str
    address: str = ""
    still: str = ""
    width: int = 0
    height: int = 0
    note: str = ""

    @property
    def weight(self) -> int:
        """Bytes in the page."""
        return len(self.address) + len(self.still)


def embed(illustration: Illustration, density: float = 2.0) -> Medium:
    """Read the file; ``density`` is how many of a figure's pixels a pixel of the page gets, at most.

    Raises
    ------
    Refusal
        The file is there and is no picture and no clip.
    """
    path, caption, alternative = illustration.path, illustration.caption, illustration.alternative
    if not path.is_file():
        return Medium("absent", caption, alternative, note=f"{path.name} is not there: `dvc repro` makes it.")
    if path.suffix.lower() == ".mp4":
        return _clip(illustration, _first_frame(path), "film", "video/mp4")
    try:
        with Image.open(path) as image:
            if getattr(image, "is_animated", False):
                kind = Image.MIME[str(image.format)]
                return _clip(illustration, image.convert("RGB"), "clip", kind)
            width, height = _size_on_page(image)
            most = round(width * density)
            shown = _flat(image)
    except OSError as error:
        raise Refusal(f"{path} cannot be read as a picture ({error}): delete it and run `dvc repro`") from error
    if shown.width > most:
        shown = shown.resize((most, round(most * shown.height / shown.width)), Image.Resampling.LANCZOS)
    address = min(avif(shown, FIGURE_QUALITY), _lossless(shown), key=len)  # plots: without loss
    return Medium("picture", caption, alternative, address, width=width, height=height)


def embedded(sections: Sequence[Section], density: float, clips: int = CLIPS_LIMIT) -> list[list[Medium]]:
    """Every illustration of each section; clips until ``clips`` bytes of the page are reached, then first frames."""
    found, room = [], clips
    for section in sections:
        media = []
        for illustration in section.illustrations:
            medium = embed(illustration, density)
            if medium.kind in ("clip", "film"):
                if medium.weight > room:
                    medium = _stilled(medium, illustration.path)
                else:
                    room -= medium.weight
            media.append(medium)
        found.append(media)
    return found


def weight(media: Iterable[Medium]) -> int:
    """Bytes in the page."""
    return sum(medium.weight for medium in media)


def avif(image: Image.Image, quality: int) -> str:
    """A ``data:`` address; the same bytes whatever the number of cores."""
    buffer = io.BytesIO()
    image.save(buffer, "AVIF", quality=quality, speed=6, max_threads=1)
    return data_address(buffer.getvalue(), "image/avif")


def _lossless(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True, quality=60, method=4)
    return data_address(buffer.getvalue(), "image/webp")


def data_address(content: bytes, kind: str) -> str:
    """``content`` itself as an address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _size_on_page(image: Image.Image) -> tuple[int, int]:
    inch = float(image.info.get("dpi", (WITHOUT_DPI,))[0]) or WITHOUT_DPI
    width = min(WIDEST, image.width, round(image.width / inch * SCREEN))
    return width, round(width * image.height / image.width)


def _flat(image: Image.Image) -> Image.Image:
    """RGB, on white paper where it is transparent."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    layers = image.convert("RGBA")
    paper = Image.new("RGBA", layers.size, "white")
    return Image.alpha_composite(paper, layers).convert("RGB")


def _clip(illustration: Illustration, first: Image.Image, kind: Literal["clip", "film"], content: str) -> Medium:
    path, caption, alternative = illustration.path, illustration.caption, illustration.alternative
    width = min(WIDEST, first.width)
    height = round(width * first.height / first.width)
    still = avif(first, STILL_QUALITY)
    return Medium(kind, caption, alternative, data_address(path.read_bytes(), content), still, width, height)


def _stilled(clip: Medium, path: Path) -> Medium:
    note = f"Its first frame; the clip is {path.name}, {path.stat().st_size / 1e6:.1f} MB, too much for this page."
    return replace(clip, kind="picture", address=clip.still, still="", note=note)


def _first_frame(path: Path) -> Image.Image:
    try:
        with av.open(str(path)) as container:
            return Image.fromarray(next(container.decode(video=0)).to_ndarray(format="rgb24"))
    except (av.FFmpegError, StopIteration, IndexError) as error:
        raise Refusal(f"{path} cannot be read as a video ({error}): delete it and run `dvc repro`") from error
