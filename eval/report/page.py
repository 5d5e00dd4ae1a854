"""``reports/index.html``: the tables, figures, pictures, curves and provenance in one file that needs no network.

Everything is read from ``reports/`` and from the pictures themselves; what is not there (training curves of shipped
weights, the head's fidelity, a section that was not made) is left out, and named where it would be missed. The page is
the same, byte for byte, for the same inputs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from eval import measurement
from eval.contest import ROWS, SETS, Places
from eval.costs import TRAINED_AS
from eval.curves import settled_sentences, svg, training_curves
from eval.figures import error_grid, teaser
from eval.figures.contestants import contestants, left_out
from eval.figures.style import save
from eval.profile import Profile
from eval.report.browser import PictureSet
from eval.report.contents import CHAPTERS, Chapter, collect
from eval.report.facts import facts, winners
from eval.report.layout import lay_out
from eval.report.licences import licences, notice
from eval.section import Illustration, Section
from eval.set_table import REHEARSAL, REHEARSED
from eval.table1 import origin_of, render
from eval.tables import ABSENT, Table

FIGURE_METRICS = {"mse": ("MSE", 4), "st_lpips": ("ST-LPIPS", 3), "lpips": ("LPIPS", 3)}
FIGURE_PICTURES = 3
PERCEPTUAL = ("st_lpips", "lpips")  # the first that was measured
LEADS = {
    "embedded": "Methods that find a picture in the latent space of a style-based generator, held to one budget and "
    "measured on the same pictures.",
}
LEAD = (
    "Methods that find a picture in the latent space of a style-based generator, as their authors released them, "
    "measured on the same pictures by one protocol."
)


def report(
    places: Places,
    profile: Profile,
    *,
    sets: Sequence[str] = tuple(SETS),
    titles: Mapping[str, str] = SETS,
    parameters: Mapping[str, Any] | None = None,
    chapters: Sequence[Chapter] = CHAPTERS,
) -> Path:
    """Write ``table1.*``, ``figure1.*``, ``figure4_SET.*`` and ``index.html``; returns the page's path.

    ``titles`` are the sets' names in print. ``parameters`` go into the provenance, beside the hashes of assets, weights
    and test sets. The page of a rehearsal says on every sheet that it is one.

    Raises
    ------
    Refusal
        The page would weigh more than :data:`eval.report.layout.LIMIT`, whatever is done to it.
    """
    origin = origin_of(places, profile, sets, parameters)
    rendered = render(places, origin, sets=sets, profile=profile.name, titles=titles)
    pictures = [_picture_set(places, table, titles) for table in rendered.tables]
    first = next((each for each in pictures if each.name == "photographs"), pictures[0])
    at_a_glance = Section("glance", "At a glance", illustrations=_teaser(places, profile, first))
    table1 = [_table1(places, profile, each, table) for each, table in zip(pictures, rendered.tables, strict=True)]
    further, missing = collect(places, chapters)
    logs = {method: pd.read_csv(path) for method, path in _logs(places.training).items()}
    labels = {method: label.partition(",")[0] for method, label in ROWS.items()}
    curves = training_curves(logs, labels)
    head = places.reports / "head.json"
    everything = {
        "lead": LEADS.get(profile.name, LEAD),
        "notice_in_front": REHEARSED if profile.name == REHEARSAL else None,
        "facts": facts(rendered.tables, profile, origin),
        "winners": [winners(table) for table in rendered.tables],
        "curves": Markup(svg(curves)) if curves else None,  # Matplotlib escapes
        "methods_in_curves": ", ".join(labels.get(method, method) for method in logs),
        "settled": settled_sentences(contestants(logs), labels),  # at equal budgets
        "costs": rendered.costs,
        "head": flat(json.loads(head.read_text(encoding="utf-8"))) if head.exists() else None,
        "missing": missing,
        "provenance": {group: flat(values) for group, values in origin.items()},
        "licences": licences(notice()),
        "notice": notice(),
    }
    target = places.reports / "index.html"
    target.write_text(lay_out(at_a_glance, table1, further, pictures, everything), encoding="utf-8")
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


def _logs(folder: Path) -> dict[str, Path]:
    """METHOD -> its log, in the order of the table's rows; others after them."""
    found = {path.stem: path for path in sorted(folder.glob("*.csv"))}
    order = [method for method in ROWS if method not in TRAINED_AS]
    return {method: found[method] for method in dict.fromkeys([*order, *found]) if method in found}


def _picture_set(places: Places, table: Table, titles: Mapping[str, str]) -> PictureSet:
    rows = [row for row in table.rows if row.cells]
    _, pictures = measurement.read(table.key, places.measurements)
    measured = {column for column in pictures if pd.api.types.is_float_dtype(pictures[column])}
    return PictureSet(
        name=table.key,
        title=titles.get(table.key, table.key),
        sources=places.test / table.key,
        inversions={row.key: places.inversions / row.key / table.key for row in rows},
        labels={row.key: row.label for row in rows},
        pictures=pictures,
        columns=[column for column in table.columns if column.key in measured],
        by=next((metric for metric in PERCEPTUAL if metric in measured), None),
    )


def _teaser(places: Places, profile: Profile, pictures: PictureSet) -> list[Illustration]:
    """Figure 1, where the perceptual distance was measured."""
    if pictures.by is None:
        return []
    metric, labels = (pictures.by, *FIGURE_METRICS[pictures.by]), contestants(pictures.labels)
    drawn = teaser.teaser(
        pictures.sources,
        contestants(pictures.inversions),
        labels,
        pictures.pictures,
        metric,
        resolution=profile.resolution,
    )
    path = places.reports / "figure1.png"
    save(drawn, path)
    words = (pictures.pictures, labels, metric)
    caption = teaser.caption(pictures.title, *words) + left_out(pictures.labels)
    return [Illustration(path, caption, teaser.alternative(*words))]


def _table1(places: Places, profile: Profile, pictures: PictureSet, table: Table) -> Section:
    metrics = {metric: printed for metric, printed in FIGURE_METRICS.items() if metric in pictures.pictures}
    drawn = error_grid.error_grid(
        pictures.sources,
        contestants(pictures.inversions),
        contestants(pictures.labels),
        pictures.pictures,
        metrics,
        resolution=profile.resolution,
        count=FIGURE_PICTURES,
    )
    path = places.reports / f"figure4_{pictures.name}.png"
    save(drawn, path)
    labels = [label for label, _ in metrics.values()]
    caption = error_grid.caption(pictures.title, pictures.sources, FIGURE_PICTURES, labels)
    figure = Illustration(
        path, caption + left_out(pictures.labels), f"Reconstructions and their errors. {winners(table)}"
    )
    return Section(table.key, f"Table 1: {table.key}", [], [table], [figure])
