"""``dvc.yaml`` and the house: stages that fit together, and imports that run one way."""

from __future__ import annotations

import ast
import hashlib
import importlib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import networkx
import pytest
import yaml
from dvc.repo import Repo
from dvc.stage import PipelineStage

from eval.contest import METHODS
from eval.speed import OPTIMISING
from fse.registry import GROUP
from tests.conftest import ROOT

PACKAGES = ("fse", "baselines", "eval", "pipelines", "commands")  # each imports only those before it, and itself

INVERTING = ("invert", "directions", "edit", "other_domains", "speed")
"""Beginnings of the names of stages that run methods."""


@pytest.fixture(scope="module")
def repo() -> Iterator[Repo]:
    with Repo(str(ROOT)) as opened:
        yield opened


@pytest.fixture(scope="module")
def stages(repo: Repo) -> dict[str, PipelineStage]:
    """By name, matrices unfolded, as DVC understands them."""
    return {stage.name: stage for stage in repo.index.stages}


def paths(entries: list[object]) -> list[str]:
    """Of a stage's dependencies or outputs, relative to the root; parameters are left out."""
    return [Path(e.fs_path).relative_to(ROOT).as_posix() for e in entries if not getattr(e, "params", None)]  # type: ignore[attr-defined]


def module_of(stage: PipelineStage) -> str:
    python, flag, module = str(stage.cmd).split()[:3]
    assert (python, flag) == ("python", "-m")
    return module


def test_dvc_knows_every_stage_and_its_order(repo: Repo, stages: dict[str, PipelineStage]) -> None:
    trained = {name.partition("@")[2] for name in stages if name.startswith("train@")} | {
        "hfgi",
        "hfgi_long",
        "fse_long",
    }
    inverted = {name.partition("@")[2] for name in stages if name.startswith("invert@")}
    assert trained == {path.stem for path in (ROOT / "weights").glob("*.safetensors")} - {"picture_head"}
    assert inverted == trained | {"fse_w", "fse_long_w", "wplus"}
    assert inverted <= set(METHODS)
    in_clips = {name.partition("@")[2] for name in stages if name.startswith("invert_clips@")}
    assert in_clips == inverted - set(OPTIMISING)
    graph = repo.index.graph  # an edge leads to what a stage needs
    needs = {stage.name: {other.name for other in networkx.descendants(graph, stage)} for stage in graph}
    ablations = {name for name in stages if name.startswith("ablat")}
    assert needs["report"] == set(stages) - {"report"}  # the page holds all
    assert needs["ablation"] == ablations - {"ablation"} | {"assets", "head"}
    assert needs["train@psp"] == {"assets", "head"}
    assert needs["train_hfgi"] == {"assets", "head", "train@e4e"}
    assert needs["train_hfgi_long"] == needs["train_hfgi"] | {"train_hfgi"}
    assert needs["train_fse_long"] == {"assets", "head", "train@fse"}
    assert needs["invert@fse_w"] >= {"train@fse", "data", "head", "assets"}
    assert "evaluate" not in needs["invert@fse"]
    for name in inverted:
        assert f"invert@{name}" in needs["evaluate"]
    for name in in_clips:
        assert f"invert_clips@{name}" in needs["evaluate_clips"]


def test_commands_are_modules_that_run_alone(stages: dict[str, PipelineStage]) -> None:
    for stage in stages.values():
        assert callable(importlib.import_module(module_of(stage)).main)


def test_dependencies_exist_or_are_made(stages: dict[str, PipelineStage]) -> None:
    made = [out for stage in stages.values() for out in paths(stage.outs)]
    for stage in stages.values():
        for path in paths(stage.deps):
            inside = any(path == out or path.startswith(f"{out}/") or out.startswith(f"{path}/") for out in made)
            assert inside or (ROOT / path).exists(), f"{stage.name} depends on {path}"


def test_parameters_exist(stages: dict[str, PipelineStage]) -> None:
    shipped = yaml.safe_load((ROOT / "params.yaml").read_text())
    for stage in stages.values():
        for dependency in stage.deps:
            for name in getattr(dependency, "params", None) or []:
                values = shipped
                for part in name.split("."):
                    assert part in values, f"{stage.name} depends on the parameters {name}"
                    values = values[part]


def test_a_fresh_clone_does_not_train(stages: dict[str, PipelineStage]) -> None:
    """Weights are Git's, and training depends on nothing whose last bits differ between machines."""
    for stage in stages.values():
        for out in stage.outs:
            if Path(out.fs_path).is_relative_to(ROOT / "weights"):
                assert not out.use_cache
        if stage.name.startswith(("train", "head", "ablate")):
            data = [path for path in paths(stage.deps) if not path.endswith(".py")]
            assert all(path.startswith(("data/assets/", "weights/")) for path in data)


def test_metrics_do_not_bring_inversions_up_again(stages: dict[str, PipelineStage]) -> None:
    for stage in stages.values():
        if stage.name.startswith("invert"):
            assert not any("metrics" in path for path in paths(stage.deps))


@cache
def imports(path: Path) -> set[str]:
    """Modules of the project that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.split(".")[0] in PACKAGES}


def test_imports_run_one_way() -> None:
    """commands -> pipelines -> eval -> baselines -> fse; and nothing imports the tests."""
    for i, package in enumerate(PACKAGES):
        for path in (ROOT / package).rglob("*.py"):
            outside = {name.split(".")[0] for name in imports(path)} - set(PACKAGES[: i + 1])
            assert not outside, f"{path} imports {outside}"


def test_code_that_a_stage_depends_on_is_code_that_it_runs(stages: dict[str, PipelineStage]) -> None:
    """Else a change to it would bring up hours of work for nothing. Methods are reached by entry point."""
    methods = {entry.value.split(":")[0] for entry in entry_points(group=GROUP)}
    for stage in stages.values():
        waiting, reached = [module_of(stage), *(methods if stage.name.startswith(INVERTING) else ())], set[str]()
        while waiting:
            path = waiting.pop().replace(".", "/") + ".py"
            if path not in reached and (ROOT / path).is_file():
                reached.add(path)
                waiting += imports(ROOT / path)
        code = [path for path in paths(stage.deps) if path.endswith(".py")]
        assert not set(code) - reached, stage.name


def test_golden_vectors_are_filled_as_they_were_made() -> None:
    """The file came with the vectors; another fill would compare other networks."""
    digest = hashlib.sha256((ROOT / "tests/golden/fill.py").read_bytes()).hexdigest()
    assert digest == "cafcb4f4a86a1bbc2eedd6b9f0409d9c8a0a64550adf476827919a9cf60a7a9b"
