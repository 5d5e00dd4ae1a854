"""Directions: on disk, and found where they were put."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.svm import SVC
from torch import Tensor

from eval.attributes import ATTRIBUTES
from fse.checkpoints.safetensors_file import write_tensors
from fse.directions import (
    Direction,
    conditional,
    ganspace,
    interfacegan,
    read_directions,
    scaled,
    sefa,
    style_affines,
    write_directions,
)
from fse.generators.style_generator import StyleGenerator
from fse.latents import sample_z
from fse.refusal import Refusal
from pipelines.directions import fitted, in_chunks, working
from pipelines.parameters import read_parameters
from tests.test_generator_contract import ADAPTERS, small
from tests.tiny import tiny_generator

N, D = 3, 16


@pytest.fixture(scope="module", params=list(ADAPTERS))
def adapter(request: pytest.FixtureRequest, assets: Path) -> StyleGenerator:
    return small(request.param)


def planted(count: int = 1000, noise: float = 0.5, seed: int = 0) -> tuple[Tensor, np.ndarray, Tensor]:
    """Codes whose score is their position along a unit normal, and noise."""
    random = torch.Generator().manual_seed(seed)
    codes = torch.randn(count, N, D, generator=random) + 2
    normal = torch.randn(N, D, generator=random)
    normal /= normal.norm()
    scores = codes.flatten(1) @ normal.flatten() + noise * torch.randn(count, generator=random)
    return codes, scores.double().numpy(), normal


def cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.flatten().double(), b.flatten().double(), 0))


def test_interfacegan_finds_a_planted_normal() -> None:
    codes, scores, normal = planted()
    found = interfacegan(codes, scores, fraction=0.2)
    assert cosine(found.normal, normal) > 0.9
    assert found.normal.norm() == pytest.approx(1, abs=1e-6)
    assert found.chosen == 200
    assert min(found.training, found.validation) > 0.95
    assert found.rest is not None
    assert 0.6 < found.rest < found.validation
    assert 0.7 < found.correlation < 1


def test_interfacegan_of_noise_is_chance() -> None:
    codes, scores, _ = planted()
    found = interfacegan(codes, np.random.default_rng(0).permutation(scores), fraction=0.2)
    assert abs(found.validation - 0.5) < 0.15
    assert found.rest == pytest.approx(0.5, abs=0.1)
    assert abs(found.correlation) < 0.1


def test_interfacegan_is_the_official_selection_and_svm() -> None:
    """On separable ends the margin's normal does not depend on the codes' place and size."""
    codes, scores, _ = planted(400, noise=0)
    scores[:7] = np.nan  # no face: takes no part
    found = interfacegan(codes, scores, fraction=0.1, train=0.7, cost=1e6)
    order = [i for i in np.argsort(scores) if np.isfinite(scores[i])]
    random = np.random.default_rng(0)
    low, high = (random.permutation(end)[:27] for end in (order[:39], order[-39:]))
    flat = codes.flatten(1).numpy()
    reference = SVC(kernel="linear", C=1e6).fit(flat[[*low, *high]], [0] * 27 + [1] * 27).coef_[0]
    assert cosine(found.normal, torch.tensor(reference)) > 0.9999
    assert found.training == 1


@pytest.mark.parametrize("change", ["few", "equal"])
def test_scores_that_say_nothing_are_an_error(change: str) -> None:
    codes, scores, _ = planted(100)
    scores = scores[:100] if change == "few" else np.ones(100)
    with pytest.raises(ValueError, match="not enough, or the scores do not differ"):
        interfacegan(codes, scores, fraction=0.02 if change == "few" else 0.4)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_conditional_leaves_nothing_of_the_others(seed: int, others: int) -> None:
    random = torch.Generator().manual_seed(seed)
    normal, *rest = torch.randn(others + 1, N, D, generator=random)
    rest = [each + 3 * rest[0] for each in rest]  # far from orthogonal
    found = conditional(normal, rest)
    assert found.norm() == pytest.approx(1, abs=1e-6)
    assert all(abs(cosine(found, other)) < 1e-5 for other in rest)
    torch.testing.assert_close(found, conditional(normal, rest[::-1]), atol=1e-5, rtol=0)
    plain = normal.flatten().double()  # against least squares
    if rest:
        span = torch.stack([other.flatten().double() for other in rest], 1)
        plain = plain - span @ torch.linalg.lstsq(span, plain[:, None]).solution[:, 0]
    assert cosine(found, plain) > 1 - 1e-9


def test_conditional_on_itself_is_an_error() -> None:
    normal = torch.randn(N, D, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="nothing is left"):
        conditional(normal, [2 * normal, torch.ones(N, D)])


def test_strength_one_is_one_standard_deviation() -> None:
    codes, _, normal = planted()
    codes = codes * 3
    direction = scaled("planted", 17 * normal, codes, {"method": "planted"})
    unit = direction.vector / direction.vector.norm()
    assert cosine(unit, normal) > 1 - 1e-6
    assert direction.vector.norm() == pytest.approx((codes.flatten(1) @ unit.flatten()).std().item(), rel=1e-5)
    assert direction.provenance["method"] == "planted"
    assert direction.provenance["count"] == len(codes)


def test_ganspace_is_scikit_learns_pca() -> None:
    codes = torch.randn(200, D, generator=torch.Generator().manual_seed(0)) * torch.arange(1, D + 1)
    reference = PCA(4).fit(codes.double().numpy())
    found = ganspace(codes, N, 4, rows=[1, 2])
    for component, expected, share in zip(
        found, reference.components_, reference.explained_variance_ratio_, strict=True
    ):
        assert not component.normal[0].any()
        assert torch.equal(component.normal[1], component.normal[2])
        assert abs(cosine(component.normal[1], torch.from_numpy(expected))) > 1 - 1e-9
        assert component.share == pytest.approx(share)


def test_sefa_changes_styles_most(adapter: StyleGenerator) -> None:
    """Of all unit moves of a code, the first component changes the styles most, and components are orthogonal."""
    rows = [1, 2]
    found = sefa(adapter, 3, rows)
    assert all(not component.normal[[0, *range(3, adapter.num_codes)]].any() for component in found)
    moves = [component.normal[1] / component.normal[1].norm() for component in found]
    assert torch.stack(moves) @ torch.stack(moves).T == pytest.approx(np.eye(3), abs=1e-4)
    weights = torch.cat([weight for row in rows for weight in style_affines(adapter)[row]])
    sizes = [(weights @ move).square().sum().item() for move in moves]
    random = torch.nn.functional.normalize(torch.randn(200, 512, generator=torch.Generator().manual_seed(1)))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] >= (random @ weights.T).square().sum(1).max().item()
    assert found[0].share == pytest.approx(sizes[0] / weights.square().sum().item(), rel=1e-3)


def test_affines_of_every_family_are_what_the_codes_act_through(adapter: StyleGenerator) -> None:
    """Each row has some, and a move of one row that none of its affine maps sees changes no picture."""
    affines = style_affines(adapter)
    assert len(affines) == adapter.num_codes
    row = 2
    weights = torch.cat(affines[row])
    assert weights.shape[1] == adapter.code_dim
    _, _, basis = torch.linalg.svd(weights.double(), full_matrices=True)
    codes = adapter.map(sample_z(3, 1)).clone()
    picture = adapter.synthesize(codes)
    seen, unseen = codes.clone(), codes.clone()
    seen[:, row] += 5 * basis[0].float()
    assert not torch.allclose(adapter.synthesize(seen), picture, atol=1e-3 * picture.std().item())
    if len(weights) < adapter.code_dim:
        unseen[:, row] += 5 * basis[-1].float()
        torch.testing.assert_close(adapter.synthesize(unseen), picture, atol=1e-3 * picture.std().item(), rtol=0)


def test_equal_channels_is_the_official_codes_form() -> None:
    generator = tiny_generator()
    weights = torch.cat([weight for row in style_affines(generator) for weight in row]).double()
    weights = weights / weights.norm(dim=1, keepdim=True)
    expected = torch.linalg.svd(weights, full_matrices=False).Vh[0]
    found = sefa(generator, 1, equal_channels=True)[0].normal[0]
    assert abs(cosine(found, expected)) > 1 - 1e-5


def test_files_go_round_and_say_what_they_hold(tmp_path: Path) -> None:
    generator = tiny_generator()
    random = torch.Generator().manual_seed(0)
    directions = [
        Direction(
            name, torch.randn(generator.num_codes, 512, generator=random), {"codes": "fse", "count": 5, "rows": [1]}
        )
        for name in ("yaw", "smile")
    ]
    write_directions(tmp_path / "fse.safetensors", directions)
    found = read_directions(tmp_path / "fse.safetensors", generator)
    assert list(found) == ["smile", "yaw"]
    for each in directions:
        assert torch.equal(found[each.name].vector, each.vector)
        assert found[each.name].provenance == each.provenance
    write_directions(tmp_path / "again.safetensors", directions[::-1])
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "fse.safetensors").read_bytes()
    with pytest.raises(ValueError, match="one name"):
        write_directions(tmp_path / "fse.safetensors", [*directions, directions[0]])


def test_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    generator = tiny_generator()
    path = tmp_path / "fse.safetensors"
    with pytest.raises(Refusal, match=r"there are no directions .*fse\.safetensors; restore it"):
        read_directions(path)
    path.write_bytes(b"no such thing")
    with pytest.raises(Refusal, match="is no safetensors file"):
        read_directions(path)
    vector = torch.ones(generator.num_codes, 512)
    described = {"format": "fse-directions", "directions": '{"smile": {}}'}
    for tensors, header, reason in (
        ({"smile": vector}, {}, "holds no directions"),
        ({"yaw": vector}, described, "header does not describe"),
        ({"smile": vector}, {**described, "directions": "["}, "header does not describe"),
        ({"smile": vector * torch.nan}, described, "smile is no direction"),
        ({"smile": vector * 0}, described, "smile is no direction"),
        ({"smile": vector.half()}, described, "smile is no direction"),
        ({"smile": vector[1:]}, described, r"smile is \(7, 512\) and the generator takes 8 codes of 512"),
    ):
        write_tensors(path, tensors, header)
        with pytest.raises(Refusal, match=reason):
            read_directions(path, generator)


def test_directions_of_a_methods_codes() -> None:
    """Two an attribute, with what is known of each; conditional ones at right angles to the normals of the others."""
    settings = read_parameters().directions
    random = torch.Generator().manual_seed(0)
    codes = torch.randn(1500, N, D, generator=random)
    normals = torch.linalg.qr(torch.randn(N * D, len(ATTRIBUTES), generator=random))[0].T
    scores = (codes.flatten(1) @ normals.T).numpy() * 3
    scores[:20, 0] = np.nan
    directions, accuracies = fitted(codes, scores, "psp", settings)
    names = [direction.name for direction in directions]
    assert names == [name for key in ATTRIBUTES for name in (key, f"{key}_conditional")]
    found = {direction.name: direction for direction in directions}
    for key, normal in zip(ATTRIBUTES, normals, strict=True):
        assert cosine(found[key].vector, normal) > 0.8
        assert found[key].provenance["codes"] == "psp"
        assert found[key].provenance["attribute_standard_deviation"] == pytest.approx(3, rel=0.1)
        others = [found[other].vector for other in ATTRIBUTES if other != key]
        assert max(abs(cosine(found[f"{key}_conditional"].vector, other)) for other in others) < 1e-5
        assert accuracies[key]["held_out_correlation"] > 0.7
        assert accuracies[key]["conditional_correlation"] > 0.7


def test_what_a_direction_does_not_move_is_edited_along_the_generators_direction() -> None:
    def direction(name: str, codes: str, value: float) -> Direction:
        return Direction(name, torch.full((2, 4), value), {"codes": codes, "attribute": name})

    own = [direction("yaw", "fse", 1.0), direction("smile", "fse", 2.0)]
    generators = [direction("yaw", "generator", 3.0), direction("smile", "generator", 4.0)]
    found, replaced = working(own, generators, {"yaw": (0.8, 0.9), "smile": (-0.9, 0.8)}, 0.7)
    by_name = {each.name: each for each in found}
    assert list(by_name) == ["yaw", "smile", "smile_own"]
    assert replaced == ["smile"]
    assert [each.vector[0, 0].item() for each in found] == [1.0, 4.0, 2.0]
    assert by_name["smile"].provenance["codes"] == "generator"
    assert by_name["smile"].provenance["instead_of"] == "fse"
    assert by_name["smile_own"].provenance["codes"] == "fse"


def test_chunks_that_are_there_are_not_made_again(tmp_path: Path) -> None:
    made: list[int] = []

    def make(places: range) -> np.ndarray:
        made.append(places[0])
        if len(made) == 2:
            raise KeyboardInterrupt
        return np.array(places, np.float32)[:, None]

    with pytest.raises(KeyboardInterrupt):
        in_chunks(tmp_path, 70, make, "test")
    found = in_chunks(tmp_path, 70, make, "test")
    assert made == [0, 32, 32, 64]
    assert found[:, 0].tolist() == list(range(70))
