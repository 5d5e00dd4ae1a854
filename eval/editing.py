"""Editing (sections 3.3, 5.2 and 5.5): ``python -m eval.editing`` edits test pictures, measures, and writes tables.

Methods are compared at an equal effect. For every method and direction the strength is sought, on either side of 0, at
which the attribute moves by a standard deviation on average; there, picture by picture, stand identity, what changed
outside the attribute's region, and what else moved. Values between the measured strengths are interpolated linearly.
The figures are the curves over the strengths, edits by every method (Figure 7), style mixing (Figure 8), and the
limitation that section 5.5 names, with the masked Eq. (1) that it proposes. What is measured, and how, is in
:mod:`eval.edit_measurement`. Stopped, it goes on where it was when it is called again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from scipy.stats import spearmanr

from eval import edit_measurement
from eval.attributes import ATTRIBUTES
from eval.comparison import against_the_best_baseline, printed_p
from eval.contest import METHODS, OURS, Places
from eval.edit_measurement import CONSISTENCY, EDITS, MASKED, MIXING, EditSettings, attribute_of
from eval.figures import editing as figures
from eval.figures import mixing as mixing_figure
from eval.figures.contestants import contestants, left_out
from eval.figures.style import save
from eval.measurement import SetMeasurements, plain
from eval.metrics.suite import mean_cell
from eval.processes import processes_for
from eval.profile import Profile
from eval.provenance import provenance
from eval.section import Illustration, Section
from eval.set_table import Judged, set_table, write_forms
from eval.statistics import MeanInterval, holm, paired_difference
from eval.table1 import read_parameters
from eval.tables import ABSENT, Table, TextTable
from eval.wording import Wording
from fse.allocator import keep_freed_memory
from fse.device import usable_device
from fse.refusal import Refusal, exit_on_refusal

LABELS = {**METHODS, MASKED: "FSE, masked Eq. (1)"}
WORDING = Wording("picture", "pictures", "optimises every picture", "editing.json")
RESAMPLES = 2000

METRICS = {
    "gain": {"label": "Change per unit", "higher_is_better": True},
    "id": {"label": "ID (dlib)", "higher_is_better": True},
    "outside": {"label": "ST-LPIPS outside", "higher_is_better": False},
    "others": {"label": "Other attributes", "higher_is_better": False},
    "lec": {"label": "LEC", "higher_is_better": False},
}
DECIMALS = {"gain": 2, "others": 2, "lec": 1}
AT_CHANGE = ("id", "outside", "others")
"""Columns that are read off at the strength that makes the wanted change."""

TABLE_NAME = "editing"
CURVES, FIGURE7, FIGURE8, LIMITATION = "figure_editing", "figure7", "figure8", "figure_limitation"


def label_of(direction: str) -> str:
    """A direction in print."""
    attribute = attribute_of(direction)
    further = direction.removeprefix(attribute).replace("_", " ").strip()
    return f"{ATTRIBUTES[attribute].label}, {further}" if further else ATTRIBUTES[attribute].label


@dataclass(frozen=True)
class Effect:
    """Of one method along one direction.

    Attributes
    ----------
    strengths : list of float
        At which the attribute has changed by the wanted amount on average: on the positive side, the negative, or
        both; none where the strengths measured do not suffice.
    values : DataFrame
        A row a picture: ``gain`` (change per unit of strength, least squares through 0), and :data:`AT_CHANGE` at
        ``strengths``, the mean of both sides; NaN where something could not be measured.
    """

    strengths: list[float]
    values: pd.DataFrame


def effect(edits: pd.DataFrame, attribute: str, change: float) -> Effect:
    """Of the rows of ``edits.csv`` of one method and direction."""
    others = [key for key in ATTRIBUTES if key != attribute]
    edits = edits.assign(change=edits[attribute], others=edits[others].abs().mean(axis=1))
    pictures = list(dict.fromkeys(edits["picture"]))
    tables = {
        column: edits.pivot(index="picture", columns="strength", values=column).reindex(pictures)
        for column in ("change", *AT_CHANGE)
    }
    means = tables["change"].mean()
    at = [s for s in (_reached(means, change, side) for side in (1, -1)) if s is not None]
    values = pd.DataFrame(index=pd.Index(pictures, name="picture"))
    known = tables["change"].notna().to_numpy()
    strengths = np.where(known, tables["change"].columns.to_numpy(float)[None], 0.0)
    square = (strengths**2).sum(1)
    moved = (strengths * tables["change"].fillna(0).to_numpy()).sum(1)
    values["gain"] = np.divide(moved, square, out=np.full(len(square), np.nan), where=square > 0)
    for column in AT_CHANGE:
        values[column] = _at(tables[column], at, 1.0 if column == "id" else 0.0)
    return Effect(at, values)


def _reached(means: pd.Series, change: float, side: int) -> float | None:
    """The strength on one side of 0 at which the mean change first reaches ``side * change``, interpolated."""
    grid = sorted((float(s) for s in means.index if s * side > 0), key=abs)
    before, value_before = 0.0, 0.0
    for strength in grid:
        value = float(means[strength]) * side
        if value >= change:
            return before + (strength - before) * (change - value_before) / (value - value_before)
        before, value_before = strength, value
    return None


def _at(table: pd.DataFrame, strengths: Sequence[float], at_zero: float) -> NDArray[np.float64]:
    """Mean over ``strengths`` of each picture's value there, between its measured ones; NaN without strengths."""
    grid = np.array(sorted([0.0, *table.columns]))
    values = table.copy()
    values[0.0] = at_zero
    rows = values[grid].to_numpy(float)
    found = [np.array([np.interp(s, grid, row) for row in rows]) for s in strengths]
    return np.mean(found, axis=0) if found else np.full(len(rows), np.nan)


