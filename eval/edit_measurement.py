"""Measuring edits: how far an attribute moves, what is kept, and whether a method finds its own edit again.

Every method inverts the same few test pictures, edits each in its own way along the directions found on its own codes
(:func:`eval.contest.directions_of`), at several strengths. Of each edit is measured, against the method's own
reconstruction and not against the source, so that the edit alone counts:

- the change of every attribute (:mod:`eval.attributes`), in standard deviations over thousands of renders;
- identity kept, the centred dlib cosine; an edit in which no face is found any more keeps none, 0;
- ST-LPIPS outside the region that the attribute lies in, which the landmarks of the source fix for all methods: the
  edit is put outside that region and the reconstruction inside it, and the distance is divided by the outside's share.

The latent editing consistency is that of Tov et al. 2021 (e4e, section 5.2): invert, edit, invert the edit, edit back;
``|w - (E(G(w + s d)) - s d)|^2``. With s = 0 it is what inverting twice costs, edit or no edit.

Four files are written, ``edits.csv``, ``edit_consistency.csv``, ``mixing.csv`` and ``edits.json``, and pictures for the
figures. A run that was stopped goes on with the next method and direction.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from torch import Tensor
from torch.nn.functional import interpolate

from eval.attributes import ATTRIBUTES, AttributeMeter, Measured, region
from eval.contest import METHODS, Places, directions_of
from eval.metrics.identity import Descriptor, FaceDescriptor, MeanDescriptor, centred_cosine
from eval.processes import share_out
from eval.profile import Profile
from eval.provenance import code_sha256
from fse.alignment import FaceAligner
from fse.directions import Direction, read_directions
from fse.editing import change_mask, move_codes
from fse.generators.style_generator import StyleGenerator
from fse.inversion import Inversion, InversionMethod, joined, rows
from fse.inverter import CodeEncoder, FeatureStyleInverter
from fse.losses import reduce
from fse.mixing import mixed
from fse.perceptual import STLPIPS
from fse.pictures import image_from_tensor, list_pictures, write_picture
from fse.refusal import Refusal

MASKED = "fse_masked"
"""FSE with the masked Eq. (1): no method of Table 1, as its reconstruction is FSE's."""

MEAN_DESCRIPTOR = "mean_descriptor.json"
LOOKS = ("attributes.py", "edit_measurement.py", "metrics/identity.py")
"""Modules of this package that decide what is measured."""

EDITS, CONSISTENCY, MIXING = "edits", "edit_consistency", "mixing"
SOURCE = "source"


@dataclass(frozen=True)
class EditSettings:
    """What is edited, and how far.

    Attributes
    ----------
    pictures : mapping
        SET -> how many of its pictures, the first by name.
    directions : sequence of str
        Names in the files of directions: ``ATTRIBUTE``, or with ``_conditional``, ``_own`` behind it.
    strengths : sequence of float
        In standard deviations of the method's codes; of both signs, without 0.
    change : float
        Standard deviations of the attribute at which methods are compared.
    consistency_strength : float
        Of the latent editing consistency.
    shown : int
        Pictures of each set whose edits are kept for the figures, the first by name.
    pairs : int
        Pairs of pictures whose styles are mixed.
    left_out : sequence of str
        Methods that take too long.
    batch : int
        Pictures that go through a network together.
    shown_strength : float
        At which Figure 7 shows edits; a positive one of ``strengths``, whose edits are all kept.
    """

    pictures: Mapping[str, int]
    directions: Sequence[str]
    strengths: Sequence[float]
    change: float
    consistency_strength: float
    shown: int
    pairs: int
    left_out: Sequence[str]
    batch: int
    shown_strength: float = 1.5

    def __post_init__(self) -> None:
        """Raise Refusal where Figure 7 is to show what is not edited."""
        if self.shown_strength <= 0 or self.shown_strength not in self.strengths:
            raise Refusal(
                f"editing.shown_strength is {self.shown_strength:g}: take a positive one of editing.strengths, which "
                f"are {', '.join(f'{strength:g}' for strength in self.strengths)}, in params.yaml"
            )


