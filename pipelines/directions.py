"""DVC stage: the directions along which every method edits, found on codes of pictures whose attributes are measured.

Fresh renders are measured (:mod:`eval.attributes`) and inverted by every encoder; an SVM finds each attribute's normal
on that method's own codes (paper, section 5.2). The generator's own codes of the same pictures give the directions of
the methods that are too slow for thousands of pictures (:func:`eval.contest.directions_of`), and of GANSpace and SeFa.
They also stand in where a method's own direction hardly moves its attribute (``directions.least_effect``): codes can
tell an attribute, and an SVM read it from them, without the generator following when they are moved along its normal.
The method's own direction is then kept as ``NAME_own``.
Pictures, attributes and codes are kept under ``runs``, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from eval.attributes import ATTRIBUTES, AttributeMeter
from eval.contest import ENCODERS, METHODS, directions_of
from eval.profile import Profile
from eval.statistics import mean_interval
from fse.alignment import FaceAligner
from fse.allocator import keep_freed_memory
from fse.directions import (
    Boundary,
    Direction,
    conditional,
    ganspace,
    interfacegan,
    scaled,
    sefa,
    write_directions,
)
from fse.generators.mobilestylegan import MobileStyleGAN
from fse.inverter import CodeEncoder
from fse.latents import sample_z
from fse.pictures import image_from_tensor
from fse.refusal import Refusal, exit_on_refusal
from fse.renders import CHUNK, Renders
from fse.training import compiled
from pipelines.parameters import Directions, read_parameters

GENERATOR = "generator"
CONDITIONAL, OWN = "_conditional", "_own"
MEASURED_BY = ("eval/attributes.py", "fse/alignment.py")
ENCODED_BY = (
    "baselines/e4e.py",
    "baselines/map_to_style.py",
    "baselines/psp.py",
    "fse/encoder.py",
    "fse/inverter.py",
    "fse/losses.py",
    "fse/trunk.py",
)


def kept(file: Path, make: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
    """What ``make`` gives, out of ``file`` where it is there; written whole or not at all."""
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part.npy")
        np.save(part, make())
        part.replace(file)
    found: NDArray[np.float32] = np.load(file)
    return found


def in_chunks(folder: Path, count: int, make: Callable[[range], NDArray[np.float32]], name: str) -> NDArray[np.float32]:
    """``make`` of 0 .. count, chunk by chunk, each kept in ``folder``."""
    chunks = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    bar = tqdm(chunks, desc=name, unit="chunk")
    return np.concatenate([kept(folder / f"{chunk[0]:06}.npy", partial(make, chunk)) for chunk in bar])


def measured(pictures: Tensor, meter: AttributeMeter) -> NDArray[np.float32]:
    """Pictures (B, 3, R, R) in [-1, 1] -> (B, attributes), NaN where one cannot be measured."""
    values = [list(meter(image_from_tensor(picture)).values.values()) for picture in pictures]
    return np.array(values, dtype=np.float32)


def fitted(
    codes: Tensor, scores: NDArray[np.float32], codes_of: str, settings: Directions
) -> tuple[list[Direction], dict[str, Any]]:
    """Two directions an attribute: InterFaceGAN's, and that without what it shares with all the others'.

    Returns
    -------
    directions : list of Direction
        ``ATTRIBUTE`` and ``ATTRIBUTE_conditional``.
    accuracies : dict
        ATTRIBUTE -> what is known of its boundary.
    """
    source = {"method": "InterFaceGAN", "codes": codes_of, "codes_seed": settings.seed, "svm_seed": settings.svm_seed}
    boundaries: dict[str, Boundary] = {}
    for column, key in enumerate(tqdm(ATTRIBUTES, desc=f"boundaries of {codes_of}")):
        boundaries[key] = interfacegan(
            codes,
            scores[:, column].astype(np.float64),
            fraction=settings.fraction,
            train=settings.train,
            cost=settings.cost,
            seed=settings.svm_seed,
        )
    directions, accuracies = [], {}
    for column, (key, found) in enumerate(boundaries.items()):
        others = [name for name in boundaries if name != key]
        without = conditional(found.normal, [boundaries[name].normal for name in others])
        accuracies[key] = found.accuracies() | {
            "cosine_to_conditional": round(float(found.normal.flatten() @ without.flatten()), 4),
            "conditional_correlation": round(_correlation(codes, without, scores[:, column]), 4),
        }
        deviation = float(f"{np.nanstd(scores[:, column].astype(np.float64)):.6g}")
        known = source | {"attribute": key, "attribute_standard_deviation": deviation} | found.accuracies()
        directions.append(scaled(key, found.normal, codes, known))
        directions.append(scaled(key + CONDITIONAL, without, codes, known | {"without": others}))
    return directions, accuracies


def working(
    own: Iterable[Direction],
    generators: Iterable[Direction],
    gains: Mapping[str, tuple[float, float]],
    least_effect: float,
) -> tuple[list[Direction], list[str]]:
    """A method's directions, the generator's in the place of those that move their attribute too little.

    Parameters
    ----------
    gains : mapping
        ATTRIBUTE -> how far a unit of strength along the method's own direction, and along the generator's, moves it.
    least_effect : float
        The former over the latter, from which on the method's own one stands.

    Returns
    -------
    directions : list of Direction
        Those replaced are kept as ``NAME_own``.
    replaced : list of str
        Attributes.
    """
    others = {each.name: each for each in generators}
    found, replaced = [], []
    for each in own:
        gain, wanted = gains[each.provenance["attribute"]]
        if gain < least_effect * wanted:
            why = {"instead_of": each.provenance["codes"], "gain": wanted, "gain_of_own": gain}
            stand_in = others[each.name]
            found.append(replace(stand_in, provenance={**stand_in.provenance, **why}))
            found.append(replace(each, name=each.name + OWN))
            replaced.append(each.provenance["attribute"])
        else:
            found.append(each)
    return found, list(dict.fromkeys(replaced))


def _correlation(codes: Tensor, normal: Tensor, scores: NDArray[np.float32]) -> float:
    there = np.isfinite(scores)
    return float(np.corrcoef((codes.flatten(1) @ normal.flatten()).numpy()[there], scores[there])[0, 1])


def unsupervised(generator: MobileStyleGAN, codes: Tensor, settings: Directions) -> list[Direction]:
    """The leading components of GANSpace and SeFa for the rows before and after K, and for all."""
    k, n = generator.feature_codes, generator.num_codes
    ranges = {"all": range(n), "early": range(k), "late": range(k, n)}
    found = []
    for place, rows in ranges.items():
        components = {
            # The first row is of W in every code, mixed or not.
            "ganspace": ganspace(codes[:, 0], n, settings.components, rows),
            "sefa": sefa(generator, settings.components, rows),
        }
        for method, each in components.items():
            for number, component in enumerate(each, 1):
                source = {
                    "method": {"ganspace": "GANSpace", "sefa": "SeFa"}[method],
                    "codes": GENERATOR,
                    "codes_seed": settings.seed,
                    "rows": [rows[0], rows[-1]],
                    "share": round(component.share, 5),
                }
                found.append(scaled(f"{method}_{place}_{number}", component.normal, codes, source))
    return found


@torch.no_grad()
def effects(
    directions: Iterable[Direction],
    generator: MobileStyleGAN,
    meter: AttributeMeter,
    deviations: NDArray[np.float64],
    settings: Directions,
    folder: Path,
) -> dict[str, dict[str, dict[str, float]]]:
    """What each direction does to pictures of the generator that no direction was found on, whosever codes it is of.

    DIRECTION -> ATTRIBUTE -> mean change for each unit of strength, in standard deviations of the attribute over the
    renders, with its 95 % interval over pictures; from the pictures at ``effect_strength`` to both sides.
    """
    z = sample_z(settings.effect_seed, settings.effect_pictures).to(generator.mean_code.device)
    codes, strength = generator.map(z), settings.effect_strength

    def changes(vector: Tensor) -> NDArray[np.float32]:
        sides = []
        for move in (-strength * vector.to(codes), strength * vector.to(codes)):
            parts = [generator.synthesize(part + move).clamp(-1, 1) for part in codes.split(settings.batch)]
            sides.append(np.concatenate([measured(part, meter) for part in parts]))
        changed: NDArray[np.float32] = (sides[1] - sides[0]) / (2 * strength)
        return changed

    found = {}
    tried = f"{settings.effect_seed} {settings.effect_pictures} {strength} {_files(MEASURED_BY)}"
    for direction in tqdm(list(directions), desc="effects", unit="direction"):
        name = _digest(direction.vector.numpy().tobytes(), tried)
        values = kept(folder / f"{name}.npy", partial(changes, direction.vector)) / deviations
        there = {key: values[np.isfinite(values[:, column]), column] for column, key in enumerate(ATTRIBUTES)}
        found[direction.name] = {
            key: {**_rounded(asdict(mean_interval(each))), "pictures": len(each)}
            for key, each in there.items()
            if len(each)
        }
    return found


def _rounded(values: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(f"{value:.4g}") for key, value in values.items()}


def strongest(effect: Mapping[str, Mapping[str, float]]) -> str:
    """The attribute that a direction moves most, in standard deviations."""
    return max(effect, key=lambda key: abs(effect[key]["mean"]))


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()[:12]


def _files(names: Iterable[str]) -> str:
    return "".join(_digest(Path(name).read_bytes()) for name in names)


@exit_on_refusal
def main() -> None:
    """Write ``directions/METHOD.safetensors`` and ``reports/directions.json``."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.directions", description=__doc__)
    parser.add_argument("--assets", type=Path, default=Path("data/assets"))
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--out", type=Path, default=Path("directions"))
    parser.add_argument("--reports", type=Path, default=Path("reports"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    settings = read_parameters().directions
    keep_freed_memory()
    profile = Profile(arguments.assets, arguments.weights)
    generator = profile.generator()
    meter = AttributeMeter(FaceAligner(profile.assets / "dlib/shape_predictor_68_face_landmarks.dat"))

    heads = _digest((arguments.weights / "picture_head.safetensors").read_bytes())
    renders = Renders(generator, settings.seed, settings.count, arguments.runs / f"renders/{heads}/seed{settings.seed}")
    renders.render(lambda items, name: tqdm(items, desc=name, unit="chunk"), compiled(generator).synthesize)

    made = arguments.runs / "directions" / f"{heads}-seed{settings.seed}-{settings.count}"
    scores = in_chunks(
        made / f"attributes-{_files(MEASURED_BY)}",
        settings.count,
        lambda places: measured(renders[places], meter),
        "measuring attributes",
    )
    deviations = np.nanstd(scores.astype(np.float64), 0)

    def codes_by(method: str) -> Tensor:
        encoder = profile.method(method, generator)
        if not isinstance(encoder, CodeEncoder):
            raise Refusal(f"{method!r} gives no codes without a picture; take it out of eval.contest.ENCODERS")
        weights = (arguments.weights / f"{method}.safetensors").read_bytes()

        def encode(places: range) -> NDArray[np.float32]:
            parts = renders[places].to(profile.device).split(settings.batch)
            return torch.cat([encoder.codes(part).cpu() for part in parts]).numpy()

        folder = made / f"{method}-{_digest(weights, _files(ENCODED_BY))}"
        return torch.from_numpy(in_chunks(folder, settings.count, encode, f"codes of {method}"))

    def tried(directions: Iterable[Direction]) -> dict[str, dict[str, dict[str, float]]]:
        return effects(directions, generator, meter, deviations, settings, made / "effects")

    own, accuracies = fitted(renders.codes, scores, GENERATOR, settings)
    own += unsupervised(generator, renders.codes, settings)
    write_directions(arguments.out / f"{GENERATOR}.safetensors", own)  # effects take a while
    moved = {GENERATOR: tried(own)}
    known = [{**each.provenance, "moves_most": strongest(moved[GENERATOR][each.name])} for each in own]
    generators = [replace(each, provenance=provenance) for each, provenance in zip(own, known, strict=True)]
    write_directions(arguments.out / f"{GENERATOR}.safetensors", generators)

    found, replaced = {GENERATOR: accuracies}, {}
    for method in ENCODERS:
        if (arguments.weights / f"{method}.safetensors").is_file():
            own, found[method] = fitted(codes_by(method), scores, method, settings)
            moved[method] = tried(each for each in own if each.name in ATTRIBUTES)
            gains = {key: (moved[method][key][key]["mean"], moved[GENERATOR][key][key]["mean"]) for key in ATTRIBUTES}
            directions, replaced[method] = working(own, generators, gains, settings.least_effect)
            write_directions(arguments.out / f"{method}.safetensors", directions)

    report = {
        "attributes": {
            key: {
                "label": attribute.label,
                "unit": attribute.unit,
                "meaning": attribute.meaning,
                "measured": int(np.isfinite(scores[:, column]).sum()),
                **_rounded({"mean": float(np.nanmean(scores[:, column])), "standard_deviation": deviations[column]}),
            }
            for column, (key, attribute) in enumerate(ATTRIBUTES.items())
        },
        "correlations": np.corrcoef(scores[np.isfinite(scores).all(1)].T).round(3).tolist(),
        "count": settings.count,
        "parameters": settings.model_dump(mode="json"),
        "accuracies": found,
        "replaced": replaced,
        "edits_along": {method: directions_of(method) for method in METHODS},
        "effects": moved,
        "moves_most": {name: strongest(effect) for name, effect in moved[GENERATOR].items()},
    }
    arguments.reports.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1, sort_keys=True, allow_nan=False)
    (arguments.reports / "directions.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
