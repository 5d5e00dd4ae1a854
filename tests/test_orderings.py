"""Comparisons with the best baseline and the paper's orders, on values whose outcome is known."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from eval import orderings, statistics
from eval.comparison import Comparison, Pairs, against_the_best_baseline, best_baseline, comparisons_table, corrected
from eval.contest import METHODS, OURS
from eval.costs import Cost, costs_table, read_costs
from eval.measurement import SetMeasurements
from eval.orderings import (
    HELD,
    NOT_HELD,
    NOT_MEASURED,
    NOT_SEPARABLE,
    Ordering,
    evaluate_orderings,
    published_orderings,
)
from eval.statistics import paired_difference
from eval.tables import Column
from fse.refusal import Refusal

N, SUBSET = 40, 16
PSNR = {"fse": 24.0, "fse_w": 19.0, "hfgi": 22.0, "restyle_psp": 20.0, "psp": 21.0, "e4e": 18.0, "idinvert": 23.0}
DISTANCES = {"fse": (10, 12), "hfgi": (11, 14), "restyle_psp": (15, 17), "psp": (13, 14.5)}


@pytest.fixture(autouse=True, scope="module")
def _few_resamples() -> Iterator[None]:
    """2 / 4000 is still significant after Holm's correction for the 45 claims of a set."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "RESAMPLES", 3999)
        yield


def values(seed: int, means: Mapping[str, float], spread: float = 0.5) -> pd.DataFrame:
    """(N, methods) of pictures that differ much, and methods that differ by ``means`` and a little noise."""
    rng = np.random.default_rng(seed)
    pictures = rng.normal(0, 5, size=(N, 1))
    noisy = pictures + np.array([*means.values()]) + rng.normal(0, spread, size=(N, len(means)))
    return pd.DataFrame(noisy, [f"{i:03}" for i in range(N)], [*means])


@pytest.fixture(scope="module")
def measured() -> tuple[SetMeasurements, pd.DataFrame]:
    """PSNR as in ``PSNR``, an ST-LPIPS that is noise, ID equal for all, FD of some; ``idinvert`` on a subset."""
    columns = {"psnr": values(0, PSNR), "st_lpips": values(1, dict.fromkeys(PSNR, 1.0)), "id": values(2, PSNR) * 0}
    rows = pd.concat({key: frame.stack() for key, frame in columns.items()}, axis=1)
    rows = rows.rename_axis(["picture", "method"]).reset_index()
    rows.loc[(rows["picture"] == "003") & (rows["method"] == "fse"), ["psnr"]] = np.nan
    rows = rows[(rows["method"] != "idinvert") | (rows["picture"].astype(int) < SUBSET)]
    cells: dict[str, dict[str, dict[str, object]]] = {}
    for method, of_one in rows.groupby("method"):
        cells[str(method)] = {
            key: {"mean": of_one[key].mean(), "expected": len(of_one), "used": int(of_one[key].notna().sum())}
            for key in columns
        }
    for method, (low, high) in DISTANCES.items():
        cells[method]["fd_effnet"] = {"mean": (low + high) / 2, "low": low, "high": high, "expected": N, "used": N}
    cells["psp"]["fd_effnet"]["used"] = N - 1
    higher = {"psnr": True, "st_lpips": False, "id": True, "fd_effnet": False}
    metrics = {key: {"label": key.upper(), "higher_is_better": value} for key, value in higher.items()}
    return SetMeasurements("renders", N, metrics, cells, []), rows


Measured = tuple[SetMeasurements, pd.DataFrame]


@pytest.fixture(scope="module")
def compared(measured: Measured) -> list[Comparison]:
    return against_the_best_baseline(*measured, OURS)


@pytest.fixture(scope="module")
def evaluated(measured: Measured) -> list[Ordering]:
    return evaluate_orderings(*measured, published_orderings())


def test_the_best_baseline_is_no_row_of_ours_and_no_subset(measured: Measured) -> None:
    results, _ = measured
    assert best_baseline(results, "psnr", OURS) == "hfgi"  # fse is ours, idinvert has 12 pictures only
    assert best_baseline(results, "fd_effnet", OURS) == "hfgi"
    assert best_baseline(results, "psnr", [*PSNR]) is None