@dataclass(frozen=True)
class Judgement:
    """All that follows from the measurements.

    Attributes
    ----------
    told : dict
        What was measured, as :func:`eval.edit_measurement.read` gives it.
    tables : dict of DataFrame
        The measurements.
    effects : dict
        DIRECTION -> METHOD -> effect.
    sets : dict
        DIRECTION -> results and comparisons.
    curves : dict
        DIRECTION -> METHOD -> STRENGTH -> ``change``, ``id``, ``outside``, ``others`` -> cell.
    """

    told: Mapping[str, Any]
    tables: Mapping[str, pd.DataFrame]
    effects: Mapping[str, Mapping[str, Effect]]
    sets: Mapping[str, Judged]
    curves: Mapping[str, Mapping[str, Mapping[float, Mapping[str, Any]]]]

    @property
    def settings(self) -> EditSettings:
        settings: EditSettings = self.told["settings"]
        return settings

    @classmethod
    def read(cls, places: Places) -> Judgement:
        told, tables = edit_measurement.read(places)
        edits, consistency = tables[EDITS], tables[CONSISTENCY]
        change = told["settings"].change
        effects: dict[str, dict[str, Effect]] = {}
        sets, curves = {}, {}
        for direction in told["settings"].directions:
            of_direction = edits[edits["direction"] == direction]
            attribute = attribute_of(direction)
            groups = {method: of_direction[of_direction["method"] == method] for method in told["methods"]}
            effects[direction] = {method: effect(rows, attribute, change) for method, rows in groups.items()}
            curves[direction] = {method: _curve(rows, attribute) for method, rows in groups.items()}
            lec = consistency[consistency["direction"] == direction]
            sets[direction] = _judged(direction, effects[direction], lec, of_direction, told)
        return cls(told, tables, effects, sets, curves)


def _curve(edits: pd.DataFrame, attribute: str) -> dict[float, dict[str, Any]]:
    others = [key for key in ATTRIBUTES if key != attribute]
    edits = edits.assign(change=edits[attribute], others=edits[others].abs().mean(axis=1))
    return {
        float(strength): {key: plain(mean_cell(rows[key])) for key in ("change", "id", "outside", "others")}
        for strength, rows in edits.groupby("strength")
    }


def _judged(
    direction: str,
    effects: Mapping[str, Effect],
    consistency: pd.DataFrame,
    edits: pd.DataFrame,
    told: Mapping[str, Any],
) -> Judged:
    change, frames, methods = told["settings"].change, [], {}
    for method, found in effects.items():
        lec = consistency[consistency["method"] == method].set_index("picture")["lec"]
        values = found.values.assign(lec=lec.reindex(found.values.index))[list(METRICS)]
        frames.append(values.reset_index().assign(method=method))
        cells: dict[str, Any] = {key: dict(mean_cell(values[key])) for key in METRICS}
        if not found.strengths:
            furthest = f"no strength up to {edits['strength'].max():g} changes the attribute by {change:g} s.d"
            reason = f"not computed for {LABELS.get(method, method)}: {furthest}"
            for key in ("id", "outside", "others"):
                cells[key]["reason"] = reason
        elif ATTRIBUTES[attribute_of(direction)].where == "":
            cells["outside"]["reason"] = "not computed: the attribute is of the whole picture"
        methods[method] = cells
    bad = edits[edits["status"] != "ok"].drop_duplicates(["picture", "method", "status"])
    failures = [
        {"picture": row.picture, "method": row.method, "reason": row.status} for row in bad.itertuples(index=False)
    ]
    results = SetMeasurements(direction, len(told["pictures"]), METRICS, plain(methods), failures)
    compared = against_the_best_baseline(results, pd.concat(frames), (*OURS, MASKED))
    return Judged(results, compared, [])