@dataclass(frozen=True)
class Sources:
    """The test pictures, in the order of the sets.

    Attributes
    ----------
    names, sets : sequence of str
        Of each picture.
    pictures : Tensor
        (B, 3, R, R) in [-1, 1].
    measured : sequence of Measured
        Attributes and landmarks of each.
    shown : frozenset of str
        Names of those whose edits are kept.
    digest : str
        Hash of their files.
    """

    names: Sequence[str]
    sets: Sequence[str]
    pictures: Tensor
    measured: Sequence[Measured]
    shown: frozenset[str]
    digest: str


class EditMeter:
    """The networks that look at edits."""

    def __init__(self, places: Places, profile: Profile) -> None:
        models = profile.assets / "dlib"
        self.attributes = AttributeMeter(FaceAligner(models / "shape_predictor_68_face_landmarks.dat"))
        self.describe = FaceDescriptor(models)
        self.mean = MeanDescriptor.read(places.test / MEAN_DESCRIPTOR).values
        self.perceptual: STLPIPS = profile.perceptual()
        self.side = profile.resolution

    def seen(self, pictures: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, 3, R, R) in [-1, 1], at the side that everything is measured at."""
        return reduce(pictures.float(), self.side).clamp(-1, 1)

    def faces(self, pictures: Tensor) -> list[Measured]:
        return [self.attributes(image_from_tensor(picture)) for picture in pictures]

    def identity(self, before: Descriptor | None, after: Descriptor | None) -> float:
        """NaN where there was no face to keep, 0 where it is lost."""
        if before is None:
            return math.nan
        return 0.0 if after is None else centred_cosine(before, after, self.mean)


def available(profile: Profile, left_out: Sequence[str] = ()) -> list[str]:
    """Methods of the contest whose trained weights are there, in its order, and the masked form after FSE."""
    found = [method for method in METHODS if method not in left_out and profile.has_weights(method)]
    return [*found, MASKED] if "fse" in found else found


def load(method: str, profile: Profile, generator: StyleGenerator) -> InversionMethod:
    """A method of the contest, or FSE with the masked Eq. (1)."""
    if method != MASKED:
        return profile.method(method, generator)
    plain = cast(FeatureStyleInverter, profile.method(trained_as(method), generator))
    return FeatureStyleInverter(plain.encoder, plain.generator, plain.side, change_mask)


def edit_directions(
    method: str, places: Places, wanted: Sequence[str], generator: StyleGenerator | None = None
) -> list[Direction]:
    """The directions ``wanted`` of a method, out of the file of its codes."""
    path = directions_file(method, places)
    known = read_directions(path, generator)
    for name in wanted:
        if name not in known or attribute_of(name) not in ATTRIBUTES:
            raise Refusal(f"{path} has no direction {name!r} of an attribute; choose of {', '.join(known)}")
    return [known[name] for name in wanted]


def directions_file(method: str, places: Places) -> Path:
    """Of a method, or of the masked form."""
    there = {path.stem for path in places.directions.glob("*.safetensors")}
    return places.directions / f"{directions_of(trained_as(method), there)}.safetensors"


def attribute_of(direction: str) -> str:
    """The attribute that a direction is meant to move."""
    return direction.removesuffix("_own").removesuffix("_conditional")


def edit_folder(direction: str, strength: float) -> str:
    """Where in a method's folder the edits of shown pictures are kept; there are those of positive strength."""
    return f"{direction}/{strength:g}"


def deviations(path: Path) -> dict[str, float]:
    """ATTRIBUTE -> its standard deviation over the pictures that the directions of a file were found on.

    Each direction tells that of its own attribute, or all of them that of all.
    """
    known = read_directions(path)
    try:
        if all("attributes_standard_deviations" in each.provenance for each in known.values()):
            every = next(iter(known.values())).provenance["attributes_standard_deviations"]
            return {key: float(every[key]) for key in ATTRIBUTES}
        return {key: float(known[key].provenance["attribute_standard_deviation"]) for key in ATTRIBUTES}
    except (KeyError, TypeError, ValueError) as error:
        raise Refusal(
            f"{path} does not say how far {error} varies; make it with `python -m pipelines.directions`"
        ) from error