def test_every_method_is_compared_on_common_pictures(measured: Measured, compared: Sequence[Comparison]) -> None:
    rows = measured[1]
    found = {(each.metric, each.method): each for each in compared}
    assert {method for metric, method in found if metric == "psnr"} == PSNR.keys() - {"hfgi"}
    assert not any(metric == "fd_effnet" for metric, _ in found)
    fse, few = found["psnr", "fse"], found["psnr", "idinvert"]
    assert (fse.other, fse.n, few.n) == ("hfgi", N - 1, SUBSET)

    wide = rows.pivot(index="picture", columns="method", values="psnr").dropna(subset=["fse"])
    alone = paired_difference(wide["fse"], wide["hfgi"])
    assert (fse.difference, fse.low, fse.high) == pytest.approx(
        (alone.difference.mean, alone.difference.low, alone.difference.high)
    )
    assert fse.p == pytest.approx(alone.p)
    assert fse.p_holm >= fse.p
    assert fse.better == pytest.approx((wide["fse"] > wide["hfgi"]).mean())
    assert fse.effect is not None
    assert fse.effect > 1
    assert fse.verdict == 1
    assert found["psnr", "e4e"].verdict == -1
    assert found["id", "fse"].effect is None
    assert {each.verdict for (metric, _), each in found.items() if metric != "psnr"} == {0}
    assert sum(each.p < 0.05 for each in found.values()) >= sum(each.p_holm < 0.05 for each in found.values()) == 6


def test_lower_is_better_turns_effect_and_share_but_not_the_difference(measured: Measured) -> None:
    results, rows = measured
    turned = SetMeasurements(
        "renders", N, {"psnr": {"label": "E", "higher_is_better": False}}, results.methods, results.failures
    )
    higher, lower = (Pairs(each, rows).compare("psnr", "fse", "hfgi") for each in (results, turned))
    assert higher is not None
    assert lower is not None
    assert lower.effect is not None
    assert lower.effect == -(higher.effect or 0)
    assert (lower.difference, lower.better) == pytest.approx((higher.difference, 1 - higher.better))
    assert corrected([lower])[0].verdict == -1


def test_verdicts_on_the_papers_orders(evaluated: Sequence[Ordering]) -> None:
    found = {each.key: each for each in evaluated}
    assert {key: len(each.claims) for key, each in found.items()} == dict.fromkeys(published_orderings(), 15)

    psnr = {(claim.better, claim.worse): claim for claim in found["table1_psnr"].claims}
    assert psnr["fse", "hfgi"].verdict == HELD
    assert psnr["restyle_psp", "psp"].verdict == NOT_HELD  # 20 dB here, 21
    assert psnr["hfgi", "idinvert"].n == SUBSET
    assert psnr["fse", "hfgi"].n == N - 1
    assert {claim.verdict for claim in found["table1_psnr"].claims} == {HELD, NOT_HELD}
    assert found["table1_psnr"].measured == ["fse", "hfgi", "psp", "restyle_psp", "e4e"]  # no mean of a subset

    for key in ("table1_lpips", "table1_id"):  # noise, and equal values
        assert {claim.verdict for claim in found[key].claims} == {NOT_SEPARABLE}

    fid = {(claim.better, claim.worse): claim.verdict for claim in found["table1_fid"].claims}
    assert fid["fse", "hfgi"] == NOT_SEPARABLE  # [10, 12] and [11, 14]
    assert fid["fse", "restyle_psp"] == fid["hfgi", "restyle_psp"] == HELD
    assert fid["restyle_psp", "psp"] == NOT_MEASURED  # of other numbers of pictures
    assert fid["psp", "e4e"] == NOT_MEASURED
    assert found["table1_fid"].unmeasured == ["psp", "e4e", "idinvert"]


def test_distances_the_other_way_round_do_not_hold(measured: Measured) -> None:
    results, rows = measured
    claim = {"table1_fid": {"printed": "FID", "measured_by": "fd_effnet", "order": ["restyle_psp", "fse"]}}
    [found] = evaluate_orderings(results, rows, claim)
    assert [each.verdict for each in found.claims] == [NOT_HELD]
    assert found.claims[0].difference == 5.0


def test_a_metric_that_was_not_measured(measured: Measured) -> None:
    results, rows = measured
    methods = {method: {"psnr": cells["psnr"]} for method, cells in results.methods.items()}
    without = SetMeasurements("renders", N, {"psnr": results.metrics["psnr"]}, methods, [])
    rows = rows.drop(columns=["st_lpips", "id"])
    found = {each.key: each for each in evaluate_orderings(without, rows, published_orderings())}
    assert {claim.verdict for claim in found["table1_id"].claims} == {NOT_MEASURED}
    assert found["table1_id"].measured == []
    assert found["table1_psnr"].by_verdict(HELD)