def tables_of(judgement: Judgement) -> list[Table]:
    """A table a direction."""
    return [_table(judgement, direction) for direction in judgement.sets]


def _table(judgement: Judgement, direction: str) -> Table:
    judged, change = judgement.sets[direction], judgement.settings.change
    attribute = ATTRIBUTES[attribute_of(direction)]
    strengths = {method: found.strengths for method, found in judgement.effects[direction].items()}
    reached = "; ".join(
        f"{LABELS.get(method, method)} {' and '.join(f'{s:+.1f}' for s in found) or 'no strength measured'}"
        for method, found in strengths.items()
    )
    codes: dict[str, list[str]] = {}
    for method, names in judgement.told["codes"].items():
        codes.setdefault(names[direction], []).append(LABELS.get(method, method))
    found_on = "; ".join(f"those of {_codes_label(name)} for {', '.join(each)}" for name, each in codes.items())
    notes = [
        f"Directions were found on codes: {found_on}.",
        f"{attribute.label} ({attribute.meaning}) is to change by {change:g} standard deviation"
        f"{'s' * (change != 1)} of the attribute, on average over the pictures. Strengths that do so, in standard "
        f"deviations of the method's codes: {reached}.",
        "Change per unit: of the attribute, in its standard deviations, per unit of strength. At the strengths above, "
        "mean of the two sides: ID of edit and reconstruction, 0 where the edit has no face any more; ST-LPIPS of the "
        f"two outside {_region(attribute.where)}; mean absolute change of the {len(ATTRIBUTES) - 1} other attributes, "
        "in standard deviations, measurement noise included. LEC: squared distance of the codes from those found after "
        f"an edit of strength {judgement.settings.consistency_strength:g}, inverted and edited back (Tov et al. 2021).",
    ]
    table = set_table(judged, title=f"Editing: {label_of(direction)}", decimals=DECIMALS, notes=notes, wording=WORDING)
    order = list(LABELS)
    rows = [replace(row, label=LABELS.get(row.key, row.label)) for row in table.rows]
    rows.sort(key=lambda row: order.index(row.key) if row.key in order else -1)
    return replace(table, rows=rows, notes=_named(table.notes), failures=_named(table.failures))


def _named(texts: Sequence[str]) -> list[str]:
    """Sentences with the masked form's name in print."""
    return [text.replace(MASKED, LABELS[MASKED]) for text in texts]


def _region(where: str) -> str:
    return {
        "": "nothing, as the attribute is of the whole picture",
        "eyes": "the eyes and brows",
        "lower face": "the lower face",
        "head": "the head",
        "surroundings": "the surroundings, so on the head",
    }[where]


def consistency_table(judgement: Judgement) -> TextTable:
    """LEC by direction, beside what inverting twice costs without an edit."""
    values = judgement.tables[CONSISTENCY]
    rows = []
    for method in judgement.told["methods"]:
        of_one = values[values["method"] == method]
        control = mean_cell(of_one.drop_duplicates("picture")["lec_without_edit"])
        cells = [mean_cell(of_one[of_one["direction"] == name]["lec"]) for name in judgement.settings.directions]
        rows.append([LABELS.get(method, method), *(_printed_cell(cell, 1) for cell in (control, *cells))])
    strength = judgement.settings.consistency_strength
    notes = [
        f"Squared distance of codes, mean over pictures with its 95 % interval: w from the codes of its reconstruction "
        f"(no edit), and from those of its edit of strength {strength:g}, edited back. What an edit adds to the first "
        "column is its inconsistency."
    ]
    headings = ["Method", "no edit", *(label_of(name) for name in judgement.settings.directions)]
    return TextTable("edit-consistency", "Latent editing consistency", headings, rows, notes)


