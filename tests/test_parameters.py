"""``params.yaml``: what is wrong in it is refused by name, before a stage does anything."""

from __future__ import annotations

import copy
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from fse.refusal import Refusal
from pipelines.objectives import OBJECTIVES
from pipelines.parameters import Parameters, read_parameters
from tests.conftest import ROOT

SHIPPED: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "params.yaml").read_text())
SECTIONS = list(Parameters.model_fields)
NAMES = [(section, name) for section in SECTIONS for name in SHIPPED[section]]
NO_STAGES = {"__init__", "parameters", "objectives", "training_run", "convert"}
STAGES = sorted(
    path.stem
    for path in (ROOT / "pipelines").glob("*.py")
    if path.stem not in NO_STAGES and not path.stem.startswith("official")
)


def refusal(folder: Path, change: Callable[[dict[str, Any]], object]) -> str:
    values = copy.deepcopy(SHIPPED)
    change(values)
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(Refusal) as refused:
        read_parameters(path)
    sentence = str(refused.value)
    assert sentence.startswith(f"{path}: ")
    assert sentence.endswith("; correct it there")
    assert "\n" not in sentence
    return sentence.removeprefix(f"{path}: ")


def test_shipped_file_is_valid_and_complete() -> None:
    parameters = read_parameters()
    for section, name in NAMES:
        value = getattr(getattr(parameters, section), name)
        expected = SHIPPED[section][name]
        if name == "variants":
            assert {variant: set(changes) for variant, changes in expected.items()} == {
                variant: changes.model_fields_set for variant, changes in value.items()
            }
            continue
        assert value == (tuple(expected) if isinstance(expected, list) else expected)


@pytest.mark.parametrize(("section", "name"), NAMES, ids=lambda part: str(part))
def test_each_parameter_is_named_when_missing_wrong_or_misspelt(section: str, name: str, tmp_path: Path) -> None:
    full = f"{section}.{name}"
    assert refusal(tmp_path, lambda v: v[section].pop(name)).startswith(f"{full}: Field required")
    wrong = refusal(tmp_path, lambda v: v[section].update({name: "nonsense"}))
    assert wrong.startswith(full)
    assert "(it is 'nonsense')" in wrong
    misspelt = refusal(tmp_path, lambda v: v[section].update({f"{name}s": v[section][name]}))
    assert misspelt.startswith(f"{full}s: Extra inputs are not permitted")


@pytest.mark.parametrize("section", SECTIONS)
def test_missing_section_is_named(section: str, tmp_path: Path) -> None:
    assert refusal(tmp_path, lambda v: v.pop(section)).startswith(f"{section}: Field required")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"train.steps": 0}, "train.steps"),
        ({"train.batch": 6}, "train.batch"),
        ({"train.learning_rate": float("nan")}, "train.learning_rate"),
        ({"train.learning_rate": float("inf")}, "train.learning_rate"),
        ({"train.average": 1.0}, "train.average"),
        ({"train.fine_from": 1.1}, "train.fine_from"),
        ({"train.precision": "16"}, "train.precision"),
        ({"train.renders": 8}, "train.renders must be at least train.batch and train.warm_batch"),
        ({"train.devices": 3}, "train.batch must be a multiple of 2 * train.devices"),
        (
            {"train.validation_seed": SHIPPED["train"]["renders_seed"]},
            "must differ, or pictures are judged that were trained on",
        ),
        ({"data.renders_seed": SHIPPED["train"]["renders_seed"]}, "data.renders_seed"),
        ({"encoder.widths": [32, 64, 128]}, "encoder.widths"),
        ({"encoder.stem_width": 8}, "encoder.stem_width"),  # PyTorch would corrupt memory
        ({"encoder.stem_stride": 3}, "encoder.stem_stride"),
        ({"fse.perceptual_sides": []}, "fse.perceptual_sides"),
        ({"fse.perceptual_sides": [16]}, "fse.perceptual_sides.0"),
        ({"fse.feature_layer": 11}, "fse.feature_layer"),
        ({"psp.pixel": -1}, "psp.pixel"),
        ({"evaluate.limit": 0}, "evaluate.limit"),
        ({"evaluate.subset": {"wplus": 0}}, "evaluate.subset.wplus"),
        ({"restyle_psp.passes": 0}, "restyle_psp.passes"),
        ({"hfgi.feature_layer": 10}, "hfgi.feature_layer"),
    ],
)
def test_impossible_values_are_refused(changes: dict[str, Any], named: str, tmp_path: Path) -> None:
    def change(values: dict[str, Any]) -> None:
        for full, value in changes.items():
            section, name = full.split(".")
            values[section][name] = value

    assert named in refusal(tmp_path, change)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "is missing; run from the project's root"),
        ("", ": the file: Input should be a valid dictionary"),
        ("train: {steps: 3", "is not YAML: while parsing"),
        ("train: 3", ": head: Field required"),
    ],
)
def test_file_that_is_none(content: str | None, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(Refusal) as refused:
        read_parameters(path)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_sections_of_other_commands_are_left_to_them(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(SHIPPED | {"tolerance": {"anything": 1}}))
    assert read_parameters(tmp_path / "params.yaml") == read_parameters()


@pytest.mark.parametrize(
    ("command", "parameter"),
    [(["data"], "data.renders"), (["train", "fse"], "train.steps")],
    ids=lambda value: str(value),
)
def test_command_lines_exit_with_2_and_leave_nothing(command: list[str], parameter: str, tmp_path: Path) -> None:
    section, name = parameter.split(".")
    values = copy.deepcopy(SHIPPED)
    values[section][name] = -1
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    run = subprocess.run(
        [sys.executable, "-m", f"pipelines.{command[0]}", *command[1:]],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert run.stderr == (
        f"error: params.yaml: {parameter}: Input should be greater than 0 (it is -1); correct it there\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize("stage", STAGES)
def test_help_says_what_a_stage_does(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And does nothing: in an empty folder any work would fail."""
    main = importlib.import_module(f"pipelines.{stage}").main
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [stage, "--help"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: python -m pipelines.{stage} ")
    assert "stage" in text.lower()
    assert not list(tmp_path.iterdir())


def train(folder: Path, monkeypatch: pytest.MonkeyPatch, *command: str, **changes: Any) -> None:
    """``python -m pipelines.train`` in ``folder``, with the project's assets."""
    values = copy.deepcopy(SHIPPED)
    for full, value in changes.items():
        section, name = full.split("__")
        values[section][name] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["train", *command])
    importlib.import_module("pipelines.train").main()


def test_method_that_cannot_be_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        train(tmp_path, monkeypatch, "fes")
    assert left.value.code == 2
    assert capsys.readouterr().err == f"error: 'fes' cannot be trained; trainable methods are {', '.join(OBJECTIVES)}\n"


@pytest.mark.parametrize(
    ("method", "changes", "sentence"),
    [
        ("fse", {"encoder__stem_stride": 1}, "the encoder's F is 32 px a side, and the generator's convolution"),
        ("fse_long", {"encoder__stem_width": 16}, "fse.safetensors has another size than the sections fse and encoder"),
        ("hfgi_long", {"hfgi__condition_width": 32}, "hfgi.safetensors has another size than the section hfgi"),
    ],
)
def test_sizes_that_do_not_fit(
    method: str,
    changes: dict[str, int],
    sentence: str,
    assets: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They are refused before thousands of pictures are rendered."""
    places = ["--assets", str(assets), "--weights", str(weights)]
    with pytest.raises(SystemExit) as left:
        train(tmp_path, monkeypatch, method, *places, **changes, train__accelerator="cpu")
    assert left.value.code == 2
    assert sentence in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
