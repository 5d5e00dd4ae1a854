"""A clip and its reconstructions in motion, side by side, as a short animated WebP for the report.

It runs forwards and then backwards, so that it has no jump, at half of the clip's speed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from eval.clips import SourceClip
from fse.pictures import open_picture
from fse.refusal import Refusal

SIDE = 160  # px of a picture
ACROSS = 4  # pictures in a line
STRIP = 16  # px: a name under a picture
SLOWED = 2  # times
LARGEST = 300_000  # bytes of the file
QUALITIES = (80, 70, 60, 50, 40, 30)  # the first that makes a file small enough
INK, PAPER = (40, 40, 40), (255, 255, 255)


def write_looping_clip(clip: SourceClip, inversions: Mapping[str, Path], labels: Mapping[str, str], path: Path) -> None:
    """The source first, then each method that has all of the clip's frames, in the order of ``inversions``.

    Raises
    ------
    Refusal
        No method has the frames of the clip.
    """
    frames = {"source": [open_picture(frame) for frame in clip.frames]}
    for method, folder in inversions.items():
        files = [folder / f"{frame.stem}.png" for frame in clip.frames]
        if all(file.is_file() for file in files):
            frames[labels[method]] = [open_picture(file) for file in files]
    if len(frames) == 1:
        raise Refusal(f"no method has all frames of clip {clip.name}: run `make repro`, which inverts clips")
    sheets = [_sheet({name: pictures[place] for name, pictures in frames.items()}) for place in range(len(clip.frames))]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        for quality in QUALITIES:
            _save([*sheets, *sheets[-2:0:-1]], partial, quality, round(1000 * SLOWED / clip.rate))
            if partial.stat().st_size <= LARGEST:
                break
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _save(sheets: list[Image.Image], path: Path, quality: int, milliseconds: int) -> None:
    sheets[0].save(
        path, "WEBP", save_all=True, append_images=sheets[1:], duration=milliseconds, loop=0, quality=quality, method=4
    )


def _sheet(pictures: Mapping[str, Image.Image]) -> Image.Image:
    """One moment: every picture with its name under it."""
    lines = -(-len(pictures) // ACROSS)
    across = -(-len(pictures) // lines)
    sheet = Image.new("RGB", (across * SIDE, lines * (SIDE + STRIP)), PAPER)
    draw, font = ImageDraw.Draw(sheet), _font()
    for index, (name, picture) in enumerate(pictures.items()):
        x, y = index % across * SIDE, index // across * (SIDE + STRIP)
        sheet.paste(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, y))
        draw.text((x + SIDE / 2, y + SIDE + STRIP / 2), name, fill=INK, font=font, anchor="mm")
    return sheet


def _font() -> ImageFont.FreeTypeFont:
    """The figures' typeface, which comes with Matplotlib."""
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 11)