def masked_differences(judgement: Judgement) -> dict[str, dict[str, dict[str, Any]]]:
    """DIRECTION -> METRIC -> masked minus plain Eq. (1), on the same pictures, at the same change of the attribute."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for direction, effects in judgement.effects.items():
        if MASKED not in effects or "fse" not in effects:
            continue
        plain_values, masked_values = effects["fse"].values, effects[MASKED].values
        for key in ("gain", *AT_CHANGE):
            both = pd.concat([plain_values[key], masked_values[key]], axis=1).dropna().to_numpy(float)
            if len(both) < 2:
                continue
            test = paired_difference(both[:, 1], both[:, 0])
            found.setdefault(direction, {})[key] = {
                "plain": float(both[:, 0].mean()),
                "masked": float(both[:, 1].mean()),
                "difference": asdict(test.difference),
                "p": test.p,
                "n": len(both),
            }
    family = [entry for metrics in found.values() for entry in metrics.values()]
    for entry, p in zip(family, holm([entry["p"] for entry in family]), strict=True):
        entry["p_holm"] = p
    return found


def masked_table(differences: Mapping[str, Mapping[str, Mapping[str, Any]]], change: float) -> TextTable:
    labels = {key: metric["label"] for key, metric in METRICS.items()}
    rows = []
    for direction, metrics in differences.items():
        for key, entry in metrics.items():
            decimals = 2 if key in ("gain", "others") else 3
            low, high = entry["difference"]["low"], entry["difference"]["high"]
            rows.append(
                [
                    label_of(direction),
                    str(labels[key]),
                    f"{entry['plain']:.{decimals}f}",
                    f"{entry['masked']:.{decimals}f}",
                    f"{entry['difference']['mean']:+.{decimals}f} [{low:+.{decimals}f}, {high:+.{decimals}f}]",
                    printed_p(entry["p_holm"]),
                    str(entry["n"]),
                ]
            )
    notes = [
        "Masked: F + M (G(edited w) - G(w)), M = d / (d + g) with the local power d of that difference and g of "
        "F - G(w), each relative to its mean (fse.editing.change_mask). Both are compared where they change the "
        f"attribute by {change:g} s.d. on average, the masked form so at a greater strength. Differences with 95 % "
        "intervals over pictures; p of a paired permutation test, Holm's correction over the table.",
    ]
    headings = ["Direction", "Metric", "Plain", "Masked", "Masked - plain", "p (Holm)", "n"]
    return TextTable("edit-masked", "Plain and masked Eq. (1)", headings, rows, notes)


def with_excess(edits: pd.DataFrame) -> pd.DataFrame:
    """Rows of ``edits.csv`` by plain and masked Eq. (1), with ``excess``: identity lost more than by the same edit of
    G(w), which has the same codes and no feature tensor."""
    keys = ["picture", "direction", "strength"]
    own = edits[edits["method"].isin(["fse", MASKED])]
    of_codes = edits[edits["method"] == "fse_w"].set_index(keys)["id"]
    there = pd.MultiIndex.from_frame(own[keys])
    return own.assign(excess=of_codes.reindex(there).to_numpy() - own["id"].to_numpy())


def limitation(judgement: Judgement) -> dict[str, dict[str, Any]]:
    """METHOD (plain and masked FSE) -> what Eq. (1) costs, and how that goes with the feature differences.

    ``excess`` is the mean of :func:`with_excess` over all edits; ``with_change`` its rank correlation with
    ``feature_change`` over all edits, ``with_gap`` that of a picture's mean with its ``feature_gap``. Intervals are
    percentiles of a bootstrap over pictures.
    """
    values = with_excess(judgement.tables[EDITS])
    found: dict[str, dict[str, Any]] = {}
    for method, own in values.groupby("method", sort=False):
        own = own.dropna(subset=["excess"])
        pictures = own.groupby("picture")
        means = pictures[["feature_gap", "excess"]].mean().reset_index()
        groups = [group["excess"].to_numpy(float) for _, group in pictures]
        mean = over_pictures(groups, lambda parts: float(np.concatenate(parts).mean()))
        found[str(method)] = {
            "excess": {**_finite(mean), "pictures": len(groups), "edits": len(own)},
            "with_change": _correlation(own, "feature_change", "excess"),
            "with_gap": _correlation(means, "feature_gap", "excess"),
        }
    return found


def _correlation(values: pd.DataFrame, x: str, y: str) -> dict[str, Any]:
    values = values[["picture", x, y]].dropna()
    groups = [group[[x, y]].to_numpy(float) for _, group in values.groupby("picture")]

    def rank(parts: Sequence[NDArray[np.float64]]) -> float:
        joined = np.concatenate(parts)
        if (joined == joined[0]).all(0).any():  # one picture drawn every time
            return float("nan")
        return float(spearmanr(joined[:, 0], joined[:, 1]).statistic)

    interval = over_pictures(groups, rank)
    return {**_finite(interval), "pictures": len(groups), "edits": len(values)}


def over_pictures(
    groups: Sequence[NDArray[np.float64]], statistic: Callable[[Sequence[NDArray[np.float64]]], float]
) -> MeanInterval:
    """A statistic of all pictures' values, with the 2.5 and 97.5 percentiles of a seeded bootstrap over pictures."""
    if len(groups) < 3:
        return MeanInterval(np.nan, np.nan, np.nan)
    random = np.random.default_rng(0)
    drawn = [statistic([groups[i] for i in random.integers(0, len(groups), len(groups))]) for _ in range(RESAMPLES)]
    low, high = np.nanpercentile(drawn, (2.5, 97.5)) if np.isfinite(drawn).any() else (np.nan, np.nan)
    return MeanInterval(statistic(groups), float(low), float(high))


