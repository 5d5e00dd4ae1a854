"""Pictures of other domains through the face generator: what the methods of the contest make of what is no face.

The paper's Figure 6 inverts cars, cats and dogs by generators trained on cars, cats and dogs. The embedded profile has
the face generator alone, and these pictures test how far an inversion reaches beyond its generator's domain: a cat, a
cup, a rocket and stars, which scikit-image ships inside its package, and which may be shown anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import skimage.data
from PIL import Image

from eval import measurement
from eval.contest import ROWS, Places
from eval.figures.other_domains import other_domains as figure
from eval.figures.style import save
from eval.inversions import invert_pictures
from eval.metrics.perceptual import STLPIPSDistance
from eval.metrics.pixel import MSE, PSNR, SSIM
from eval.metrics.suite import Suite
from eval.profile import Profile
from eval.section import Illustration, Section
from eval.set_table import estimate
from eval.tables import Column, Row, Table
from fse.pictures import write_picture

KEY = "other_domains"
PICTURES = {
    "chelsea": ("a cat", "Stefan van der Walt, CC0"),
    "coffee": ("a cup of coffee", "Rachel Michetti, CC0"),
    "rocket": ("a rocket", "SpaceX, public domain"),
    "hubble_deep_field": ("the Hubble eXtreme Deep Field", "NASA, public domain"),
}
"""Name in ``skimage.data`` -> (what it shows, whose it is and on what terms; both by scikit-image's documentation)."""

FIGURE = "figure6.png"
PRINTED = {"mse": ("MSE", 4), "st_lpips": ("ST-LPIPS", 3)}
DECIMALS = {"psnr": 2, "mse": 4}


def write_sources(folder: Path, resolution: int) -> list[Path]:
    """The central square of every picture, reduced as the protocols of the field do, as ``folder/NAME.png``."""
    paths = []
    for name in PICTURES:
        picture = Image.fromarray(getattr(skimage.data, name)())  # out of the package; the library checks its hash
        side, (width, height) = min(picture.size), picture.size
        left, top = (width - side) // 2, (height - side) // 2
        square = picture.convert("RGB").crop((left, top, left + side, top + side))
        paths.append(folder / f"{name}.png")
        write_picture(square.resize((resolution, resolution), Image.Resampling.BILINEAR), paths[-1])
    return paths


def invert_and_measure(folder: Path, places: Places, profile: Profile, methods: Sequence[str], batch: int = 8) -> None:
    """Write the pictures and their inversions under ``folder``, what was measured of them, and the figure."""
    sources = write_sources(folder / "source", profile.resolution)
    inversions = {method: folder / method for method in methods}
    for method, target in inversions.items():
        invert_pictures(sources, target, method, profile, batch=batch)
    suite = Suite([SSIM(), PSNR(), MSE(), STLPIPSDistance(profile.perceptual())], device=profile.device)
    measurement.measure(sources, inversions, suite, resolution=profile.resolution, batch=batch)
    measurement.write(suite, KEY, places.measurements)
    _, pictures = measurement.read(KEY, places.measurements)
    drawn = figure(sources, inversions, ROWS, pictures, PRINTED, resolution=profile.resolution)
    save(drawn, places.reports / FIGURE)


def section(places: Places) -> Section | None:
    """Of the report."""
    if not (places.measurements / f"{KEY}.json").is_file():
        return None
    results, _ = measurement.read(KEY, places.measurements)
    columns = [
        Column(key, metric["label"], metric["higher_is_better"], DECIMALS.get(key, 3))
        for key, metric in results.metrics.items()
    ]
    order = [*ROWS, *results.methods]
    rows = [
        Row(method, ROWS.get(method, method), {key: estimate(cell) for key, cell in cells.items()})
        for method, cells in sorted(results.methods.items(), key=lambda item: order.index(item[0]))
    ]
    notes = [
        f"Mean, and 95 % bootstrap interval over {results.n} pictures, which is to say: an illustration and no "
        "measurement of a domain.",
        "Methods that optimise each picture are left out.",
    ]
    shown = ", ".join(f"{what} ({whose})" for what, whose in PICTURES.values())
    path = places.reports / FIGURE
    best = min(results.methods, key=lambda method: results.methods[method]["st_lpips"]["mean"])
    caption = (
        f"In place of the paper's Figure 6, whose cars, cats and dogs have generators of their own: {shown}, all that "
        "are in the list and none chosen by their results, through methods and generator trained on faces. Out of "
        "scikit-image's package, central square."
    )
    alternative = (
        f"Sources and reconstructions; the methods draw faces, or shapes and colours without the texture. Closest by "
        f"mean ST-LPIPS: {ROWS.get(best, best)}, {results.methods[best]['st_lpips']['mean']:.3f}."
    )
    return Section(
        KEY,
        "What the face generator makes of other domains",
        ["The embedded profile has no generator of cars, cats or dogs: this is the one of faces."],
        [Table(KEY, f"Pictures of other domains: {results.n} pictures", columns, rows, notes)],
        [Illustration(path, caption, alternative)] if path.is_file() else [],
    )