def test_the_orders_are_the_papers_own_values() -> None:
    """Each order follows from the printed table beside it, so neither is a slip of the pen."""
    from eval.table1 import published

    rows = {row.key: row.cells for row in published().rows}
    for each in published_orderings().values():
        column = each["printed"].lower()
        means = {method: cells[column].mean for method, cells in rows.items()}
        higher = column in ("id", "psnr")
        assert each["order"] == sorted(means, key=lambda m, s=means: s[m] or 0, reverse=higher)  # type: ignore[misc]


def test_what_is_printed(measured: Measured, compared: list[Comparison], evaluated: list[Ordering]) -> None:
    results, rows = measured
    columns = [Column(key, key, value["higher_is_better"], 2) for key, value in results.metrics.items()]
    labels = {method: METHODS[method] for method in results.methods}
    text = comparisons_table(compared, columns, labels, OURS, "renders").markdown()
    assert f"all {len(compared)} comparisons of the set" in text
    [line] = [line for line in text.splitlines() if line.startswith("| FSE, G(F, w) | psnr")]
    fse = next(each for each in compared if (each.metric, each.method) == ("psnr", "fse"))
    assert f"| HFGI | {fse.difference:+.2f} [{fse.low:+.2f}, {fse.high:+.2f}] |" in line
    assert f"| {fse.effect:+.2f} | {100 * fse.better:.0f} % | {N - 1} |" in line
    assert "| pSp | psnr" not in text

    few = rows[rows["picture"].astype(int) < 5]
    text = comparisons_table(against_the_best_baseline(results, few, OURS), columns, labels, OURS, "renders").markdown()
    assert "none can be significant" in text

    table = orderings.orderings_table(results, evaluated, METHODS)
    psnr = next(row for row in table.rows if row[0] == "PSNR, here PSNR")
    assert psnr[2] == "FSE, G(F, w) > HFGI > pSp > ReStyle (pSp) > e4e"
    assert "ReStyle (pSp) > pSp" in psnr[4]
    assert next(row for row in table.rows if row[0].startswith("FID"))[6] == "12: those of pSp; e4e; In-domain"


def test_the_command_line(
    measured: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results, rows = measured
    folder = tmp_path / "measurements"
    folder.mkdir()
    (folder / "renders.json").write_text(json.dumps(vars(results)))
    rows.assign(status="ok").to_csv(folder / "renders.csv", index=False)
    monkeypatch.setattr(sys, "argv", ["orderings", "--reports", str(tmp_path), "--sets", "renders"])
    monkeypatch.setenv("COLUMNS", "200")
    orderings.main()
    printed = capsys.readouterr().out
    assert f"{N} pictures" in printed
    assert "FSE, G(F, w) > HFGI > In-domain" in printed
    monkeypatch.setattr(sys, "argv", ["orderings", "--reports", str(tmp_path), "--sets", "cats"])
    with pytest.raises(SystemExit):
        orderings.main()
    assert "the measurements of 'cats'" in capsys.readouterr().err


def test_costs(tmp_path: Path) -> None:
    record = {"parameters": 8_047_232, "seconds": 3306.0, "steps": 1600, "warm_steps": 100, "batch": 4, "passes": 1}
    (tmp_path / "fse.json").write_text(json.dumps(record | {"generator_passes_per_step": 2, "psnr_codes": 14.5}))
    (tmp_path / "psp.json").write_text(json.dumps(record))
    costs = read_costs(tmp_path, ["wplus", "psp", "fse_w", "fse"])
    assert costs["wplus"] == Cost()
    assert costs["fse_w"] == costs["fse"]
    assert costs["fse"].generated == 2 * 1600 * 4
    assert costs["psp"].generated is None
    rows = [list(row) for row in costs_table(costs, METHODS).rows]
    assert rows[0] == ["W+ optimisation"] + ["—"] * 7
    assert rows[1] == ["pSp", "8.05", "55", "100 + 1600", "4", "1", "—", "—"]
    assert rows[3] == ["FSE, G(F, w)", "8.05", "55", "100 + 1600", "4", "1", "2.00", "12.8"]
    (tmp_path / "psp.json").write_text("{")
    with pytest.raises(Refusal, match=r"psp\.json cannot be read"):
        read_costs(tmp_path, ["psp"])