def read_sources(places: Places, profile: Profile, meter: EditMeter, settings: EditSettings) -> Sources:
    """The first pictures of each set by name."""
    names, sets, pictures, shown, digest = [], [], [], set[str](), hashlib.sha256()
    for name, count in settings.pictures.items():
        for place, path in enumerate(list_pictures(places.test / name)[:count]):
            names.append(path.stem)
            sets.append(name)
            pictures.append(profile.read(path))
            digest.update(path.read_bytes())
            if place < settings.shown:
                shown.add(path.stem)
    if len(set(names)) < len(names):
        raise Refusal(f"two of the test sets {', '.join(settings.pictures)} have a picture of one name; rename it")
    batch = torch.stack(pictures).to(profile.device)
    return Sources(names, sets, batch, meter.faces(meter.seen(batch)), frozenset(shown), digest.hexdigest())


def evaluate(
    places: Places,
    profile: Profile,
    settings: EditSettings,
    *,
    methods: Sequence[str] | None = None,
    pictures: Path = Path("data/edits"),
    processes: int = 1,
) -> None:
    """Measure, and write the files under ``places.measurements`` and the shown pictures under ``pictures``.

    ``methods`` None takes every method whose weights are there, but those that the settings leave out. Several
    processes take a method each in turn, and measure the same.
    """
    methods = list(methods or available(profile, settings.left_out))
    measured = partial(_measured, places=places, profile=profile, settings=settings, pictures=pictures)
    if processes > 1 and len(methods) > 1:  # into the kept work, where all is found below
        share_out(
            partial(_measure_one, measured=measured),
            methods,
            processes=processes,
            progress="editing",
        )
    found, sources = measured(methods)
    write(found, methods, sources, settings, places)
    _kept(places).remove()


def _measure_one(method: str, measured: Callable[..., Any]) -> None:
    measured([method], silent=True)


def _kept(places: Places) -> Kept:
    return Kept(places.measurements / ".parts" / EDITS)


def _measured(
    methods: Sequence[str],
    *,
    places: Places,
    profile: Profile,
    settings: EditSettings,
    pictures: Path,
    silent: bool = False,
) -> tuple[dict[str, list[dict[str, Any]]], Sources]:
    """Rows of each table, out of the kept work or measured into it."""
    meter, generator = EditMeter(places, profile), profile.generator()
    sources = read_sources(places, profile, meter, settings)
    kept = _kept(places)
    found: dict[str, list[dict[str, Any]]] = {EDITS: [], CONSISTENCY: [], MIXING: []}
    for name, picture in zip(sources.names, sources.pictures, strict=True):
        if name in sources.shown:
            write_picture(picture, pictures / SOURCE / f"{name}.png")
    with Progress(console=Console(stderr=True), disable=silent) as bar:
        task = bar.add_task("editing", total=len(methods) * len(settings.directions) + 1)
        for method in methods:
            directions = edit_directions(method, places, settings.directions, generator)
            basis = _basis(method, profile, sources, settings, places)
            editing = Editing(method, profile, generator, meter, sources, settings, pictures / method)
            for direction in directions:
                bar.update(task, description=f"{method}: {direction.name}")
                vector = hashlib.sha256(direction.vector.numpy().tobytes()).hexdigest()
                units = deviations(directions_file(method, places))
                key = f"{basis} {direction.name} {vector} {units}"
                part = kept.get(key, partial(editing.measure, direction, units))
                for table, values in part.items():
                    found[table] += values
                bar.advance(task)
        if "fse" in methods:
            bar.update(task, description="style mixing")
            key = f"{_basis('fse', profile, sources, settings, places)} {settings.pairs} mixing"
            found[MIXING] = kept.get(key, lambda: mix(profile, generator, meter, sources, settings, pictures / MIXING))[
                MIXING
            ]
        bar.advance(task)
    return found, sources


def _basis(method: str, profile: Profile, sources: Sources, settings: EditSettings, places: Places) -> str:
    """All that the edits by a method depend on, but the direction."""
    files = [
        *profile.weights_of(trained_as(method)),
        places.test / MEAN_DESCRIPTOR,
        *(Path(__file__).parent / name for name in LOOKS),
    ]
    content = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    asked = json.dumps([settings.strengths, settings.consistency_strength, sorted(sources.shown)], default=list)
    where = f"{profile.resolution} {profile.device} {code_sha256(packages=('baselines', 'fse'))}"
    return " ".join([method, *content, sources.digest, asked, where])