def _finite(interval: MeanInterval) -> dict[str, float | None]:
    return {key: float(value) if np.isfinite(value) else None for key, value in asdict(interval).items()}


def limitation_table(found: Mapping[str, Mapping[str, Any]]) -> TextTable:
    rows = [
        [LABELS[method], *(_printed_interval(each, 2) for each in columns.values())]
        for method, columns in found.items()
    ]
    counts = next(iter(found.values()))["excess"] if found else {"edits": 0, "pictures": 0}
    notes = [
        "Identity lost: ID of G(w)'s edit minus that of the same edit by Eq. (1), each to its own reconstruction, at "
        f"the same strengths; mean over {counts['edits']} edits of {counts['pictures']} pictures. The other columns "
        "are Spearman's rank correlations of it: with the change of the feature tensor, |G(edited w) - G(w)| / |G(w)|, "
        "over all edits, and, a value a picture, with its gap, |F - G(w)| / |G(w)|; both of the first K layers. 95 % "
        "intervals by a bootstrap over pictures.",
    ]
    headings = ["Method", "identity lost beyond G(w)'s", "rank correlation with change", "with gap"]
    return TextTable("edit-limitation", "Section 5.5: what Eq. (1) costs", headings, rows, notes)


def mixing_shares(judgement: Judgement) -> dict[str, dict[str, Any]]:
    """ATTRIBUTE -> how much of G(F_A, w_B) comes from A: least squares of the mixture's attribute on both pictures'.

    ``structure`` and ``style`` are the two slopes, with intervals over pairs; ``id`` has the mean identity to each.
    """
    values = judgement.tables.get(MIXING)
    if values is None or values.empty:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for key in ATTRIBUTES:
        known = values[[key, f"{key}_structure", f"{key}_style"]].dropna().to_numpy(float)
        groups = [row[None] for row in known]
        slopes = {
            name: over_pictures(groups, partial(_slope, column)) for column, name in enumerate(("structure", "style"))
        }
        found[key] = {name: _finite(interval) for name, interval in slopes.items()} | {"pairs": len(known)}
    found["id"] = {name: plain(mean_cell(values[f"id_{name}"], "pairs")) for name in ("structure", "style")} | {
        "pairs": len(values)
    }
    return found


def _slope(column: int, parts: Sequence[NDArray[np.float64]]) -> float:
    """One of the two slopes of least squares, with a constant, of rows (mixture, structure, style)."""
    values = np.concatenate(parts)
    design = np.column_stack((values[:, 1:], np.ones(len(values))))
    return float(np.linalg.lstsq(design, values[:, 0], rcond=None)[0][column])


def mixing_table(shares: Mapping[str, Mapping[str, Any]]) -> TextTable:
    rows = [
        [
            ATTRIBUTES[key].label if key in ATTRIBUTES else "identity (mean cosine)",
            _printed_interval(found["structure"], 2),
            _printed_interval(found["style"], 2),
            str(found["pairs"]),
        ]
        for key, found in shares.items()
    ]
    notes = [
        "The mixture G(F_A, w_B), by what it has from A's feature tensor and from B's codes: slopes of the mixture's "
        "attribute on those of both reconstructions, 1 where it follows one of them alone; intervals are over pairs, "
        "which share pictures, so too narrow. The last row is the mean centred dlib cosine to either.",
    ]
    headings = ["Attribute", "from the feature tensor", "from the codes", "Pairs"]
    return TextTable("mixing", "Style mixing", headings, rows, notes)


