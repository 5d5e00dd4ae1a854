"""Eq. (1), plain and masked, for every generator and method; and edits measured end to end."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch import Tensor

from eval import edit_measurement, editing
from eval.attributes import ATTRIBUTES
from eval.contest import ENCODERS, METHODS, Places, directions_of
from eval.edit_measurement import EDITS, MASKED, MIXING, Editing, EditSettings, Kept, available, distance_outside
from eval.editing import Judgement, effect, mixing_shares, over_pictures, section, with_excess
from eval.metrics.identity import MeanDescriptor
from eval.profile import Profile
from fse.alignment import FaceAligner, align_every_face
from fse.checkpoints.network_file import write_network
from fse.directions import Direction, scaled, write_directions
from fse.editing import change_mask, edited_feature, move_codes
from fse.generators.style_generator import StyleGenerator
from fse.inverter import CodeEncoder, CodesInverter, FeatureStyleInverter, load_fse_codes
from fse.latents import sample_z
from fse.perceptual import STLPIPS
from fse.pictures import write_picture
from fse.refusal import Refusal
from tests.conftest import ROOT
from tests.test_generator_contract import ADAPTERS, small
from tests.tiny import tiny_encoder, tiny_generator, tiny_pyramid


@pytest.fixture(scope="module", params=list(ADAPTERS))
def adapter(request: pytest.FixtureRequest, assets: Path) -> StyleGenerator:
    return small(request.param)


def deviation(a: Tensor, b: Tensor) -> float:
    return ((a - b).abs().max() / b.std()).item()


def test_eq_1_is_exact_on_the_generators_own_feature(adapter: StyleGenerator) -> None:
    """With F = G(w^{1:K}) the edit is the generator's own, whatever the family; a mask of ones is no mask."""
    codes, other = adapter.map(sample_z(1, 2)), adapter.map(sample_z(2, 2))
    edited = move_codes(codes, (other - codes)[0], 0.5)
    feature = adapter.feature(codes)
    found = edited_feature(adapter, feature, codes, edited)
    assert deviation(found, adapter.feature(edited)) < 1e-5
    assert deviation(adapter.synthesize(edited, found), adapter.synthesize(edited)) < 1e-4
    ones = torch.ones(1, 1, *adapter.feature_shape[1:])
    assert torch.equal(
        edited_feature(adapter, feature, codes, edited, ones), feature + (adapter.feature(edited) - feature)
    )
    assert torch.equal(edited_feature(adapter, feature, codes, edited, 0 * ones), feature)


