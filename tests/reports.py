"""A whole report over tiny sets, made as the pipeline makes it: what the tests of the page look at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from eval import measurement
from eval.contest import SETS, Places
from eval.curves import SCORE
from eval.metrics.pixel import MSE, PSNR, SSIM
from eval.metrics.suite import Suite
from eval.profile import Profile
from eval.report.contents import Chapter
from eval.report.page import report
from eval.section import Illustration, Section
from eval.tables import Column, Estimate, Row, Table, TextTable
from fse.pictures import write_picture

EVIL = "<script>alert(1)</script>"
SIDE = 32
PICTURES = "abcde"


def shared_report(factory: pytest.TempPathFactory) -> Path:
    """One report for all tests of a run that only look at it."""
    root = factory.getbasetemp() / "shared_report"
    page = root / "reports/index.html"
    return page if page.is_file() else make_report(root)


def make_report(root: Path, sets: Sequence[str] = tuple(SETS), parts: Sequence[Chapter] | None = None) -> Path:
    """``root/reports/index.html`` of two methods and a third that has markup in its name and lost a picture.

    The perceptual distance is made up, as its network has no use for 32 pixels: a method is the worse the later its
    picture comes, and pSp is worst at ``b``.
    """
    places = Places(root / "test", root / "inversions", root / "reports")
    methods = [EVIL.replace("/", "_"), "psp", "fse"]
    generator = torch.Generator().manual_seed(0)
    for name in sets:
        for picture in PICTURES:
            source = torch.rand(3, SIDE, SIDE, generator=generator) * 2 - 1
            write_picture(source, places.test / name / f"{picture}.png")
            for number, method in enumerate(methods):
                write_picture(source * (0.2 + 0.2 * number), places.inversions / method / name / f"{picture}.png")
        (places.inversions / methods[0] / name / "c.png").unlink()
        suite = Suite([SSIM(), PSNR(), MSE()])
        folders = {method: places.inversions / method / name for method in methods}
        measurement.measure(sorted((places.test / name).iterdir()), folders, suite, resolution=SIDE)
        measurement.write(suite, name, places.measurements)
        _with_distance(places.measurements, name)
    (places.reports / "training").mkdir()
    for method, score in {"fse": 0.1, "psp": 0.2, "fse_long": 0.05}.items():  # the last is out of the contest
        curve = pd.DataFrame({"step": np.arange(9), "seconds": np.arange(9) * 60.0, "train/loss": 1.0, SCORE: score})
        curve.to_csv(places.reports / f"training/{method}.csv", index=False)
    (places.reports / "training/fse.json").write_text(json.dumps({"parameters": 8_047_232, "seconds": 3306}))
    (places.reports / "head.json").write_text(json.dumps({"psnr": {"mean": 31.25}, "note": EVIL}))
    profile = Profile(root / "assets", root / "weights", resolution=SIDE)
    return report(places, profile, sets=sets, chapters=chapters(root) if parts is None else parts)


def _with_distance(folder: Path, name: str) -> None:
    """Add ``st_lpips`` to what was measured."""
    results = json.loads((folder / f"{name}.json").read_text())
    results["metrics"]["st_lpips"] = {"label": "ST-LPIPS", "higher_is_better": False}
    pictures = pd.read_csv(folder / f"{name}.csv", dtype={"picture": str})
    late = pictures["picture"].map({picture: place / 10 for place, picture in enumerate(PICTURES)})
    worst = (pictures["method"] == "psp") & (pictures["picture"] == "b")
    pictures["st_lpips"] = (late + 0.1 + 0.5 * worst).where(pictures["psnr"].notna())
    for method, cells in results["methods"].items():
        values = pictures.loc[pictures["method"] == method, "st_lpips"].dropna()
        ends = {"mean": values.mean(), "low": values.min(), "high": values.max()}
        cells["st_lpips"] = cells["mse"] | {key: float(value) for key, value in ends.items()}
    (folder / f"{name}.json").write_text(json.dumps(results))
    pictures.to_csv(folder / f"{name}.csv", index=False)


def chapters(root: Path) -> list[Chapter]:
    """A section with everything that a section can hold, and one that is not there."""
    column = Column("gain", "Gain", True, 1)
    cells = {"low": Estimate(1.0, -0.5, 2.0), "high": Estimate(3.0, 2.5, 4.0), "none": Estimate(None)}
    table = Table(
        "gains", "Gains", [column], [Row(key, key, {"gain": cell}) for key, cell in cells.items()], ["A note."]
    )
    words = TextTable("words", "Words", ["Name", "Said"], [["one", EVIL]], ["Another."])
    Image.new("RGB", (120, 60), "navy").save(root / "figure.png", dpi=(100, 100))
    frames = [Image.new("RGB", (48, 48), (40 * i, 90, 200 - 20 * i)) for i in range(6)]
    frames[0].save(root / "clip.webp", save_all=True, append_images=frames[1:], duration=80, loop=0)
    with av.open(str(root / "film.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=12, options={"threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 48, 48, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())
    section = Section(
        "extra",
        "A section of a colleague's",
        ["A sentence of the introduction."],
        [table, words],
        [
            Illustration(root / "figure.png", "A figure.", "a dark rectangle"),
            Illustration(root / "clip.webp", "A clip.", "a square that changes its colour"),
            Illustration(root / "film.mp4", "A film.", "the same square in a video"),
            Illustration(root / "absent.png", "A figure that was not made.", "nothing"),
        ],
    )
    return [
        Chapter("Extra", lambda _: section, "not shown"),
        Chapter("Nothing was made of this.", lambda _: None, "`dvc repro nothing` makes it."),
    ]
