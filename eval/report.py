"""``reports/index.html``: the tables, figures, training curves and provenance in one file that needs no network.

Everything is read from ``reports/`` and from the pictures themselves; what is not there (training curves of shipped
weights, the head's fidelity) is left out. The page is the same, byte for byte, for the same inputs.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from eval import measurement
from eval.contest import METHODS, SETS, Places
from eval.costs import TRAINED_AS
from eval.curves import settled_sentences, svg, training_curves
from eval.figures.error_grid import caption, error_grid
from eval.figures.style import save
from eval.profile import Profile
from eval.table1 import origin_of, read_parameters, render
from eval.tables import ABSENT, Table
from fse.pictures import list_pictures, open_picture
from fse.refusal import exit_on_refusal

FIGURE_METRICS = {"mse": ("MSE", 4), "st_lpips": ("ST-LPIPS", 3)}
FIGURE_PICTURES = 7
HARDEST = 4
HARDEST_BY = "st_lpips"
THUMBNAIL = 144  # px


@dataclass(frozen=True)
class Section:
    """What the page shows of one test set. ``hardest`` is a list of (picture name, [(label, image, values)])."""

    name: str
    table: Table
    figure: str
    caption: str
    hardest: Sequence[tuple[str, Sequence[tuple[str, str, str]]]]


def report(
    places: Places,
    profile: Profile,
    *,
    sets: Sequence[str] = tuple(SETS),
    parameters: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``table1.*``, ``figure4_SET.{png,pdf}`` and ``index.html``; returns the page's path.

    ``parameters`` go into the provenance, beside the hashes of assets, weights and test sets.
    """
    origin = origin_of(places, profile, sets, parameters)
    rendered = render(places, origin, sets=sets, profile=profile.name)
    sections = [_section(places, profile, name, table) for name, table in zip(sets, rendered.tables, strict=True)]
    trained = [method for method in METHODS if method not in TRAINED_AS]
    logs = {method: pd.read_csv(path) for method, path in _logs(places.training, trained).items()}
    labels = {method: METHODS[method].partition(",")[0] for method in trained}
    curves = training_curves(logs, labels)
    head = places.reports / "head.json"
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        sections=sections,
        curves=Markup(svg(curves)) if curves else None,  # Matplotlib escapes
        settled=settled_sentences(logs, labels),
        costs=rendered.costs,
        head=flat(json.loads(head.read_text(encoding="utf-8"))) if head.exists() else None,
        code=origin["code"],
        provenance={group: flat(values) for group, values in origin.items()},
    )
    target = places.reports / "index.html"
    target.write_text(page, encoding="utf-8")
    return target


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values under dotted names, as text."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = (
                f"{value:.6g}" if isinstance(value, float) else ABSENT if value is None else str(value)
            )
    return found


def _logs(folder: Path, order: Sequence[str]) -> dict[str, Path]:
    """METHOD -> its log, in the order of the table's rows; others after them."""
    found = {path.stem: path for path in sorted(folder.glob("*.csv"))}
    return {method: found[method] for method in dict.fromkeys([*order, *found]) if method in found}


def _section(places: Places, profile: Profile, name: str, table: Table) -> Section:
    _, pictures = measurement.read(name, places.measurements)
    labels = {row.key: row.label for row in table.rows}
    sources, inversions = places.test / name, {method: places.inversions / method / name for method in labels}
    shown = {metric: printed for metric, printed in FIGURE_METRICS.items() if metric in pictures}
    drawn = error_grid(
        sources, inversions, labels, pictures, shown, resolution=profile.resolution, count=FIGURE_PICTURES
    )
    path = places.reports / f"figure4_{name}.png"
    save(drawn, path)
    return Section(
        name=name,
        table=table,
        figure=jpeg(Image.open(path).convert("RGB"), quality=80),
        caption=caption(SETS.get(name, name), sources, FIGURE_PICTURES, [label for label, _ in shown.values()]),
        hardest=hardest(sources, inversions, labels, pictures),
    )


def hardest(
    sources: Path, inversions: Mapping[str, Path], labels: Mapping[str, str], pictures: pd.DataFrame
) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """The pictures that the last method (ours, as in the paper's tables) reconstructs worst, the worst first.

    Returns (picture name, [(label, image address, value in print)]) with the source first; nothing where the
    perceptual distance was not measured.
    """
    if HARDEST_BY not in pictures:
        return []
    measured = pictures[(pictures["method"] == list(labels)[-1]) & pictures[HARDEST_BY].notna()]
    worst = measured.sort_values([HARDEST_BY, "picture"], ascending=[False, True])["picture"][:HARDEST]
    rows = pictures.set_index(["picture", "method"])
    files = {path.stem: path for path in list_pictures(sources)}
    found = []
    for name in worst:
        cells = [("source", _thumbnail(files[name]), "")]
        for method, folder in inversions.items():
            if pd.notna(distance := rows[HARDEST_BY].get((name, method))):
                value = f"{FIGURE_METRICS[HARDEST_BY][0]} {distance:.3f}"
                cells.append((labels[method], _thumbnail(folder / f"{name}.png"), value))
        found.append((name, cells))
    return found


def _thumbnail(path: Path) -> str:
    return jpeg(open_picture(path).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS), quality=82)


def jpeg(image: Image.Image, quality: int) -> str:
    """A ``data:`` address."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


@exit_on_refusal
def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m eval.report", description="Render tables, figures and reports/index.html from the measurements."
    )
    parser.add_argument("--out", type=Path, default=Path("reports"), help="the reports' folder (default: %(default)s)")
    parser.add_argument("--sets", nargs="+", default=list(SETS), metavar="SET", help="default: %(default)s")
    arguments = parser.parse_args()
    print(report(Places(reports=arguments.out), Profile(), sets=arguments.sets, parameters=read_parameters()))


if __name__ == "__main__":
    main()
