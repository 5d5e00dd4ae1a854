"""The ablations: every variant changes what its line says and nothing else, and is compared picture by picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import yaml
from lightning.fabric import Fabric
from torch import Tensor

from eval.ablation import METRICS, SETS, Run, compare, figure, measure, read_runs, render, tables
from eval.metrics.pixel import psnr
from eval.tolerance import compare as reproduces
from eval.tolerance import read_tolerances
from fse.generators.mobilestylegan import MobileStyleGAN
from fse.latents import sample_z
from fse.losses import FeatureStyleWeights
from fse.objective import Batch, FeatureStyleObjective
from fse.perceptual import STLPIPS
from fse.refusal import Refusal
from fse.training import batch_at
from pipelines.ablate import SECTIONS, varied
from pipelines.parameters import Parameters, Variant, read_parameters
from tests.conftest import ROOT
from tests.tiny import SETTINGS, tiny_coarse, tiny_encoder, tiny_generator, tiny_renders


@pytest.fixture(scope="module")
def perceptual(assets: Path) -> STLPIPS:
    return STLPIPS.load(assets / "stlpips/alex_shift_tolerant.pth")


@pytest.fixture(scope="module")
def generator() -> MobileStyleGAN:
    return tiny_generator()


CODES = set("12345678")


class TestObjective:
    """Which gradients reach what; convolution K = 3 reads the codes 1 to 3, the later ones 4 to 8."""

    @pytest.fixture
    def build(self, generator: MobileStyleGAN, perceptual: STLPIPS) -> Callable[..., FeatureStyleObjective]:
        def build(received: Literal[0, 1, 2] = 1, **weights: float) -> FeatureStyleObjective:
            encoder = tiny_encoder(generator).train()
            own = FeatureStyleWeights(**{"pixel_feature": 1.0, **weights})
            return FeatureStyleObjective(encoder, generator, perceptual, [32], own, received)

        return build

    @pytest.fixture(scope="class")
    def batch(self, generator: MobileStyleGAN) -> Batch:
        codes = generator.map(sample_z(20, 4))
        return Batch(generator.synthesize(codes).clamp(-1, 1), codes[:2])

    def moved(self, objective: FeatureStyleObjective, batch: Batch, generator: MobileStyleGAN | None) -> set[str]:
        """What the loss has a gradient for: heads of codes by number, and ``F``."""
        objective(batch, generator).terms["loss"].backward()

        def any_of(parameters: Any) -> bool:
            return any(p.grad is not None and bool(p.grad.any()) for p in parameters)

        heads = {str(k) for k, head in enumerate(objective.network.styles, 1) if any_of(head.parameters())}
        return heads | ({"F"} if any_of(objective.network.content_layer.parameters()) else set())

    @pytest.mark.parametrize(
        ("received", "weights", "moved"),
        [
            (1, {}, CODES | {"F"}),
            (1, {"feature": 0.0}, CODES | {"F"}),
            (0, {"feature": 0.0}, CODES),
            (2, {}, set("45678") | {"F"}),  # as the released code's
        ],
    )
    def test_losses_reach(
        self,
        build: Callable[..., FeatureStyleObjective],
        batch: Batch,
        generator: MobileStyleGAN,
        received: int,
        weights: dict[str, float],
        moved: set[str],
    ) -> None:
        assert self.moved(build(received, **weights), batch, generator) == moved

    @pytest.mark.parametrize(("feature", "moved"), [(0.01, CODES | {"F"}), (0.0, CODES)])
    def test_warm_start_reaches_f_where_eq_4_does(
        self, build: Callable[..., FeatureStyleObjective], batch: Batch, feature: float, moved: set[str]
    ) -> None:
        assert self.moved(build(feature=feature), batch, None) == moved

    def test_passes_alike_count_twice(
        self, build: Callable[..., FeatureStyleObjective], batch: Batch, generator: MobileStyleGAN
    ) -> None:
        """Each variant has the terms of the pass that it sees, with the weights of both."""
        with torch.no_grad():
            paper, codes, feature = (build(n)(batch, generator).terms for n in (1, 0, 2))
        for name, source in (("", codes), ("_feature", feature)):
            for other in ("perceptual", "perceptual_feature"):
                assert torch.allclose(source[other], paper[f"perceptual{name}"], rtol=1e-4)
        assert torch.allclose(codes["mse"], paper["mse"], rtol=1e-4)
        assert torch.allclose(feature["mse_feature"], paper["mse_feature"], rtol=1e-4)
        assert codes["mse_feature"] > 0
        assert feature["mse"] > 0

    def test_no_synthetic_picture_no_eq_2(
        self, build: Callable[..., FeatureStyleObjective], batch: Batch, generator: MobileStyleGAN
    ) -> None:
        terms = build()(Batch(batch.pictures, batch.codes[:0]), generator).terms
        assert terms["mse"] == 0
        assert terms["loss"].isfinite()

    def test_reconstructions_at_a_smaller_side(
        self, build: Callable[..., FeatureStyleObjective], batch: Batch, generator: MobileStyleGAN
    ) -> None:
        coarse = tiny_coarse(generator)
        objective = build().eval()
        found = objective.reconstructions(batch.pictures, coarse)
        assert list(found) == ["codes", "feature"]
        offsets, feature = objective.network(batch.pictures)
        codes = (offsets + generator.mean_code)[:, :6]
        assert torch.equal(found["feature"], coarse.synthesize(codes, feature))
        assert torch.equal(found["codes"], coarse.synthesize(codes))
        assert list(build(0).reconstructions(batch.pictures)) == ["codes"]


@pytest.mark.parametrize(("fraction", "synthetic"), [(0.0, 0), (0.5, 2), (1.0, 4)])
def test_batches_hold_the_fraction(generator: MobileStyleGAN, tmp_path: Path, fraction: float, synthetic: int) -> None:
    """The pictures drawn do not depend on it, only how many are changed; the warm start has all of them."""
    renders, fabric = tiny_renders(generator, tmp_path, count=8), Fabric(accelerator="cpu", devices=1)
    settings = replace(SETTINGS, synthetic=fraction)
    picked = np.random.default_rng([settings.seed, 9, 0]).choice(8, 4, replace=False)
    batch = batch_at(renders, settings, 9, fabric)
    same = [torch.equal(picture, original) for picture, original in zip(batch.pictures, renders[picked], strict=True)]
    assert sum(same[:synthetic]) == synthetic
    assert sum(same[synthetic:]) <= 1  # few get no change
    assert torch.equal(batch.codes, renders.codes[picked[:synthetic]])
    assert len(batch_at(renders, settings, 0, fabric).codes) == settings.warm_batch


class TestVariants:
    parameters = read_parameters()

    @pytest.mark.parametrize("variant", parameters.ablation.variants)
    def test_each_changes_what_its_line_says(self, variant: str) -> None:
        full, found = (varied(self.parameters, name, 3).model_dump() for name in ("full", variant))
        line = yaml.safe_load((ROOT / "params.yaml").read_text())["ablation"]["variants"][variant]
        changed = {
            name: value
            for section in SECTIONS
            for name, value in found[section].items()
            if value != full[section][name]
        }
        own = {name: value for name, value in line.items() if name in Variant.model_fields}
        assert {name: list(value) if isinstance(value, tuple) else value for name, value in changed.items()} == {
            name: value for name, value in line.items() if name not in own
        }
        assert all(getattr(self.parameters.ablation.variants[variant], name) == value for name, value in own.items())

    def test_budget_is_the_ablations(self) -> None:
        found, ablation = varied(self.parameters, "full", 3).train, self.parameters.ablation
        assert (found.seed, found.steps, found.warm_steps) == (3, ablation.steps, ablation.warm_steps)
        assert found.fine_from == 1  # losses at 128 px throughout
        assert found.validate_every >= found.steps + found.warm_steps  # no state is chosen

    @pytest.mark.parametrize(
        ("line", "sentence"),
        [
            ({"pixels": 0}, "ablation.variants.mine: fse, encoder, train have no 'pixels'"),
            ({"pixel": -1}, "ablation.variants.mine: fse.pixel: Input should be greater than or equal to 0"),
            ({"stem_stride": 3}, "ablation.variants.mine: encoder.stem_stride"),
            (None, "no variant 'mine'; it has full, "),
        ],
    )
    def test_wrong_lines_are_refused(self, line: dict[str, Any] | None, sentence: str) -> None:
        values = self.parameters.model_dump()
        if line is not None:
            values["ablation"]["variants"]["mine"] = line
        with pytest.raises(Refusal, match=sentence):
            varied(Parameters.model_validate(values), "mine", 0)

    def test_dvc_has_a_stage_for_each(self) -> None:
        stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
        assert stages["ablate"]["matrix"]["variant"] == list(self.parameters.ablation.variants)


def test_measure_is_the_metrics(perceptual: STLPIPS) -> None:
    pictures = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    small = torch.nn.functional.avg_pool2d(pictures, 2)
    constant = {"codes": 0.0, "feature": 0.5}

    def reconstruct(part: Tensor) -> dict[str, Tensor]:
        assert part.shape[2:] == (64, 64)
        return {name: torch.full((len(part), 3, 32, 32), value) for name, value in constant.items()}

    found = measure(reconstruct, pictures, perceptual, 32, batch=2)
    assert list(found) == ["codes", "feature"]
    for name, value in constant.items():
        assert list(found[name]) == list(METRICS)
        expected = psnr(small, torch.full_like(small, value), value_range=(-1, 1))
        assert found[name]["psnr"] == pytest.approx(expected.tolist(), rel=1e-5)


def run(variant: str, seed: int = 0, shift: float = 0.0, *, noise: float = 0.1, **changes: Any) -> Run:
    """64 pictures that differ by much, by which ``variant`` is worse by ``shift`` dB with little noise; G(w) by 3."""
    pictures = np.random.default_rng(0).normal(18, 2, 64)
    own = np.random.default_rng([seed, *variant.encode()]).normal(-shift, noise, 64)

    def values(worse: float) -> dict[str, list[float]]:
        decibel = pictures + own - worse
        found = {"ssim": decibel / 40, "psnr": decibel, "mse": 4 * 10 ** (-decibel / 10), "st_lpips": 1 - decibel / 40}
        return {key: value.tolist() for key, value in found.items()}

    of = {"codes": values(3), "feature": values(0)}
    if variant == "no_feature_branch":
        del of["feature"]
    train = {"seed": seed, "batch": 4, "warm_steps": 60} | changes
    parameters = {"train": train, "ablation": {"pictures": 64, "variants": {variant: changes}}}
    origin = {"inputs": {"heads": "h"}, "parameters": parameters}
    return Run(variant, seed, changes, 128, of, {"steps": 260, "seconds": 1.0, "parameters": 10}, origin)


def written(folder: Path, *runs: Run) -> Path:
    for each in runs:
        each.write(folder)
    return folder


HEADLINE = [
    *(run("full", seed, shift) for seed, shift in enumerate((0.0, 0.15, -0.1))),
    *(run("no_feature_branch", seed) for seed in range(3)),
]


class TestComparison:
    def test_only_what_stands_out_from_pictures_and_seeds_is_separable(self, tmp_path: Path) -> None:
        lines = [run("no_eq2", shift=0.12), run("no_eq4", shift=0.6), run("k3", shift=0.02)]
        runs = read_runs(written(tmp_path, *HEADLINE, *lines))
        assert [*dict.fromkeys(variant for variant, _ in runs)] == [
            "full",
            "no_eq2",
            "no_feature_branch",
            "no_eq4",
            "k3",
        ]
        found = compare(runs, "result")
        of = {variant: differences["psnr"] for variant, differences in found.differences.items()}
        assert found.spread["psnr"] == pytest.approx(0.25, abs=0.08)
        for variant, line in {"no_eq2": lines[0], "no_eq4": lines[1]}.items():
            expected = np.subtract(line.of("result")["psnr"], HEADLINE[0].of("result")["psnr"]).mean()
            assert of[variant].mean == pytest.approx(expected)
            assert of[variant].low < expected < of[variant].high
        assert of["no_eq4"].separable
        assert of["no_eq2"].p_holm < 0.05  # over pictures it separates, over seeds it does not
        assert not of["no_eq2"].separable
        assert not of["k3"].separable
        assert all(d.p_holm >= d.p for d in of.values())

    def test_without_seeds_pictures_decide(self, tmp_path: Path) -> None:
        runs = read_runs(written(tmp_path, run("full"), run("no_eq2", shift=0.12)))
        found = compare(runs, "result")
        assert found.spread == {}
        assert found.differences["no_eq2"]["psnr"].separable
        notes = tables(runs, {name: compare(runs, name) for name in SETS})[1].notes
        assert "nothing is known of the spread over seeds" in " ".join(notes)

    def test_without_the_branch_the_result_is_g_of_w(self, tmp_path: Path) -> None:
        runs = read_runs(written(tmp_path, *HEADLINE))
        result, codes = (compare(runs, name).differences["no_feature_branch"]["psnr"] for name in SETS)
        assert result.mean == pytest.approx(-3, abs=0.2)
        assert codes.mean == pytest.approx(0, abs=0.2)
        assert result.seeds.keys() == {0, 1, 2}
        assert result.seeds[0] == pytest.approx(result.mean)

    def test_k_7_is_compared_on_its_own_trunk(self, tmp_path: Path) -> None:
        other = run("k5_stem1", shift=-1.0, stem_stride=1)
        runs = read_runs(written(tmp_path, run("full"), other, run("k7", shift=-1.5, stem_stride=1)))
        found = compare(runs, "result").differences["k7"]["psnr"]
        assert found.reference == "k5_stem1"
        assert found.mean == pytest.approx(0.5, abs=0.1)


class TestReport:
    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return written(tmp_path_factory.mktemp("runs"), *HEADLINE, run("no_eq4", shift=0.6), run("mine", shift=0.01))

    @pytest.fixture(scope="class")
    def out(self, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        out = tmp_path_factory.mktemp("reports")
        render(folder, out)
        return out

    def test_tables(self, folder: Path, out: Path) -> None:
        page = (out / "ablation.md").read_text()
        for part in ("without Eq. (4)", "| mine |", "RGB skip: not applicable", "128 px", "64 renders", "all seeds"):
            assert part in page
        rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| without Eq. (4) | — |")]
        for row, name in zip(rows, SETS, strict=True):  # in words
            mean = compare(read_runs(folder), name).differences["no_eq4"]["psnr"].mean
            assert f"PSNR {mean:+.2f} dB" in row[2]
            assert row[3] == "—"
        assert (out / "ablation.tex").read_text().count(r"\begin{table}") == 7
        assert "psnr_p_holm" in (out / "ablation.csv").read_text().splitlines()[0]
        figures = {"figure_ablation.png", "figure_ablation.pdf"}
        assert {path.name for path in out.iterdir()} == figures | {
            f"ablation.{x}" for x in ("csv", "json", "md", "tex")
        }

    def test_the_gate_reads_the_results_and_a_moved_seed_is_outside(self, out: Path) -> None:
        results = json.loads((out / "ablation.json").read_text())
        tolerances = read_tolerances(ROOT / "params.yaml")
        assert all(each.inside for each in reproduces(results, results, tolerances))
        other = json.loads(json.dumps(results))
        other["sets"]["result"]["methods"]["full-seed2"]["psnr"]["mean"] += 1
        outside = [each for each in reproduces(results, other, tolerances) if not each.inside]
        assert [(each.where, each.quantity) for each in outside] == [("result / full-seed2", "psnr")]

    def test_bars_are_the_differences(self, folder: Path) -> None:
        compared = {name: compare(read_runs(folder), name) for name in SETS}
        ssim, axes, _ = figure(compared).axes
        names = [label.get_text() for label in ssim.get_yticklabels()]
        drawn = [bars.datavalues.tolist() for bars in axes.containers if hasattr(bars, "datavalues")]
        for values, comparison in zip(drawn, compared.values(), strict=True):
            assert values == [of_one["psnr"].mean for of_one in comparison.differences.values()]
        assert names == ["without the feature branch", "without Eq. (4)", "mine"]


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        ([], "no measurement of the full method"),
        ([replace(run("full"), resolution=256)], "differ in resolution and cannot be compared"),
        ([run("full"), replace(run("k3", batch=8), changes={})], "differ in train.batch"),
        ([replace(run("full"), pictures={"codes": {}})], "is no measurement of a variant"),
    ],
)
def test_what_cannot_be_compared_is_refused(others: list[Run], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=sentence):
        read_runs(written(tmp_path, run("no_warm_start", warm_steps=0), *others))


def test_a_line_may_change_what_others_share(tmp_path: Path) -> None:
    assert len(read_runs(written(tmp_path, run("full"), run("no_warm_start", warm_steps=0)))) == 2