def trained_as(method: str) -> str:
    """The masked form of Eq. (1) has FSE's weights and directions."""
    return "fse" if method == MASKED else method


class Kept:
    """What an interrupted run has measured so far, a file a method and direction, named by all that it depends on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str, make: Callable[[], dict[str, list[dict[str, Any]]]]) -> dict[str, list[dict[str, Any]]]:
        path = self.folder / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
        try:
            found: dict[str, list[dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not there, or cut short: measuring again is always right
            found = make()
            self.folder.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(found), encoding="utf-8")
            unfinished.replace(path)
        return found

    def remove(self) -> None:
        for path in self.folder.glob("*.json"):
            path.unlink()
        if self.folder.is_dir():
            self.folder.rmdir()


class Editing:
    """One method's edits of the sources. The inversion waits until it is asked for."""

    def __init__(
        self,
        name: str,
        profile: Profile,
        generator: StyleGenerator,
        meter: EditMeter,
        sources: Sources,
        settings: EditSettings,
        pictures: Path,
    ) -> None:
        self.name, self.meter, self.sources, self.settings, self.folder = name, meter, sources, settings, pictures
        self._load: Callable[[], InversionMethod] = partial(load, name, profile, generator)
        self._inverted: Inverted | None = None

    def measure(self, direction: Direction, units: Mapping[str, float]) -> dict[str, list[dict[str, Any]]]:
        """Rows of ``edits.csv`` and ``edit_consistency.csv``."""
        if self._inverted is None:
            self._inverted = Inverted.of(self._load(), self.sources, self.meter, self.settings.batch)
            self._keep(self._inverted.inversion.picture, "inversion")
        edits, consistency = [], []
        to_invert: Tensor | None = None
        for strength in self.settings.strengths:
            edited = self._edited(self._inverted, direction, strength)
            edits += self._compared(self._inverted, edited, direction, strength, units)
            if strength == self.settings.consistency_strength:
                to_invert = edited
            if strength > 0:
                self._keep(edited, edit_folder(direction.name, strength))
        if self.name == MASKED:
            masks = used_masks(self._inverted, direction, max(self.settings.strengths), self.settings.batch)
            self._keep(masks, f"mask/{direction.name}")
        strength = self.settings.consistency_strength
        if to_invert is None:
            to_invert = self._edited(self._inverted, direction, strength)
        again = self._inverted.codes(to_invert, self.settings.batch)
        move = strength * direction.vector.to(again)
        errors = (self._inverted.inversion.codes - (again - move)).square().sum((1, 2)).tolist()
        for place, (error, control) in enumerate(zip(errors, self._inverted.twice, strict=True)):
            consistency.append(self._row(place, direction) | {"lec": error, "lec_without_edit": control})
        return {EDITS: edits, CONSISTENCY: consistency}

    def _edited(self, inverted: Inverted, direction: Direction, strength: float) -> Tensor:
        parts = inverted.parts(self.settings.batch)
        return torch.cat([self.meter.seen(inverted.method.edit(part, direction.vector, strength)) for part in parts])

    def _compared(
        self, inverted: Inverted, edited: Tensor, direction: Direction, strength: float, units: Mapping[str, float]
    ) -> list[dict[str, Any]]:
        faces, descriptors = self.meter.faces(edited), self.meter.describe(edited)
        attribute = attribute_of(direction.name)
        outside = distance_outside(
            self.meter.perceptual,
            self.meter.seen(inverted.inversion.picture),
            edited,
            [
                None
                if each.landmarks is None
                else region(ATTRIBUTES[attribute].where, each.landmarks, (edited.shape[2], edited.shape[3]))
                for each in self.sources.measured
            ],
            self.settings.batch,
        )
        sizes = feature_sizes(inverted, direction, strength, self.settings.batch)
        found = []
        for place, face in enumerate(faces):
            before = inverted.faces[place]
            reasons = [
                f"{what}: {measured.reason}"
                for what, measured in (("source", self.sources.measured[place]), ("inversion", before), ("edit", face))
                if measured.reason
            ]
            row = self._row(place, direction) | {"strength": strength}
            row |= {key: (face.values[key] - before.values[key]) / units[key] for key in ATTRIBUTES}
            row["id"] = self.meter.identity(inverted.descriptors[place], descriptors[place])
            row |= {"outside": outside[place], **{key: values[place] for key, values in sizes.items()}}
            found.append(row | {"status": "; ".join(reasons) or "ok"})
        return found

    def _row(self, place: int, direction: Direction) -> dict[str, Any]:
        return {
            "set": self.sources.sets[place],
            "picture": self.sources.names[place],
            "method": self.name,
            "direction": direction.name,
        }

    def _keep(self, pictures: Tensor, what: str) -> None:
        for name, picture in zip(self.sources.names, pictures, strict=True):
            if name in self.sources.shown:
                write_picture(picture, self.folder / what / f"{name}.png")