def _printed_cell(cell: Mapping[str, Any], decimals: int) -> str:
    return _printed_interval({key: cell[key] for key in ("mean", "low", "high")}, decimals)


def _printed_interval(found: Mapping[str, Any], decimals: int) -> str:
    if found["mean"] is None:
        return ABSENT
    mean = f"{found['mean']:.{decimals}f}"
    if found["low"] is None:
        return mean
    return f"{mean} [{found['low']:.{decimals}f}, {found['high']:.{decimals}f}]"


def boundary_table(found: Mapping[str, Any]) -> TextTable:
    """How well each attribute's boundary separates codes that did not fit it, by whose codes (``directions.json``)."""
    accuracies, effects = found["accuracies"], found["effects"]
    names = [name for name in ("generator", *METHODS) if name in accuracies]
    rows = []
    for key, attribute in ATTRIBUTES.items():
        row = [attribute.label]
        for name in names:
            each, moved = accuracies[name][key], effects[name][key][key]["mean"]
            stands_in = " *" if key in found["replaced"].get(name, []) else ""
            row.append(
                f"{100 * each['held_out_accuracy']:.0f} / {100 * each['accuracy_on_the_rest']:.0f} %, "
                f"r {each['held_out_correlation']:.2f}, moves {moved:+.2f}{stands_in}"
            )
        rows.append(row)
    settings = found["parameters"]
    notes = [
        f"InterFaceGAN on {found['count']} renders: an SVM between the {100 * settings['fraction']:g} % of codes with "
        f"the highest and the lowest value of an attribute, of which {100 * settings['train']:g} % fit it. Accuracy on "
        "the chosen ones that were held out / on all others (above or below their median: chance is 50 %); r, the "
        "correlation of position and attribute on both; and how far a unit of strength along the direction moves the "
        "attribute of the generator's own pictures, in its standard deviations.",
        "Attributes are measured on the renders, codes are each method's own of the same renders; the generator's are "
        "those that they were made of. HFGI has e4e's codes, G(w) has FSE's; methods that iterate or optimise edit "
        "along the generator's directions.",
    ]
    if any(found["replaced"].values()):
        notes.append(
            f"* fails: it moves the attribute less than {settings['least_effect']:g} times as far as the generator's "
            "direction, along which edits by this method then go. Where the accuracy is near chance too, the encoder "
            "leaves the attribute out of its codes; where it is high, the codes tell the attribute in a way that the "
            "generator does not follow, as the codes of an encoder fill other directions than W does."
        )
    headings = ["Attribute", *(_codes_label(name) for name in names)]
    return TextTable("boundaries", "Directions, by whose codes they were found on", headings, rows, notes)


def _codes_label(name: str) -> str:
    return "the generator" if name == "generator" else METHODS.get(name, name).partition(",")[0]


def effects_table(found: Mapping[str, Any]) -> TextTable:
    """What each of the generator's directions does to its own pictures; of ``directions.json``."""
    rows = []
    for name, effect_of in found["effects"]["generator"].items():
        order = sorted(effect_of, key=lambda key: -abs(effect_of[key]["mean"]))
        first = attribute_of(name) if attribute_of(name) in ATTRIBUTES else order[0]
        second = next(key for key in order if key != first)
        cells = (f"{ATTRIBUTES[key].label} {_printed_interval(effect_of[key], 2)}" for key in (first, second))
        rows.append([name, *cells])
    settings = found["parameters"]
    notes = [
        "Change for each unit of strength, in standard deviations of the attribute, with its 95 % interval over "
        f"{settings['effect_pictures']} pictures that no direction was found on, from strengths of "
        f"±{settings['effect_strength']:g}. Of InterFaceGAN's directions, the attribute that it was found for; of "
        "GANSpace's and SeFa's, the one that moves most. Conditional: without what it shares with the normals of all "
        "other attributes. Early and late: rows of the codes before and after layer K.",
    ]
    return TextTable("effects", "What the generator's directions move", ["Direction", "Attribute", "Next"], rows, notes)


