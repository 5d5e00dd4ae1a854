"""The ablations (paper, section 5.4): what each part of FSE is worth. ``python -m eval.ablation``.

:mod:`pipelines.ablate` trains the variants and measures each with :func:`measure`; this module compares them, picture
by picture, with the full method at the same seed. Two things move a mean: the choice of pictures, which the intervals
and the tests speak of, and the choice of first weights and batches, which the spread over seeds speaks of. A
difference is called separable only when it stands out from both.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console
from torch import Tensor

from eval.contest import Places
from eval.figures.style import STYLE, save
from eval.metrics.perceptual import LPIPSDistance, STLPIPSDistance
from eval.metrics.pixel import MSE, PSNR, SSIM
from eval.metrics.suite import Suite
from eval.provenance import provenance
from eval.section import Illustration, Section
from eval.set_table import write_forms
from eval.statistics import holm, mean_interval, paired_difference
from eval.tables import ABSENT, Column, Estimate, Row, Table, TextTable
from fse.losses import reduce
from fse.perceptual import STLPIPS
from fse.refusal import Refusal, exit_on_refusal

FULL = "full"
LABELS = {
    FULL: "full method",
    "no_eq2": "without Eq. (2)",
    "no_eq6": "without Eq. (6)",
    "no_eq7": "without Eq. (7)",
    "single_scale": "perceptual loss at one scale",
    "no_feature_branch": "without the feature branch",
    "no_eq4": "without Eq. (4)",
    "synthetic_only": "synthetic only",
    "real_only": "without synthetic pictures",
    "k3": "K = 3",
    "k7": "K = 7, stem of stride 1",
    "k5_stem1": "K = 5, stem of stride 1",
    "no_pixel_feature": "without our squared error of G(F, w)",
    "no_warm_start": "without the warm start",
    "both_receive_f": "both passes receive F",
}
REMARKS = {
    "no_feature_branch": "Without the feature branch the result is G(w), and every loss sees G(w) alone.",
    "no_eq4": "Without Eq. (4) the warm start does not regress F either.",
    "real_only": "Only on pictures pushed off the manifold, Eq. (2) has no synthetic picture to act on.",
    "k7": "K = 7 has an F of 32 x 32, for which the trunk's stem needs stride 1 and the trunk four times the work; so "
    "it is compared with K = 5 on that trunk.",
    "both_receive_f": "In the released code both passes receive F and differ in random noise. This generator's noise "
    "is fixed: both passes are G(F, w), no loss sees G(w), and the first K codes learn in the warm start only.",
    "rgb_skip": "RGB skip, not applicable: the embedded profile's generator (MobileStyleGAN) has none, so that F and "
    "the codes after K determine the picture. The paper profile's StyleGAN2 has one.",
}
REFERENCES = {"k7": "k5_stem1"}  # what a variant is compared with, where it is not the full method
SETS = {"result": "the method's own result", "codes": "G(w)"}
METRICS = {metric.key: metric for metric in (SSIM, PSNR, MSE, STLPIPSDistance)}
PAPER_METRICS = {metric.key: metric for metric in (SSIM, PSNR, MSE, LPIPSDistance)}
COLUMNS = {
    key: Column(key, metric.label, metric.higher_is_better, {"psnr": 2, "mse": 4}.get(key, 3))
    for key, metric in (METRICS | PAPER_METRICS).items()
}
SIGNIFICANT = 0.05

Values = dict[str, dict[str, list[float]]]


@torch.no_grad()
def measure(
    reconstruct: Callable[[Tensor], Mapping[str, Tensor]],
    pictures: Tensor,
    perceptual: STLPIPS | LPIPSDistance,
    side: int,
    *,
    batch: int = 8,
) -> Values:
    """RECONSTRUCTION -> METRIC -> one value a picture.

    Parameters
    ----------
    reconstruct : callable
        Pictures (B, 3, R, R) -> their reconstructions (B, 3, side, side) by name, the method's own result last.
    pictures : Tensor
        (n, 3, R, R) in [-1, 1]; compared after reduction to ``side``.
    """
    distance = STLPIPSDistance(perceptual) if isinstance(perceptual, STLPIPS) else perceptual
    suite = Suite([SSIM(), PSNR(), MSE(), distance], device=pictures.device)
    for start in range(0, len(pictures), batch):
        part = pictures[start : start + batch]
        found = {name: picture.float().clamp(-1, 1) for name, picture in reconstruct(part).items()}
        suite.update([f"{start + i:05}" for i in range(len(part))], reduce(part, side).clamp(-1, 1), found)
    return {
        str(name): {key: [float(f"{value:.7g}") for value in rows[key]] for key in COLUMNS if key in rows}
        for name, rows in suite.compute().pictures.groupby("method", sort=False)
    }


@dataclass(frozen=True)
class Run:
    """A trained variant as measured: ``VARIANT-seedSEED.json``.

    Attributes
    ----------
    variant, seed : str, int
        What was trained; the seed decides its first weights and its batches.
    changes : dict
        Its line in ``params.yaml``.
    resolution : int
        Of the losses and of the measurement, in pixels.
    pictures : dict
        What :func:`measure` gives.
    training : dict
        ``steps``, ``seconds``, and ``parameters`` of the network.
    provenance : dict
        See :mod:`eval.provenance`; its parameters are those in force.
    """

    variant: str
    seed: int
    changes: dict[str, Any]
    resolution: int
    pictures: Values
    training: dict[str, float]
    provenance: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.variant}-seed{self.seed}"

    def write(self, folder: Path) -> None:
        """Write the file."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), indent=1, allow_nan=False)
        (folder / f"{self.name}.json").write_text(text + "\n", encoding="utf-8")

    def of(self, set_name: str) -> dict[str, list[float]]:
        """METRIC -> values of the method's own result, the last of ``pictures``, or of a reconstruction by name."""
        return self.pictures.get(set_name, list(self.pictures.values())[-1])

    def mean(self, set_name: str, metric: str) -> float:
        return float(np.mean(self.of(set_name)[metric]))

    @property
    def is_paper(self) -> bool:
        """Whether it was trained in the paper profile, whose generator is a file and has no heads of ours."""
        return "generator" in self.provenance["inputs"]

    @property
    def columns(self) -> tuple[Column, ...]:
        """Of tables, one a metric of the run's profile."""
        return tuple(COLUMNS[key] for key in (PAPER_METRICS if self.is_paper else METRICS))

    def conditions(self) -> dict[str, Any]:
        """What runs must share to be compared, by name; what the variant itself changes is left out."""
        inputs = self.provenance["inputs"]
        found = {"resolution": self.resolution} | {name: inputs.get(name) for name in ("heads", "generator")}
        for section, values in self.provenance["parameters"].items():
            found |= {f"{section}.{name}": value for name, value in values.items() if name not in self.changes}
        for name in ("train.seed", "ablation.variants"):
            found.pop(name, None)
        return found