@dataclass(frozen=True)
class Inverted:
    """The sources as a method found them, measured.

    Attributes
    ----------
    faces, descriptors
        Of the reconstructions.
    twice : list of float
        Squared distance of each picture's codes from those of its reconstruction.
    """

    method: InversionMethod
    inversion: Inversion
    faces: Sequence[Measured]
    descriptors: Sequence[Descriptor | None]
    twice: Sequence[float]

    @classmethod
    def of(cls, method: InversionMethod, sources: Sources, meter: EditMeter, batch: int) -> Inverted:
        inversion = joined([method.invert(part) for part in sources.pictures.split(batch)])
        shown = meter.seen(inversion.picture)
        found = cls(method, inversion, meter.faces(shown), meter.describe(shown), ())
        return replace(found, twice=(inversion.codes - found.codes(shown, batch)).square().sum((1, 2)).tolist())

    def parts(self, batch: int) -> Iterator[Inversion]:
        for start in range(0, len(self.inversion.codes), batch):
            yield rows(self.inversion, slice(start, start + batch))

    def codes(self, pictures: Tensor, batch: int) -> Tensor:
        """Of other pictures (B, 3, R, R); without rendering them where the method can."""
        read = self.method.codes if isinstance(self.method, CodeEncoder) else lambda x: self.method.invert(x).codes
        return torch.cat([read(part) for part in pictures.split(batch)])


@torch.no_grad()
def distance_outside(
    perceptual: STLPIPS,
    before: Tensor,
    after: Tensor,
    regions: Sequence[NDArray[np.float32] | None],
    batch: int,
) -> list[float]:
    """ST-LPIPS of (B, 3, R, R) and (B, 3, R, R) outside each one's region (R, R); NaN without one, or outside."""
    masks = torch.stack([torch.ones(before.shape[2:]) if mask is None else torch.from_numpy(mask) for mask in regions])
    masks = masks[:, None].to(before)
    share = (1 - masks).mean((1, 2, 3))
    composed = before * masks + after * (1 - masks)
    pairs = zip(before.split(batch), composed.split(batch), strict=True)
    distances = torch.cat([perceptual(x, y) for x, y in pairs]) / share
    return [
        math.nan if mask is None or part < 0.01 else distance
        for distance, mask, part in zip(distances.tolist(), regions, share.tolist(), strict=True)
    ]


@torch.no_grad()
def feature_sizes(inverted: Inverted, direction: Direction, strength: float, batch: int) -> dict[str, list[float]]:
    """For methods that edit by Eq. (1), how much it asks of the feature tensor; nothing for others.

    ``feature_change`` is the norm of G(edited w^{1:K}) - G(w^{1:K}), ``feature_gap`` that of F - G(w^{1:K}), both over
    that of G(w^{1:K}).
    """
    if not isinstance(inverted.method, FeatureStyleInverter):
        return {}
    generator = inverted.method.generator
    change, gap = [], []
    for part in inverted.parts(batch):
        assert part.feature is not None
        before = generator.feature(part.codes)
        after = generator.feature(move_codes(part.codes, direction.vector, strength))
        size = before.flatten(1).norm(dim=1)
        change += ((after - before).flatten(1).norm(dim=1) / size).tolist()
        gap += ((part.feature - before).flatten(1).norm(dim=1) / size).tolist()
    return {"feature_change": change, "feature_gap": gap}


