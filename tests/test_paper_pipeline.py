"""The paper profile's pipeline: it fits together, and says what is missing where nothing is there."""

from __future__ import annotations

import importlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from eval.absent import CLIPS, PICTURES, Absent
from eval.contest import OURS, ROWS, Places
from eval.datasets.official import SETS
from eval.measurement import SetMeasurements
from eval.metrics.paper_suite import REFERENCES as SUITE_REFERENCES
from eval.protocol import OPTIONS
from eval.set_table import REHEARSED, Judged, set_table, write_forms
from fse.refusal import Refusal
from pipelines.official_assets import CATALOGUE, read_official_catalogue
from pipelines.paper import data, evaluate, invert, reference, report, survey
from pipelines.paper.absence import mark_absent, reason_of, unmark
from pipelines.paper.domains import DOMAINS, TRAINED, assets_of, domains_of
from pipelines.paper.domains import REFERENCES as DOMAIN_REFERENCES
from pipelines.paper.domains import ROWS as PAPER_ROWS
from pipelines.paper.parameters import PaperParameters, References, read_parameters
from pipelines.paper.profile import PaperProfile
from pipelines.paper.survey import parts
from pipelines.paper.surveyed import Surveyed
from pipelines.parameters import read_checked
from pipelines.rehearsal.__main__ import merged, without_numbers
from tests.conftest import ROOT

PAPER = ROOT / "paper"


@pytest.fixture(scope="module")
def stages() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((PAPER / "dvc.yaml").read_text())["stages"]
    return found


def test_rows_and_sets_are_of_the_catalogue() -> None:
    ids = {asset.id for asset in read_official_catalogue(CATALOGUE).assets}
    assert set(PAPER_ROWS) <= set(ROWS)
    assert set(TRAINED) < set(OURS)
    for name, domain in DOMAINS.items():
        needed = {domain.generator, domain.test.asset, domain.train.asset}
        assert needed | {asset for row in domain.rows for asset in assets_of(name, row)} <= ids
    assert domains_of("hfgi") == ["faces"]
    with pytest.raises(Refusal, match="there is no row 'gan'; choose from idinvert, psp"):
        domains_of("gan")


def test_stages_are_of_modules_files_and_rows_that_exist(stages: dict[str, Any]) -> None:
    for stage in stages.values():
        module = re.match(r"python -m (pipelines\.paper\.\w+)", stage["cmd"])
        assert module
        assert callable(importlib.import_module(module[1]).main)
        for path in stage.get("deps", []):
            if path.startswith("${code}/"):
                assert (ROOT / path.removeprefix("${code}/")).exists(), path
    official = set(PAPER_ROWS) - set(TRAINED)
    assert set(stages["invert"]["matrix"]["method"]) == official
    assert set(stages["train"]["matrix"]["domain"]) == set(DOMAINS)
    assert set(stages["ablate"]["matrix"]["variant"]) == set(importlib.import_module("pipelines.paper.ablate").VARIANTS)
    named = [stages["reference"]["matrix"]["set"], DOMAIN_REFERENCES, SUITE_REFERENCES, References.model_fields,
             [choice for choice in OPTIONS["fid_reference"] if choice != "sources"]]  # fmt: skip
    assert all(list(names) == list(SUITE_REFERENCES) for names in named)
    assert all(SETS[name].count == default for name, default in _parameters()["references"].items())
    written = {f"data/survey/{name}.json" for name in parts(_nothing())}
    read = {path for stage in stages.values() for path in stage.get("deps", []) if path.startswith("data/survey/")}
    expanded = {path.replace("${item.method}", row).replace("${item.domain}", name).replace("${item.set}", chosen)
                for path in read for row in official for name in DOMAINS for chosen in SUITE_REFERENCES}  # fmt: skip
    assert expanded <= written


def test_the_rehearsal_is_not_whole_without_distances(tmp_path: Path) -> None:
    none, some = {"mean": None}, {"mean": 1.0}
    of_faces = {"fid": some, "kid": some, "fid_to_ffhq": some, "fid_to_celeba_hq_test": some}
    methods = {"psp": of_faces | {"kid": none}, "e4e": of_faces | {"kid": none, "fid": none}}
    (tmp_path / "reports").mkdir()
    sets = {"faces": {"methods": methods}, "cats": {"methods": {"psp": {"fid": some}}}}
    (tmp_path / "reports/table1.json").write_text(json.dumps({"sets": sets}))
    lacks = [f"column kid of {name} has no numbers" for name in ("faces", "cats")]
    assert without_numbers(tmp_path) == lacks


def _parameters() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((PAPER / "params.yaml").read_text())
    return found


def _nothing() -> Surveyed:
    asset = {"state": "missing", "reason": "the official asset is missing", "path": None, "files": {}, "sets": {}}
    return Surveyed({each.id: asset for each in read_official_catalogue(CATALOGUE).assets})