def test_a_mask_says_where(adapter: StyleGenerator) -> None:
    codes, edited = adapter.map(sample_z(1, 2)), adapter.map(sample_z(2, 2))
    feature = torch.randn(2, *adapter.feature_shape, generator=torch.Generator().manual_seed(0))
    left = torch.zeros(2, 1, *adapter.feature_shape[1:])
    left[..., : left.shape[3] // 2] = 1
    found = edited_feature(adapter, feature, codes, edited, left)
    plain = edited_feature(adapter, feature, codes, edited)
    half = left.shape[3] // 2
    torch.testing.assert_close(found[..., :half], plain[..., :half], atol=1e-4, rtol=1e-4)
    assert torch.equal(found[..., half:], feature[..., half:])
    for wrong in (left[:, :, 1:], left.expand(-1, 2, -1, -1), left[:1].expand(3, -1, -1, -1)):
        with pytest.raises(ValueError, match="the mask must be"):
            edited_feature(adapter, feature, codes, edited, wrong)


def test_the_default_mask_is_where_the_edit_is_and_the_gap_is_not() -> None:
    random = torch.Generator().manual_seed(0)
    before = torch.randn(2, 8, 16, 16, generator=random)
    change, gap = torch.zeros_like(before), torch.zeros_like(before)
    change[..., :8, :] = torch.randn(2, 8, 8, 16, generator=random)
    gap[..., :8] = torch.randn(2, 8, 16, 8, generator=random)
    mask = change_mask(before + gap, before, before + change)
    assert mask.shape == (2, 1, 16, 16)
    assert ((mask >= 0) & (mask <= 1)).all()
    assert (mask[..., :7, 9:] > 1 - 1e-6).all()  # edit and no gap
    assert (mask[..., 9:, :7] < 1e-6).all()  # gap and no edit
    assert ((mask[..., :7, :7] - 0.5).abs() < 0.35).all()  # both
    for strength in (1e-3, 0.1, 10):  # the same for a stronger edit in the same places
        again = change_mask(before + gap, before, before + strength * change)
        torch.testing.assert_close(again, mask, atol=1e-3, rtol=0)
    channels = torch.tensor([1e-3, 1, 1e3, 1, 1, 1, 1, 1])[:, None, None]  # units of a channel do not count
    again = change_mask((before + gap) * channels, before * channels, (before + change) * channels)
    torch.testing.assert_close(again, mask, atol=1e-4, rtol=0)
    nothing = change_mask(before, before, before)
    assert nothing.isfinite().all()


def test_masked_inverter_edits_by_its_mask() -> None:
    generator = tiny_generator()
    encoder = tiny_encoder(generator)
    pictures = generator.synthesize(generator.map(sample_z(3, 2))).clamp(-1, 1)
    plain = FeatureStyleInverter(encoder, generator)
    none = FeatureStyleInverter(
        encoder, generator, mask=lambda feature, before, after: torch.zeros_like(feature[:, :1])
    )
    masked = FeatureStyleInverter(encoder, generator, mask=change_mask)
    inversion = plain.invert(pictures)
    direction = (generator.map(sample_z(4, 1)) - generator.mean_code)[0]
    moved = move_codes(inversion.codes, direction, 2.0)
    assert torch.equal(none.edit(inversion, direction, 2.0), generator.synthesize(moved, inversion.feature))
    for method in (plain, masked):
        assert torch.allclose(method.edit(inversion, direction, 0.0), inversion.picture, atol=1e-5)
    assert not torch.allclose(plain.edit(inversion, direction, 2.0), masked.edit(inversion, direction, 2.0), atol=1e-3)


@pytest.mark.parametrize("name", ["fse", "fse_w", "psp"])
def test_codes_need_no_synthesis(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    generator = tiny_generator()
    pictures = generator.synthesize(generator.map(sample_z(3, 2))).clamp(-1, 1)
    if name == "fse_w":
        write_network(tmp_path / "fse.safetensors", tiny_encoder(generator).eval(), {})
        method: Any = load_fse_codes(generator, tmp_path)
    elif name == "fse":
        method = FeatureStyleInverter(tiny_encoder(generator), generator)
    else:
        method = CodesInverter(tiny_pyramid(generator), generator)
    assert isinstance(method, CodeEncoder)
    expected = method.invert(pictures).codes
    monkeypatch.setattr(type(generator), "synthesize", None)
    assert torch.equal(method.codes(pictures), expected)


def test_every_method_has_directions() -> None:
    assert {directions_of(method) for method in METHODS} == {"generator", *ENCODERS}
    assert directions_of("hfgi") == "e4e"
    assert directions_of("fse_w") == "fse"
    assert directions_of("somebody's") == "generator"


def test_distance_counts_outside_the_region_only(assets: Path) -> None:
    perceptual = STLPIPS.load(assets / "stlpips/alex_shift_tolerant.pth")
    before = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mask = np.zeros((64, 64), np.float32)
    mask[16:48, 16:48] = 1
    inside, outside = before.clone(), before.clone()
    inside[..., 16:48, 16:48] *= -1
    outside[..., :16, :] *= -1
    assert distance_outside(perceptual, before, inside, [mask, mask], 1) == pytest.approx([0, 0], abs=1e-7)
    assert min(distance_outside(perceptual, before, outside, [mask, mask], 1)) > 0.01
    plain = perceptual(before, outside).tolist()
    assert distance_outside(perceptual, before, outside, [0 * mask, 0 * mask], 2) == pytest.approx(plain, rel=1e-5)
    nothing = distance_outside(perceptual, before, outside, [None, mask * 0 + 1], 2)
    assert all(map(math.isnan, nothing))


def rows_of(changes: dict[str, float], strengths: tuple[float, ...], loss: float = 0.1) -> pd.DataFrame:
    """PICTURE -> how far the smile moves a unit; identity falls by ``loss`` a unit of strength."""
    return pd.DataFrame(
        [
            dict.fromkeys(ATTRIBUTES, 0.3 * strength)
            | {"picture": picture, "strength": strength, "smile": change * strength}
            | {"id": 1 - loss * abs(strength), "outside": 0.02 * abs(strength), "status": "ok"}
            for picture, change in changes.items()
            for strength in strengths
        ]
    )


def test_methods_are_compared_at_an_equal_effect() -> None:
    found = effect(rows_of({"a": 0.4, "b": 0.6}, (-3, -1.5, 1.5, 3)), "smile", 1.0)
    assert found.strengths == pytest.approx([2, -2])  # the mean picture moves by a half a unit
    assert found.values["gain"].tolist() == pytest.approx([0.4, 0.6])
    assert found.values["id"].tolist() == pytest.approx([0.8, 0.8])
    assert found.values["outside"].tolist() == pytest.approx([0.04, 0.04])
    assert found.values["others"].tolist() == pytest.approx([0.6, 0.6])
    one_side = rows_of({"a": 0.5}, (1.5, 3))
    assert effect(one_side, "smile", 1.0).strengths == pytest.approx([2])


def test_an_effect_that_is_not_reached_has_no_values() -> None:
    found = effect(rows_of({"a": 0.1, "b": 0.1}, (-3, 3)), "smile", 1.0)
    assert found.strengths == []
    assert found.values["id"].isna().all()
    assert found.values["gain"].tolist() == pytest.approx([0.1, 0.1])
    rows = rows_of({"a": 0.5, "b": 0.5}, (-3, 3))
    rows.loc[rows["picture"] == "b", [*ATTRIBUTES]] = np.nan  # no face in any edit
    found = effect(rows, "smile", 1.0)
    assert found.strengths == pytest.approx([2, -2])
    assert math.isnan(found.values["gain"]["b"])
    assert found.values["id"]["b"] == pytest.approx(0.8)


def test_excess_is_to_the_same_edit_of_the_codes() -> None:
    rows = [
        {"picture": p, "direction": "smile", "strength": s, "method": m, "id": v}
        for p, s, m, v in (("a", 3, "fse_w", 0.9), ("a", 3, "fse", 0.6), ("a", 3, MASKED, 0.8), ("b", 3, "fse", 0.5))
    ]
    found = with_excess(pd.DataFrame(rows)).set_index(["picture", "method"])["excess"]
    assert found["a", "fse"] == pytest.approx(0.3)
    assert found["a", MASKED] == pytest.approx(0.1)
    assert math.isnan(found["b", "fse"])


def test_shares_of_a_mixture_are_found() -> None:
    random = np.random.default_rng(0)
    table = pd.DataFrame({"id_structure": [0.9] * 20, "id_style": [0.1] * 20})
    for key in ATTRIBUTES:
        a, b = random.normal(size=(2, 20))
        table[f"{key}_structure"], table[f"{key}_style"] = a, b
        table[key] = 0.8 * a + 0.1 * b + 5 + 0.01 * random.normal(size=20)
    judgement = Judgement({}, {MIXING: table}, {}, {}, {})
    found = mixing_shares(judgement)
    assert found["yaw"]["structure"]["mean"] == pytest.approx(0.8, abs=0.02)
    assert found["yaw"]["style"]["low"] <= 0.1 <= found["yaw"]["style"]["high"]
    assert found["id"]["structure"]["mean"] == pytest.approx(0.9)


def test_intervals_are_over_pictures_and_not_over_edits() -> None:
    """Repeating each picture's edits adds nothing that one knows."""
    random = np.random.default_rng(0)
    once = [np.array([value]) for value in random.normal(size=10)]
    often = [each.repeat(50) for each in once]
    found = [over_pictures(groups, lambda parts: float(np.concatenate(parts).mean())) for groups in (once, often)]
    assert found[0].low == pytest.approx(found[1].low)
    assert found[0].high == pytest.approx(found[1].high)


def settings_for(**changes: Any) -> EditSettings:
    base = EditSettings(
        pictures={"photographs": 2},
        directions=["smile"],
        strengths=[-3.0, 3.0],
        change=1.0,
        consistency_strength=2.0,
        shown=2,
        pairs=2,
        left_out=["wplus", "idinvert"],
        batch=2,
        shown_strength=3.0,
    )
    return replace(base, **changes)


@pytest.fixture(scope="module")
def places(assets: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Places:
    """Two aligned photographs, a mean descriptor, and directions that were found on hardly anything."""
    root = tmp_path_factory.mktemp("editing")
    aligner = FaceAligner(assets / "dlib/shape_predictor_68_face_landmarks.dat")
    for name, source in (("a", "astronaut.png"), ("b", "t1.jpg")):
        picture = next(iter(align_every_face([assets / "photographs" / source], aligner).values()))
        write_picture(picture, root / f"test/photographs/{name}.png")
    MeanDescriptor(np.full(128, 0.02), count=1).write(root / "test/mean_descriptor.json")
    generator = Profile(assets, weights).generator()
    codes = generator.map(sample_z(5, 32))
    known = {"attribute_standard_deviation": 0.2, "codes": "psp"}
    found = [scaled(key, codes[0] - codes[1], codes, known) for key in ATTRIBUTES]
    for name in ("fse", "psp"):
        write_directions(root / f"directions/{name}.safetensors", found)
    return Places(root / "test", reports=root / "reports", directions=root / "directions")


@pytest.fixture(scope="module")
def measured(places: Places, assets: Path, weights: Path) -> Places:
    """By one thread, as commands measure. Killed after the first method and direction, and called again."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    profile, pictures = Profile(assets, weights), places.reports / "edits"
    calls: list[str] = []
    original = Editing.measure

    def counted(self: Editing, direction: Direction, units: Any) -> Any:
        calls.append(self.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, direction, units)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Editing, "measure", counted)
        for _ in range(2):
            try:
                methods = ["psp", "fse_w", "fse", MASKED]
                edit_measurement.evaluate(places, profile, settings_for(), methods=methods, pictures=pictures)
            except KeyboardInterrupt:
                assert (places.measurements / ".parts").is_dir()
    torch.set_num_threads(threads)
    assert calls == ["psp", "fse_w", "fse_w", "fse", MASKED]
    editing.render(places, editing.origin_of(places, profile, None))
    editing.illustrate(places, profile, pictures=pictures)
    return places


def test_a_run_that_was_stopped_goes_on(measured: Places) -> None:
    assert not list(measured.measurements.glob(".parts/edits/*"))


def test_every_edit_is_there_once(measured: Places) -> None:
    told, tables = edit_measurement.read(measured)
    edits = tables[EDITS]
    assert len(edits) == 4 * 2 * 2
    assert not edits.duplicated(["picture", "method", "direction", "strength"]).any()
    assert told["pictures"] == ["photographs/a", "photographs/b"]
    assert edits["id"].between(-1, 1).all()
    assert (edits["outside"] > 0).all()
    only = edits["method"].isin(["fse", MASKED])
    assert (edits["feature_change"].notna() == only).all()
    # The masked form moves the feature tensor by the same codes.
    change = edits[only].pivot(index=["picture", "strength"], columns="method", values="feature_change")
    np.testing.assert_allclose(change["fse"], change[MASKED], rtol=1e-5)
    consistency = tables[edit_measurement.CONSISTENCY]
    assert (consistency[["lec", "lec_without_edit"]] > 0).all().all()
    assert {*zip(tables[MIXING]["structure"], tables[MIXING]["style"], strict=True)} == {("a", "b"), ("b", "a")}


def test_processes_measure_the_same(measured: Places, assets: Path, weights: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    places = replace(measured, reports=tmp_path)
    settings, methods = settings_for(), ["psp", "fse_w"]
    evaluated = partial(edit_measurement.evaluate, places, Profile(assets, weights), processes=2)
    evaluated(settings=settings, methods=methods, pictures=tmp_path / "edits")
    assert not (places.measurements / ".parts/edits").exists()
    for name in (EDITS, edit_measurement.CONSISTENCY):
        alone = edit_measurement.read(measured)[1][name]
        alone = alone[alone["method"].isin(methods)].dropna(axis=1, how="all").reset_index(drop=True)
        pd.testing.assert_frame_equal(edit_measurement.read(places)[1][name], alone, check_exact=True)
    drawn = {str(path.relative_to(tmp_path / "edits")) for path in (tmp_path / "edits").rglob("*.png")}
    assert {f"{method}/smile/3/{name}.png" for method in methods for name in "ab"} <= drawn
    with pytest.raises(Refusal, match="has no direction 'beauty'"):
        evaluated(settings=settings_for(directions=["beauty"]), methods=methods, pictures=tmp_path / "edits")


def test_what_is_shown_must_be_edited() -> None:
    for strength in (-3.0, 2.0):
        with pytest.raises(Refusal, match=r"shown_strength is .* editing\.strengths, which are -3, 3, in params"):
            settings_for(shown_strength=strength)


def test_tables_figures_and_section_are_made(measured: Places) -> None:
    results = json.loads((measured.reports / "editing.json").read_text())
    assert set(results["sets"]) == {"smile"}
    assert results["provenance"]["inputs"]["directions"]
    for name in ("editing.md", "editing.csv", "editing.tex"):
        assert "masked" in (measured.reports / name).read_text()
    for name in ("figure_editing", "figure7", "figure8", "figure_limitation"):
        for suffix in ("png", "pdf"):
            assert (measured.reports / f"{name}.{suffix}").stat().st_size > 1000
    assert "codes: those of pSp for FSE, G(F, w)" in (measured.reports / "editing.md").read_text()
    found = section(measured)
    assert found is not None
    assert len(found.illustrations) == 4
    assert found.tables[0].key == "smile"
    first = {path.name: path.read_bytes() for path in measured.reports.iterdir() if path.is_file()}
    editing.render(measured, results["provenance"])
    editing.illustrate(measured, Profile(), pictures=measured.reports / "edits")
    assert {path.name: path.read_bytes() for path in measured.reports.iterdir() if path.is_file()} == first
    assert section(Places(reports=measured.reports / "nowhere")) is None


def test_kept_work_is_found_by_what_it_depends_on(tmp_path: Path) -> None:
    kept, calls = Kept(tmp_path), []

    def make() -> dict[str, list[dict[str, Any]]]:
        calls.append(1)
        return {"edits": [{"id": math.nan}]}

    for key in ("a", "a", "b"):
        assert math.isnan(kept.get(key, make)["edits"][0]["id"])
    assert len(calls) == 2
    for path in tmp_path.glob("*.json"):
        path.write_text(path.read_text()[:-3])
    kept.get("a", make)
    assert len(calls) == 3


def test_methods_without_weights_take_no_part(tmp_path: Path) -> None:
    assert available(Profile(weights=tmp_path)) == ["wplus"]
    for name in ("fse", "hfgi"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"")
    assert available(Profile(weights=tmp_path), ["wplus"]) == ["fse_w", "fse", MASKED]  # HFGI lacks e4e
    (tmp_path / "e4e.safetensors").write_bytes(b"")
    assert available(Profile(weights=tmp_path), ["wplus"]) == ["e4e", "hfgi", "fse_w", "fse", MASKED]


def test_what_cannot_be_edited_is_refused(places: Places, assets: Path, weights: Path) -> None:
    profile, folder = Profile(assets, weights), places.reports / "edits"
    for settings, reason in (
        (settings_for(directions=["beauty"]), r"has no direction 'beauty' of an attribute; choose of .*smile"),
        (settings_for(pictures={"nowhere": 1}), "there is no folder of pictures"),
    ):
        with pytest.raises(Refusal, match=reason):
            edit_measurement.evaluate(places, profile, settings, methods=["psp"], pictures=folder)
    write_directions(
        places.directions / "e4e.safetensors",
        [Direction("smile", torch.ones(profile.generator().num_codes, 512), {})],
    )
    with pytest.raises(Refusal, match="does not say how far"):
        edit_measurement.evaluate(places, profile, settings_for(), methods=["e4e"], pictures=folder)


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    called = [sys.executable, "-m", "eval.editing", "--test", str(tmp_path / "absent"), "--out", str(tmp_path)]
    done = subprocess.run(called, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert "absent" in done.stderr
    assert "Traceback" not in done.stderr


def test_shipped_settings_are_whole() -> None:
    settings = editing.settings_from(yaml.safe_load((ROOT / "params.yaml").read_text()))
    assert min(settings.strengths) < 0 < max(settings.strengths)
    with pytest.raises(Refusal, match="no complete section editing"):
        editing.settings_from({"editing": {"batch": 1}})