Runs = Mapping[tuple[str, int], Run]


def read_runs(folder: Path) -> dict[tuple[str, int], Run]:
    """(VARIANT, SEED) -> run, of every file in ``folder``, variants in the order of the labels.

    Raises
    ------
    Refusal
        A file is no such measurement, the full method is missing, or a run had another budget, data or pictures.
    """
    remedy = "run `dvc repro ablate ablate_seeds`"
    runs = []
    for path in folder.glob("*.json"):
        try:
            run = Run(**json.loads(path.read_text(encoding="utf-8")))
            for name in SETS:
                for column in run.columns:
                    run.mean(name, column.key)
            run.conditions()
        except (OSError, ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise Refusal(f"{path} is no measurement of a variant ({reason}); delete it and {remedy}") from error
        runs.append(run)
    places = {variant: place for place, variant in enumerate(LABELS)}
    runs.sort(key=lambda run: (places.get(run.variant, len(places)), run.variant, run.seed))
    if not runs or runs[0].variant != FULL:
        raise Refusal(f"{folder} has no measurement of the full method to compare with: {remedy}")
    conditions = runs[0].conditions()
    for run in runs:
        differ = [name for name, value in run.conditions().items() if conditions.get(name, value) != value]
        if differ:
            what = f"{run.name} and {runs[0].name} differ in {', '.join(differ)}"
            raise Refusal(f"{folder}: {what} and cannot be compared; {remedy}")
    return {(run.variant, run.seed): run for run in runs}


@dataclass(frozen=True)
class Difference:
    """A variant minus its reference, in one metric, on the same pictures and with the same seed.

    Attributes
    ----------
    mean, low, high : float
        Over pictures, with the 95 % interval.
    p, p_holm : float
        Of the paired permutation test, and corrected for all comparisons of the set.
    effect : float or None
        Cohen's d_z.
    seeds : dict
        SEED -> mean difference, for every seed that both were trained with.
    separable : bool
        ``p_holm`` < .05, and the difference is larger than the spread over seeds, where that is known.
    """

    reference: str
    mean: float
    low: float
    high: float
    p: float
    p_holm: float
    effect: float | None
    seeds: dict[int, float]
    separable: bool


@dataclass(frozen=True)
class Comparison:
    """Of a set: VARIANT -> METRIC -> difference, and METRIC -> spread over seeds, empty if every variant has one."""

    differences: dict[str, dict[str, Difference]]
    spread: dict[str, float]


def spread_over_seeds(runs: Runs, set_name: str) -> dict[str, float]:
    """METRIC -> highest minus lowest mean over a variant's seeds, of the variant in which that is largest."""
    found: dict[str, float] = {}
    for of_one in _seeds(runs).values():
        for key in (column.key for column in of_one[0].columns):
            means = [run.mean(set_name, key) for run in of_one]
            found[key] = max(found.get(key, 0.0), max(means) - min(means))
    return found


def compare(runs: Runs, set_name: str) -> Comparison:
    """Every variant with its reference, at the lowest seed of the full method."""
    spread, first = spread_over_seeds(runs, set_name), _first(runs)
    seed = first.seed
    pairs = []
    for variant, own_seed in runs:
        if own_seed == seed and variant != FULL:
            wanted = REFERENCES.get(variant, FULL)
            pairs += [(variant, wanted if (wanted, seed) in runs else FULL, c.key) for c in first.columns]
    tests = [
        paired_difference(runs[variant, seed].of(set_name)[key], runs[reference, seed].of(set_name)[key])
        for variant, reference, key in pairs
    ]
    differences: dict[str, dict[str, Difference]] = {}
    for (variant, reference, key), test, p_holm in zip(pairs, tests, holm([test.p for test in tests]), strict=True):
        both = [s for v, s in runs if v == variant and (reference, s) in runs]
        differences.setdefault(variant, {})[key] = Difference(
            reference=reference,
            **asdict(test.difference),
            p=test.p,
            p_holm=p_holm,
            effect=test.effect,
            seeds={s: runs[variant, s].mean(set_name, key) - runs[reference, s].mean(set_name, key) for s in both},
            separable=p_holm < SIGNIFICANT and abs(test.difference.mean) > spread.get(key, 0.0),
        )
    return Comparison(differences, spread)


@dataclass(frozen=True)
class DifferenceTable(Table):
    """Bold is what is separable, not what is best."""

    separable: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def best(self, column: Column) -> frozenset[str]:
        return self.separable[column.key]


def tables(runs: Runs, compared: Mapping[str, Comparison]) -> list[Table]:
    """Of each set the means and the differences, then the seeds of the variants that have several."""
    first = _first(runs)
    what = "pictures of FFHQ that were held out" if first.is_paper else "renders pushed off the manifold"
    data, columns = f"{len(first.of('result')['mse'])} {what}, {first.resolution} px", first.columns
    variants = [run for run in runs.values() if run.seed == first.seed]
    remarks = [text for key, text in REMARKS.items() if (key, first.seed) in runs or key == "rgb_skip"]
    if first.is_paper:  # the others are about the embedded profile
        remarks = [REMARKS["no_feature_branch"]] * (("no_feature_branch", first.seed) in runs)
    found: list[Table] = []
    for name, title in SETS.items():
        rows = [Row(run.variant, _label(run.variant), _estimates(run, name)) for run in variants]
        if not first.is_paper:
            rows.append(Row("rgb_skip", "without the RGB skip: not applicable", {}))
        notes = [
            "Mean, and 95 % bootstrap interval over pictures; the best mean of a column is bold. One training each, "
            f"seed {first.seed}, of {first.training['steps']:.0f} steps: what counts early in training.",
            *remarks,
        ]
        found.append(Table(name, f"Ablations, {title}: {data}", columns, rows, notes))
        found.append(_difference_table(name, title, compared[name], columns))
    rows = []
    for variant, of_one in _seeds(runs).items():
        rows += [Row(run.name, f"{_label(variant)}, seed {run.seed}", _estimates(run, "result")) for run in of_one]
        means = {key: [run.mean("result", key) for run in of_one] for key in (c.key for c in columns)}
        cells = {key: Estimate(float(np.mean(each)), min(each), max(each)) for key, each in means.items()}
        rows.append(Row(f"{variant}-seeds", f"{_label(variant)}, all seeds", cells))
    if rows:
        note = "Of a single seed the interval is over pictures; of all seeds, mean, lowest and highest of their means."
        found.append(Table("seeds", f"Seeds, {SETS['result']}: {data}", columns, rows, [note]))
    return found


def _difference_table(name: str, title: str, compared: Comparison, columns: Sequence[Column]) -> Table:
    rows = []
    for variant, of_one in compared.differences.items():
        reference = next(iter(of_one.values())).reference
        label = _label(variant) + ("" if reference == FULL else f" minus {_label(reference)}")
        further = {f"{key}_p_holm": f"{found.p_holm:.4g}" for key, found in of_one.items()}
        estimates = {key: Estimate(found.mean, found.low, found.high) for key, found in of_one.items()}
        rows.append(Row(variant, label, estimates, further=further))
    separable = {
        key: frozenset(variant for variant, of_one in compared.differences.items() if of_one[key].separable)
        for key in (column.key for column in columns)
    }
    count = sum(map(len, compared.differences.values()))
    rule = f"p < {SIGNIFICANT} in a paired permutation test after Holm's correction over the {count} differences"
    if compared.spread:
        printed = ", ".join(f"{c.label} {compared.spread[c.key]:.{c.decimals}f}" for c in columns)
        rule += f", and larger than the means of one variant spread over its seeds ({printed})"
    else:
        rule += "; nothing is known of the spread over seeds"
    notes = [
        "Mean of variant minus full method, picture by picture, with its 95 % bootstrap interval.",
        f"Bold is separable: {rule}.",
    ]
    title = f"Differences from the full method, {title}"
    under = TextTable(
        f"{name}-words",
        "Which differences are separable",
        ["Variant", "better", "worse", "not separable", "mean over seeds [lowest, highest]"],
        [[row.label, *words(compared.differences[row.key])] for row in rows],
    )
    return DifferenceTable(f"{name}-differences", title, columns, rows, notes, under=[under], separable=separable)


def words(differences: Mapping[str, Difference]) -> list[str]:
    """What is better, worse and not separable, with the size of the difference, and how it varies over seeds."""
    cells: dict[str, list[str]] = {"better": [], "worse": [], "not separable": [], "seeds": []}
    for column in (COLUMNS[key] for key in differences):
        found, unit = differences[column.key], _unit(column)
        better = (found.mean > 0) == column.higher_is_better
        mean, low, high, own = (
            f"{value:+.{column.decimals}f}"
            for seeds in [list(found.seeds.values())]
            for value in (np.mean(seeds), min(seeds), max(seeds), found.mean)
        )
        cells["not separable" if not found.separable else "better" if better else "worse"].append(
            f"{column.label} {own} {unit}".strip()
        )
        if len(found.seeds) > 1:
            cells["seeds"].append(f"{column.label} {mean} [{low}, {high}]")
    return [", ".join(cell) or ABSENT for cell in cells.values()]


def figure(compared: Mapping[str, Comparison]) -> Figure:
    """Bars of the differences with their intervals, and a dot a seed where there are several; their spread as a band.

    MSE is left out: PSNR shows the same.
    """
    differences = compared["result"].differences
    variants, metrics = list(differences), next(iter(differences.values()), METRICS)
    columns = [COLUMNS[key] for key in metrics if key != "mse"]
    colours = {"result": "#0072b2", "codes": "#e69f00"}  # Okabe and Ito: for every colour vision
    with matplotlib.rc_context(STYLE):
        drawn = Figure(figsize=(2.2 * len(columns) + 1.4, 0.32 * len(variants) + 1.1), layout="constrained")
        grid = drawn.subplots(1, len(columns), sharey=True)
        places = np.arange(len(variants))
        for axes, column in zip(grid, columns, strict=True):
            for shift, (name, comparison) in zip((-0.2, 0.2), compared.items(), strict=True):
                found = [comparison.differences[variant][column.key] for variant in variants]
                means = np.array([each.mean for each in found])
                errors = np.abs(np.array([[each.low, each.high] for each in found]).T - means)
                axes.barh(places + shift, means, 0.36, xerr=errors, color=colours[name], label=SETS[name],
                          error_kw={"lw": 0.7, "capsize": 1.5})  # fmt: skip
                for place, each in zip(places + shift, found, strict=True):
                    if len(each.seeds) > 1:
                        axes.plot(list(each.seeds.values()), [place] * len(each.seeds), "k.", ms=3)
            spread = compared["result"].spread.get(column.key, 0.0)
            axes.axvspan(-spread, spread, color="0.85", zorder=0, label=f"spread over seeds of {SETS['result']}")
            axes.axvline(0, color="0.3", lw=0.6)
            unit = _unit(column)
            axes.set_title(f"{column.heading}, {unit}" if unit else column.heading, fontsize=8)
            axes.spines[["top", "right"]].set_visible(False)
        grid[0].set_yticks(places, [_label(variant) for variant in variants])
        grid[0].invert_yaxis()
        exceptions = "; ".join(
            f"{_label(variant)}: minus {_label(reference)}"
            for variant, of_one in compared["result"].differences.items()
            if (reference := next(iter(of_one.values())).reference) != FULL
        )
        drawn.supxlabel(
            f"variant minus full method{' (' * bool(exceptions)}{exceptions}{')' * bool(exceptions)}", size=7
        )
        drawn.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return drawn


def render(folder: Path, out: Path, *, profile: str = "embedded") -> list[Table]:
    """Write ``ablation.{json,md,csv,tex}`` and ``figure_ablation.{png,pdf}`` from the runs in ``folder``."""
    runs = read_runs(folder)
    first, compared = _first(runs), {name: compare(runs, name) for name in SETS}
    found = tables(runs, compared)
    results = {
        "metrics": {c.key: {"label": c.label, "higher_is_better": c.higher_is_better} for c in first.columns},
        "profile": profile,
        "provenance": provenance({"runs": folder}),
        # As in table1.json, so that eval.tolerance compares them; a method is a VARIANT-seedSEED.
        "sets": {name: _set(runs, name) for name in SETS},
        "differences": {name: asdict(comparison) for name, comparison in compared.items()},
        "not_applicable": {} if first.is_paper else {"rgb_skip": REMARKS["rgb_skip"]},
        "training": {run.name: {**run.training, "changes": run.changes} for run in runs.values()},
    }
    write_forms(out / "ablation", results, found)
    save(figure(compared), out / "figure_ablation.png")
    return found


def section(places: Places) -> Section | None:
    """Of the report: the tables anew from ``ablation/``, and the figure that :func:`render` drew."""
    folder, drawn = places.reports / "ablation", places.reports / "figure_ablation.png"
    if not any(folder.glob("*.json")):
        return None
    runs = read_runs(folder)
    compared = {name: compare(runs, name) for name in SETS}
    of_result = compared["result"].differences
    counts = {
        variant: sum(each.separable for each in of_one.values()) for variant, of_one in of_result.items()
    }  # of metrics
    named = ", ".join(_label(variant) for variant, count in counts.items() if count) or "none"
    caption = (
        "Each variant minus the full method, mean over pictures, with its 95 % interval, for the method's own result "
        "and for G(w); a dot is one seed where there are several, the grey band their spread. MSE is left out: PSNR "
        "shows the same."
    )
    alternative = (
        f"Bars of {len(counts)} variants. Separable from the full method by at least one metric of the result: {named}."
    )
    introduction = [
        f"What each part of FSE is worth, at a budget of {_first(runs).training['steps']:.0f} steps. The paper prints "
        "its ablations in a supplement that was not to be had, so that no values of its own stand beside these."
    ]
    return Section(
        "ablations",
        "Ablations",
        introduction,
        tables(runs, compared),
        [Illustration(drawn, caption, alternative)],
    )


def _set(runs: Runs, set_name: str) -> dict[str, Any]:
    count = len(_first(runs).of(set_name)["mse"])
    counts = {"expected": count, "used": count, "failed": 0}  # a picture without a value has stopped the measurement
    methods = {
        run.name: {key: {**asdict(mean_interval(values)), **counts} for key, values in run.of(set_name).items()}
        for run in runs.values()
    }
    return {"n": count, "methods": methods, "failures": []}


def _estimates(run: Run, set_name: str) -> dict[str, Estimate]:
    return {key: Estimate(**asdict(mean_interval(values))) for key, values in run.of(set_name).items()}


def _first(runs: Runs) -> Run:
    """The full method at its lowest seed; :func:`read_runs` puts it there."""
    return next(iter(runs.values()))


def _seeds(runs: Runs) -> dict[str, list[Run]]:
    """The runs of each variant that has several seeds."""
    found: dict[str, list[Run]] = {}
    for (variant, _), run in runs.items():
        found.setdefault(variant, []).append(run)
    return {variant: of_one for variant, of_one in found.items() if len(of_one) > 1}


def _unit(column: Column) -> str:
    return (METRICS | PAPER_METRICS)[column.key].unit


def _label(variant: str) -> str:
    return LABELS.get(variant, variant.replace("_", " "))


@exit_on_refusal
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m eval.ablation", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--runs", type=Path, default=Path("reports/ablation"), help="measured variants; %(default)s")
    parser.add_argument("--out", type=Path, default=Path("reports"), help="where tables and figure go; %(default)s")
    arguments = parser.parse_args()
    console = Console()
    for table in render(arguments.runs, arguments.out):
        console.print(table.rich(console.width), "")
    console.print(f"written: {arguments.out}/ablation.{{md,csv,tex,json}}, figure_ablation.{{png,pdf}}", style="dim")


if __name__ == "__main__":
    main()