def direction_tables(places: Places) -> list[TextTable]:
    """Of what the stage `directions` found; none where it has not run."""
    path = places.reports / "directions.json"
    if not path.is_file():
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [boundary_table(found), effects_table(found)]
    except (ValueError, KeyError, TypeError) as error:
        raise Refusal(f"{path} cannot be read ({error!r}); run `python -m pipelines.directions`") from error


def text_tables(judgement: Judgement) -> list[TextTable]:
    """What there is besides the tables of single directions."""
    differences, correlations = masked_differences(judgement), limitation(judgement)
    shares = mixing_shares(judgement)
    tables = [
        consistency_table(judgement),
        masked_table(differences, judgement.settings.change),
        limitation_table(correlations),
        mixing_table(shares),
    ]
    return [table for table in tables if table.rows]


def render(places: Places, origin: Mapping[str, Any], *, profile: str = "embedded") -> list[Table]:
    """Write ``editing.{json,md,csv,tex}`` from the measurements; ``origin`` is the provenance."""
    judgement = Judgement.read(places)
    tables = tables_of(judgement)
    results = {
        "metrics": METRICS,
        "profile": profile,
        "provenance": dict(origin),
        "measured": {**judgement.told, "settings": asdict(judgement.settings)},
        "sets": {name: judged.as_json() for name, judged in judgement.sets.items()},
        "strengths": {
            direction: {method: found.strengths for method, found in effects.items()}
            for direction, effects in judgement.effects.items()
        },
        "curves": plain(judgement.curves),
        "masked": masked_differences(judgement),
        "limitation": limitation(judgement),
        "mixing": mixing_shares(judgement),
    }
    write_forms(places.reports / TABLE_NAME, results, tables, [*text_tables(judgement), *direction_tables(places)])
    return tables


def illustrate(places: Places, profile: Profile, *, pictures: Path = Path("data/edits")) -> None:
    """Write the four figures from the measurements and the kept pictures."""
    judgement = Judgement.read(places)
    methods = list(judgement.told["methods"])
    labels = {method: LABELS.get(method, method) for method in methods}
    directions = {name: label_of(name) for name in judgement.settings.directions}
    save(figures.curves(judgement.curves, labels, directions), places.reports / f"{CURVES}.png")
    edits = judgement.tables[EDITS]
    shown = judgement.told["shown"]
    drawn = figures.edits(
        pictures,
        shown[0],
        _in_figure7(labels),
        directions,
        edits,
        strength=judgement.settings.shown_strength,
        resolution=profile.resolution,
    )
    save(drawn, places.reports / f"{FIGURE7}.png")
    if MIXING in judgement.tables:
        save(
            mixing_figure.mixing(pictures, judgement.tables[MIXING], shown, resolution=profile.resolution),
            places.reports / f"{FIGURE8}.png",
        )
    if {"fse", MASKED} <= set(methods):
        save(
            figures.limitation(pictures, shown, with_excess(edits), directions, labels, resolution=profile.resolution),
            places.reports / f"{LIMITATION}.png",
        )


def _in_figure7(labels: Mapping[str, str]) -> dict[str, str]:
    """The contest; the masked form has a figure of its own."""
    return {method: label for method, label in contestants(labels).items() if method != MASKED}