def test_parameters_are_checked_and_the_rehearsal_changes_only_known_ones(tmp_path: Path) -> None:
    values = yaml.safe_load((PAPER / "params.yaml").read_text())
    assert read_checked(PAPER / "params.yaml", PaperParameters).training.recipe == "paper"
    changes = yaml.safe_load((PAPER / "rehearsal.yaml").read_text())
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(merged(values, changes)))
    assert read_parameters(path).device == "cpu"
    path.write_text(yaml.safe_dump(merged(values, {"clips": {"count": 0}})))
    with pytest.raises(Refusal, match=r"params.yaml: clips.count: .* \(it is 0\)"):
        read_parameters(path)


def test_without_official_files_everything_says_so(
    tmp_path: Path, assets: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = merged(
        yaml.safe_load((PAPER / "params.yaml").read_text()),
        {"official": str(tmp_path / "official"), "assets": str(assets), "device": "cpu"},
    )
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["stage"])
    for module in (survey, data):
        module.main()
    surveyed = Surveyed.read()
    assert not surveyed.rehearsal
    with pytest.raises(Refusal, match=r"psp_ffhq is missing; run `python -m pipelines.assets fetch psp_ffhq`"):
        surveyed.path("psp_ffhq")
    before = {path.name: path.read_bytes() for path in Path("data/survey").iterdir()}
    survey.main()
    assert before == {path.name: path.read_bytes() for path in Path("data/survey").iterdir()}

    places, parameters = Places(), read_parameters()
    for row, name in (("psp", "faces"), ("fse_trained", "cats"), ("psp", "dogs")):
        invert.invert(row, name, parameters, places, surveyed)
    assert "celeba_hq" in (reason_of(places.inversions / "psp/faces") or "")
    places.measurements.mkdir(parents=True)
    (places.measurements / "cats.json").write_text("of an earlier run")
    assert evaluate.measure(parameters, places) == []
    assert not (places.measurements / "cats.json").exists()
    absent = Absent.read(places.measurements)
    assert set(absent.sets) == set(DOMAINS)
    profile = PaperProfile.of("faces", parameters.assets, torch.device("cpu"), surveyed)
    assert "there is no data/reference/ffhq" in profile.absent_columns()["FID to ffhq"]
    none = parameters.model_copy(update={"references": References(ffhq=0, celeba_hq_test=9)})
    for name, reason in {"ffhq": "references.ffhq is 0 in", "celeba_hq_test": "celeba_hq is missing; run"}.items():
        reference.write_features(name, none, surveyed)
        assert reason in profile.absent_columns()[f"FID to {name}"]
    assert not any("FID" in column for column in profile.absent_frame_columns())
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        report.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: nothing could be measured, so there is nothing to report: the of")


def test_a_row_comes_when_its_file_comes(tmp_path: Path) -> None:
    folder = tmp_path / "row"
    assert reason_of(folder) == f"there is no {folder}"
    mark_absent(folder, "it is missing")
    assert reason_of(folder) == "it is missing"
    unmark(folder)
    assert reason_of(folder) is None


def test_absent_rows_stand_in_the_table_with_their_reason(tmp_path: Path) -> None:
    cell = {"mean": 20.0, "low": 19.0, "high": 21.0, "expected": 8, "used": 8, "failed": 0}
    results = SetMeasurements(
        "faces", 8, {"psnr": {"label": "PSNR", "higher_is_better": True}}, {"psp": {"psnr": cell}}, []
    )
    absent = Absent(
        {"faces": {"e4e": "its file is missing", "hfgi": "its file is missing"}}, {"faces": {"LPIPS": "no"}}
    )
    absent.write(tmp_path / PICTURES)
    Absent({"clips": {"psp": "there are no clips"}}).write(tmp_path / CLIPS)
    assert Absent.read(tmp_path) == Absent({**absent.rows, "clips": {"psp": "there are no clips"}}, absent.columns)
    table = set_table(Judged(results, [], []), title="Faces", decimals={}, absent=absent)
    assert [(row.key, bool(row.cells)) for row in table.rows] == [("psp", True), ("e4e", False), ("hfgi", False)]
    text = table.markdown()
    assert "| HFGI | — |" in text
    assert "Not measured: e4e, HFGI: its file is missing." in text
    assert "Not measured: LPIPS: no." in text
    for profile, notices in (("rehearsal", 1), ("paper", 0)):
        write_forms(tmp_path / "table", {"profile": profile}, [table])
        for suffix in ("md", "tex", "csv"):
            assert (tmp_path / f"table.{suffix}").read_text().count(REHEARSED) == notices
    (tmp_path / "absent.json").write_text(json.dumps({"rows": 1, "colums": 2}))
    with pytest.raises(Refusal, match=r"absent\.json cannot be read"):
        Absent.read(tmp_path)
    shutil.rmtree(tmp_path)
    assert Absent.read(tmp_path) == Absent()
