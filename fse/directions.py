"""Directions in W+ along which an edit moves codes: on disk, and how they are found (paper, section 5.2).

Three methods of the field are here. InterFaceGAN needs a score for every code; GANSpace needs codes alone; SeFa needs
the generator's weights alone. Whatever the method, a :class:`Direction` is scaled so that **strength 1 is one standard
deviation of the codes along it**, so that one number means the same for every direction and every inversion method.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fse.checkpoints.safetensors_file import read_tensors, write_tensors
from fse.generators.mapping import EqualLinear
from fse.generators.mobilestylegan import Modulation
from fse.generators.style_generator import StyleGenerator
from fse.generators.stylegan1 import Dense
from fse.refusal import Refusal

FORMAT = "fse-directions"

AFFINES = (EqualLinear, Modulation, Dense)
"""The layers by which the families turn a code into a style: StyleGAN2's and 3's, MobileStyleGAN's, StyleGAN1's."""


@dataclass(frozen=True)
class Direction:
    """A move of the codes that changes one thing.

    Attributes
    ----------
    name : str
        What it changes, e.g. ``smile``.
    vector : Tensor
        (N, 512), float32, on the CPU: ``codes + strength * vector``. Its length is the standard deviation of
        ``provenance["codes"]`` along it.
    provenance : mapping
        Plain values: by which method it was found, whose codes, how many, the accuracy on held-out codes, seeds.
    """

    name: str
    vector: Tensor
    provenance: Mapping[str, Any] = field(default_factory=dict)


def read_directions(path: Path, generator: StyleGenerator | None = None) -> dict[str, Direction]:
    """The directions of a file by name, in the file's order of names.

    Parameters
    ----------
    path : Path
        What :func:`write_directions` wrote.
    generator : StyleGenerator, optional
        Whose codes are to be moved.

    Raises
    ------
    Refusal
        When the file is missing or damaged, holds something else, or directions for codes of another shape than the
        generator's.
    """
    remedy = f"restore it with `git checkout -- {path}` or make it with `python -m pipelines.directions`"
    if not path.is_file():
        raise Refusal(f"there are no directions {path}; {remedy}")
    tensors, header = read_tensors(path, remedy)
    if header.get("format") != FORMAT:
        raise Refusal(f"{path} holds no directions; {remedy}")
    try:
        described = json.loads(header["directions"])
        provenances = {str(name): dict(described[name]) for name in tensors}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise Refusal(f"{path}: its header does not describe its directions ({error!r}); {remedy}") from error
    found = {}
    for name in sorted(tensors):
        vector = tensors[name]
        if vector.dtype != torch.float32 or vector.ndim != 2 or not vector.isfinite().all() or not vector.any():
            raise Refusal(f"{path}: {name} is no direction, a finite float32 matrix that is not zero; {remedy}")
        if generator is not None and vector.shape != (generator.num_codes, generator.code_dim):
            codes = f"{generator.num_codes} codes of {generator.code_dim} numbers"
            raise Refusal(f"{path}: {name} is {tuple(vector.shape)} and the generator takes {codes}; {remedy}")
        found[name] = Direction(name, vector.clone(), provenances[name])
    return found


def write_directions(path: Path, directions: Iterable[Direction]) -> None:
    """Write one safetensors file; equal directions give equal bytes.

    Raises
    ------
    ValueError
        When two directions have one name.
    """
    directions = list(directions)
    by_name = {direction.name: direction for direction in directions}
    if len(by_name) < len(directions):
        raise ValueError(f"two directions have one name: {sorted(direction.name for direction in directions)}")
    header = {
        "format": FORMAT,
        "directions": json.dumps({name: dict(each.provenance) for name, each in by_name.items()}, sort_keys=True),
    }
    write_tensors(path, {name: each.vector.float() for name, each in by_name.items()}, header)


def scaled(name: str, normal: Tensor, codes: Tensor, provenance: Mapping[str, Any]) -> Direction:
    """The direction of ``normal`` (N, D), as long as the standard deviation of ``codes`` (M, N, D) along it."""
    unit = normal.double() / normal.double().norm()
    deviation = (codes.flatten(1).double() @ unit.flatten()).std()
    found = {**provenance, "count": len(codes), "standard_deviation": float(f"{deviation:.6g}")}
    return Direction(name, (unit * deviation).float(), found)


@dataclass(frozen=True)
class Boundary:
    """A hyperplane between codes of low and of high score.

    Attributes
    ----------
    normal : Tensor
        (N, D), of length 1, float32; towards the high scores.
    chosen : int
        Codes of the highest scores, and as many of the lowest, that were chosen; ``train`` of them fitted it.
    training, validation : float
        Accuracy on the chosen codes that fitted it, and on those held out.
    rest : float
        Accuracy on all codes that were not chosen, of which a high score is one above their median: near 0.5 is
        chance. None when all were chosen.
    correlation : float
        Of position along the normal and score (Pearson), on all codes that did not fit it.
    """

    normal: Tensor
    chosen: int
    training: float
    validation: float
    rest: float | None
    correlation: float

    def accuracies(self) -> dict[str, Any]:
        """For a provenance: everything but the normal, rounded to four digits."""
        return {
            "chosen_at_each_end": self.chosen,
            "training_accuracy": round(self.training, 4),
            "held_out_accuracy": round(self.validation, 4),
            "accuracy_on_the_rest": None if self.rest is None else round(self.rest, 4),
            "held_out_correlation": round(self.correlation, 4),
        }


def interfacegan(
    codes: Tensor,
    scores: NDArray[np.float64],
    *,
    fraction: float = 0.02,
    train: float = 0.7,
    cost: float = 1.0,
    seed: int = 0,
) -> Boundary:
    """The normal of a linear SVM between the codes of highest and of lowest score.

    Shen et al., "Interpreting the Latent Space of GANs for Semantic Face Editing", CVPR 2020, section 3. W+ codes are
    flattened. The official code's choice of codes is the default; it calls the middle of the extreme scores the
    boundary of its third accuracy, where this takes the median, so that chance is one half whatever the scores.

    Parameters
    ----------
    codes : Tensor
        (M, N, D).
    scores : array
        (M,), NaN where there is none; such codes take no part.
    fraction : float
        Of the codes at each end of the scores that are chosen, in (0, 0.5].
    train : float
        Share of the chosen that fits the SVM; the rest is held out.
    cost : float
        C of the SVM, for codes divided by their mean distance from the mean code: small values average over more
        codes.
    seed : int
        Of the shares.

    Raises
    ------
    ValueError
        When fewer than four codes are at an end, or the scores do not differ.
    """
    from sklearn.svm import SVC  # takes seconds to load, and who reads directions does not need it

    if not 0 < fraction <= 0.5 or not 0 < train < 1:
        raise ValueError(f"fraction must lie in (0, 0.5] and train in (0, 1), not {fraction} and {train}")
    scores = np.asarray(scores, dtype=np.float64)
    order = np.argsort(scores, kind="stable")[: int(np.isfinite(scores).sum())]  # NaN sorts to the end
    chosen = int(len(order) * fraction)
    if chosen < 4 or scores[order[0]] == scores[order[-1]]:
        raise ValueError(f"{chosen} codes at each end of the scores are not enough, or the scores do not differ")
    flat = codes.flatten(1).double().cpu().numpy()
    flat = flat - flat[order].mean(0)
    flat /= np.linalg.norm(flat[order], axis=1).mean()

    random = np.random.default_rng(seed)
    ends = [random.permutation(end) for end in (order[:chosen], order[-chosen:])]
    share = min(max(int(chosen * train), 1), chosen - 1)
    fitted, held = (np.concatenate([end[part] for end in ends]) for part in (slice(share), slice(share, None)))
    middle = order[chosen:-chosen]

    svm = SVC(kernel="linear", C=cost).fit(flat[fitted], np.isin(fitted, ends[1]))
    normal = svm.coef_[0] / np.linalg.norm(svm.coef_)
    other = np.concatenate([held, middle])
    return Boundary(
        normal=torch.from_numpy(normal).float().view(codes.shape[1:]),
        chosen=chosen,
        training=float(svm.score(flat[fitted], np.isin(fitted, ends[1]))),
        validation=float(svm.score(flat[held], np.isin(held, ends[1]))),
        rest=float(svm.score(flat[middle], scores[middle] > np.median(scores[middle]))) if len(middle) else None,
        correlation=float(np.corrcoef(flat[other] @ normal, scores[other])[0, 1]),
    )


def conditional(normal: Tensor, others: Sequence[Tensor]) -> Tensor:
    """``normal`` (N, D) without what it shares with ``others``, of length 1: the conditional edit (InterFaceGAN, 3.3).

    One orthogonal projection removes the whole span of ``others``, so that their order does not count. (The official
    code subtracts the projections on up to two one by one, which removes them exactly only if they are orthogonal.)

    Raises
    ------
    ValueError
        When nothing is left of ``normal``.
    """
    flat: Tensor = normal.flatten().double()
    left = flat
    if others:
        span = torch.stack([other.flatten().double() / other.double().norm() for other in others], 1)
        basis, singular, _ = torch.linalg.svd(span, full_matrices=False)
        basis = basis[:, singular > 1e-6 * singular[0]]
        for _ in range(2):  # what one pass leaves of a nearly dependent normal is not yet orthogonal to rounding
            left = left - basis @ (basis.T @ left)
    if left.norm() < 1e-6 * flat.norm():
        raise ValueError("nothing is left of the normal: it lies in the span of the others")
    return _unit(left).view_as(normal)


@dataclass(frozen=True)
class Component:
    """A direction that was found without scores.

    Attributes
    ----------
    normal : Tensor
        (N, D), of length 1, float32: the same in every row of the range that it is for, and zero elsewhere.
    share : float
        Of the codes' variance (GANSpace), or of the sum of eigenvalues (SeFa).
    """

    normal: Tensor
    share: float


def ganspace(codes: Tensor, num_codes: int, count: int, rows: Sequence[int] | None = None) -> list[Component]:
    """The ``count`` leading principal components of codes (M, D) from W, for the rows of ``rows`` (default: all).

    Härkönen et al., "GANSpace: Discovering Interpretable GAN Controls", NeurIPS 2020, section 2.2 and 2.3: components
    are computed in W, and an edit applies one to a range of layers. The sign is such that the largest entry is
    positive.
    """
    centred = (codes - codes.mean(0)).double()
    _, singular, components = torch.linalg.svd(centred, full_matrices=False)
    shares = singular.square() / singular.square().sum()
    return [
        Component(_in_rows(component, num_codes, rows), float(share))
        for component, share in zip(components[:count], shares, strict=False)
    ]


def sefa(
    generator: StyleGenerator, count: int, rows: Sequence[int] | None = None, *, equal_channels: bool = False
) -> list[Component]:
    """The ``count`` directions that change the styles of the rows' layers most: eigenvectors of A^T A.

    Shen and Zhou, "Closed-Form Factorization of Latent Semantics in GANs", CVPR 2021, Eq. (5) to (7). A (S, D) are the
    weights of all affine maps from a code of these rows to styles.

    Parameters
    ----------
    generator : StyleGenerator
        Of any family.
    count : int
        Up to D.
    rows : sequence of int, optional
        Of the codes that an edit moves, counted from 0; default all.
    equal_channels : bool
        Bring each row of A to length 1 first, as the official code does; the paper does not.
    """
    wanted = range(generator.num_codes) if rows is None else rows
    affines = style_affines(generator)
    weights = torch.cat([weight.double() for row in wanted for weight in affines[row]])
    if equal_channels:
        weights = weights / weights.norm(dim=1, keepdim=True).clamp_min(1e-12)
    values, vectors = torch.linalg.eigh(weights.T @ weights)
    return [
        Component(_in_rows(vectors[:, -k], generator.num_codes, rows).cpu(), float(values[-k] / values.sum()))
        for k in range(1, count + 1)
    ]


def _in_rows(component: Tensor, num_codes: int, rows: Sequence[int] | None) -> Tensor:
    component = component * component[component.abs().argmax()].sign()
    normal = component.new_zeros(num_codes, len(component))
    normal[list(range(num_codes) if rows is None else rows)] = component
    return _unit(normal)


def _unit(vector: Tensor) -> Tensor:
    """Of length 1, in single precision."""
    unit: Tensor = vector / vector.norm()
    return unit.float()


@torch.no_grad()
def style_affines(generator: StyleGenerator) -> list[list[Tensor]]:
    """For each row of the codes, the weights (C, D) of the affine maps that read it, as they act.

    Found by watching one synthesis: which layers of :data:`AFFINES` are given which row. So every family is served, the
    factors of the equalised learning rate are in, and a layer that reads another's row (an upsampling, an RGB output)
    is where it belongs.
    """
    network = cast(nn.Module, generator)
    reference = generator.mean_code
    random = torch.Generator().manual_seed(0)
    codes = torch.randn(1, generator.num_codes, generator.code_dim, generator=random).to(reference)
    readers: list[list[nn.Module]] = [[] for _ in range(generator.num_codes)]

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        for row, code in enumerate(codes[0]):
            if inputs[0].shape == (1, len(code)) and torch.equal(inputs[0][0], code) and module not in readers[row]:
                readers[row].append(module)

    hooks = [each.register_forward_pre_hook(note) for each in network.modules() if isinstance(each, AFFINES)]
    try:
        generator.synthesize(codes)
    finally:
        for hook in hooks:
            hook.remove()
    unread = [row for row, modules in enumerate(readers) if not modules]
    if unread:
        raise ValueError(f"no known affine layer of {type(generator).__name__} reads the codes {unread}; see AFFINES")
    basis = torch.eye(generator.code_dim).to(reference)
    return [[_linear_part(module, basis) for module in modules] for modules in readers]


def _linear_part(module: nn.Module, basis: Tensor) -> Tensor:
    """A (C, D) of a layer x -> A x + b."""
    offset = module(torch.zeros_like(basis[:1])).flatten(1)
    linear: Tensor = (module(basis).flatten(1) - offset).T
    return linear