def section(places: Places) -> Section | None:
    """Of the report; None where no edits were measured."""
    if not (places.measurements / f"{EDITS}.json").is_file():
        return None
    judgement = Judgement.read(places)
    told, settings = judgement.told, judgement.settings
    sets = "; ".join(f"{count} of {name}" for name, count in settings.pictures.items())
    not_edited = [METHODS[name] for name in METHODS if name not in told["methods"]]
    introduction = [
        f"{len(told['pictures'])} pictures ({sets}, the first by name) are inverted, and edited by each method in its "
        "own way: FSE by Eq. (1), HFGI by consulting its residual again, the others in W+ alone. Directions are "
        "InterFaceGAN's, found on each method's own codes of renders with measured attributes, or on the generator's "
        "where those do not hold the attribute; strength 1 is one standard deviation of these codes.",
        *([f"Not here: {', '.join(not_edited)}: slow, untrained, or out of the contest."] if not_edited else []),
    ]
    labels = {method: LABELS.get(method, method) for method in told["methods"]}
    methods = ", ".join(labels.values())
    directions = ", ".join(label_of(name) for name in settings.directions)
    first, strengths = told["shown"][0], ", ".join(f"{s:g}" for s in settings.strengths)
    strength = settings.shown_strength
    shown = {
        CURVES: (
            f"Identity kept against the change of the attribute, at strengths {strengths} and 0, where the lines meet. "
            f"Means over {len(told['pictures'])} pictures with 95 % intervals; higher is "
            "better, further out is a stronger effect.",
            f"Curves for {directions}, a line a method: {methods}.",
        ),
        FIGURE7: (
            f"Figure 7: {first}, the first picture by name, edited at strength {strength:g}, in standard deviations of "
            "the method's codes, along each direction by each method, with the measured change and identity."
            f"{left_out(labels)}",
            f"A grid of edits; rows: {', '.join(_in_figure7(labels).values())}; columns: {directions}.",
        ),
        FIGURE8: (
            "Figure 8, style mixing: the feature tensor of one picture with the codes of the other, and back; the "
            "first pictures by name. Identity is to the reconstruction that gave the feature tensor, and the codes.",
            "Pairs of pictures, their reconstructions, and the two mixtures between them.",
        ),
        LIMITATION: (
            "Section 5.5's limitation: identity that an edit by Eq. (1) loses beyond the same edit of G(w), against "
            "the change of the feature tensor (left: a point an edit, lines are means) and its gap (right: a point a "
            "picture), plain and masked; below, of the edits at strength "
            f"{max(settings.strengths):g} that are kept, the one that lost most.",
            "Two scatter plots of plain and masked Eq. (1), and one example.",
        ),
    }
    illustrations = [
        Illustration(places.reports / f"{name}.png", *texts)
        for name, texts in shown.items()
        if (places.reports / f"{name}.png").is_file()
    ]
    tables: list[Table | TextTable] = [*tables_of(judgement), *text_tables(judgement), *direction_tables(places)]
    return Section("editing", "Editing", introduction, tables, illustrations)


def origin_of(places: Places, profile: Profile, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Provenance: code, parameters, machine, and the hashes of assets, weights, directions and pictures."""
    inputs = {**profile.inputs, "directions": places.directions}
    return provenance(inputs | {"test": places.test}, parameters)


def settings_from(parameters: Mapping[str, Any] | None) -> EditSettings:
    """Of the section ``editing`` of the parameters."""
    try:
        return EditSettings(**(parameters or {})["editing"])
    except (KeyError, TypeError) as error:
        raise Refusal(f"params.yaml has no complete section editing ({error}); restore it with git") from error


@exit_on_refusal
def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m eval.editing",
        description="Edit test pictures by every method, measure the edits, and draw Figures 7 and 8.",
        epilog="examples:\n  python -m eval.editing --methods e4e,fse --pictures 2 --out runs/edits\n"
        "  python -m eval.editing --directions smile_conditional --out runs/conditional",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--methods", metavar="A,B", help="default: all with trained weights, but the slow ones")
    parser.add_argument("--directions", metavar="A,B", help="default: those of params.yaml")
    parser.add_argument("--pictures", type=int, metavar="N", help="only the first N pictures of each set")
    parser.add_argument("--test", type=Path, metavar="DIR", default=Places.test, help="default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: reports, and data/edits for pictures")
    parser.add_argument("--render-only", action="store_true", help="tables and figures of what was measured before")
    parser.add_argument("--device", default="cpu", help="where networks run (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.pictures is not None and arguments.pictures < 1:
        raise Refusal(f"--pictures is {arguments.pictures}: give at least 1")
    parameters = read_parameters()
    settings = settings_from(parameters)
    if arguments.directions:
        settings = replace(settings, directions=arguments.directions.split(","))
    if arguments.pictures:
        settings = replace(settings, pictures={name: arguments.pictures for name in settings.pictures})
    profile = Profile(device=usable_device(arguments.device))
    places = Places(test=arguments.test, reports=arguments.out or Path("reports"))
    pictures = Path("data/edits") if arguments.out is None else arguments.out / "edits"
    methods = arguments.methods.split(",") if arguments.methods else None
    if not arguments.render_only:
        keep_freed_memory()
        edit_measurement.evaluate(
            places,
            profile,
            settings,
            methods=methods,
            pictures=pictures,
            processes=processes_for(profile.device),
        )
    tables = render(places, origin_of(places, profile, parameters), profile=profile.name)
    illustrate(places, profile, pictures=pictures)
    console = Console()
    for table in tables:
        console.print(table.rich(console.width), "")
    console.print(f"written: {places.reports}/{TABLE_NAME}.{{md,csv,tex,json}} and four figures", style="dim")


if __name__ == "__main__":
    main()