@torch.no_grad()
def used_masks(inverted: Inverted, direction: Direction, strength: float, batch: int) -> Tensor:
    """M of the masked Eq. (1) as pictures (B, 3, R, R) from black, 0, to white."""
    generator, found = cast(FeatureStyleInverter, inverted.method).generator, []
    for part in inverted.parts(batch):
        before, after = (
            generator.feature(codes) for codes in (part.codes, move_codes(part.codes, direction.vector, strength))
        )
        assert part.feature is not None
        masks = change_mask(part.feature, before, after)
        found.append(interpolate(masks, size=part.picture.shape[2:], mode="nearest").expand_as(part.picture) * 2 - 1)
    return torch.cat(found)


@torch.no_grad()
def mix(
    profile: Profile,
    generator: StyleGenerator,
    meter: EditMeter,
    sources: Sources,
    settings: EditSettings,
    folder: Path,
) -> dict[str, list[dict[str, Any]]]:
    """Rows of ``mixing.csv``: G(F_A, w_B) of pairs of pictures, with the attributes of both and of the mixture.

    Pairs are (i, i + k) in the order of the sources, around its end, and back, for k = 1, 2, ..., as many as are asked
    for.
    """
    method = cast(FeatureStyleInverter, load("fse", profile, generator))
    inverted = Inverted.of(method, sources, meter, settings.batch)
    count = len(sources.names)
    couples = [(i, (i + k) % count) for k in range(1, count) for i in range(count)]
    pairs = list(dict.fromkeys(pair for a, b in couples for pair in ((a, b), (b, a))))[: settings.pairs]
    found = []
    for start in range(0, len(pairs), settings.batch):
        part = pairs[start : start + settings.batch]
        structure, style = (joined([rows(inverted.inversion, slice(i, i + 1)) for i in each]) for each in zip(*part))  # noqa: B905
        pictures = meter.seen(mixed(method.generator, structure, style))
        for (a, b), picture, face, descriptor in zip(
            part, pictures, meter.faces(pictures), meter.describe(pictures), strict=True
        ):
            row: dict[str, Any] = {"structure": sources.names[a], "style": sources.names[b]}
            for key in ATTRIBUTES:
                row[key] = face.values[key]
                row[f"{key}_structure"] = inverted.faces[a].values[key]
                row[f"{key}_style"] = inverted.faces[b].values[key]
            row["id_structure"] = meter.identity(inverted.descriptors[a], descriptor)
            row["id_style"] = meter.identity(inverted.descriptors[b], descriptor)
            found.append(row)
            # The paper's figure has the neighbours, both ways.
            if abs(a - b) == 1:
                write_picture(picture, folder / f"{sources.names[a]}+{sources.names[b]}.png")
    return {MIXING: found}


def write(
    found: Mapping[str, list[dict[str, Any]]],
    methods: Sequence[str],
    sources: Sources,
    settings: EditSettings,
    places: Places,
) -> None:
    """The tables as CSV, and what they are of as ``edits.json``."""
    places.measurements.mkdir(parents=True, exist_ok=True)
    for name, values in found.items():
        table = pd.DataFrame(values)
        table.to_csv(places.measurements / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n")
    told = {
        "settings": asdict(settings),
        "methods": list(methods),
        "codes": {
            method: {
                each.name: str(each.provenance.get("codes", "an unknown source"))
                for each in edit_directions(method, places, settings.directions)
            }
            for method in methods
        },
        "pictures": [f"{name}/{picture}" for name, picture in zip(sources.sets, sources.names, strict=True)],
        "shown": sorted(sources.shown, key=list(sources.names).index),
    }
    text = json.dumps(told, indent=1, sort_keys=True)
    (places.measurements / f"{EDITS}.json").write_text(text + "\n", encoding="utf-8")


def read(places: Places) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """What :func:`evaluate` wrote: what it is of, and the tables by name."""
    try:
        told = json.loads((places.measurements / f"{EDITS}.json").read_text(encoding="utf-8"))
        names = {"picture": str, "structure": str, "style": str, "method": str}
        tables = {
            name: pd.read_csv(places.measurements / f"{name}.csv", dtype=names)
            for name in (EDITS, CONSISTENCY, MIXING)
            if (places.measurements / f"{name}.csv").stat().st_size > 1
        }
        told["settings"] = EditSettings(**told["settings"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Refusal(
            f"the edits in {places.measurements} cannot be read ({error}): run `python -m eval.editing`"
        ) from error
    return told, tables
