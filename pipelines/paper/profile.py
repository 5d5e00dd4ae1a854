"""The paper profile: official generators, checkpoints and metrics, behind the interface of the embedded one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import nn

from baselines.cars import PaddedInverter
from baselines.official_methods import OFFICIAL, on_device
from eval.metrics.clip_suite import ClipSuite
from eval.metrics.distribution import FEWEST_PICTURES, ReferenceSet
from eval.metrics.paper_suite import REDUCED, paper_suite
from eval.metrics.reference_set import SetFeatures
from eval.metrics.suite import Suite
from eval.profile import Profile
from eval.set_table import REHEARSAL
from fse.checkpoints.network_file import read_network
from fse.encoder import FeatureStyleEncoder
from fse.generators.families import read_generator
from fse.generators.style_generator import StyleGenerator
from fse.inversion import InversionMethod
from fse.inverter import FeatureStyleInverter, codes_alone, side_for
from fse.pictures import open_picture, tensor_from_image
from fse.refusal import Refusal
from pipelines.paper.absence import reason_of
from pipelines.paper.domains import TRAINED, Domain, assets_of
from pipelines.paper.domains import domain as domain_named
from pipelines.paper.surveyed import FOLDER, Surveyed

REFERENCE = "features.npz"
"""In the folder of a set that FID is taken to."""


@dataclass(frozen=True)
class PaperProfile(Profile):
    """Of one domain.

    Attributes
    ----------
    domain_name : str
        Of :data:`pipelines.paper.domains.DOMAINS`.
    surveyed : Surveyed
        Where the official files are.
    fewest : int
        Of pictures that FID and KID are stated for.
    """

    domain_name: str = "faces"
    surveyed: Surveyed = field(default_factory=lambda: Surveyed({}))
    fewest: int = FEWEST_PICTURES

    @classmethod
    def of(
        cls,
        domain: str,
        assets: Path,
        device: torch.device,
        surveyed: Surveyed | None = None,
        fewest: int = FEWEST_PICTURES,
    ) -> PaperProfile:
        """As the survey found it."""
        found = surveyed or Surveyed.read()
        return cls(
            assets=assets,
            resolution=domain_named(domain).measured[1],
            device=device,
            name=REHEARSAL if found.rehearsal else "paper",
            domain_name=domain,
            surveyed=found,
            fewest=fewest,
        )

    @property
    def domain(self) -> Domain:
        return domain_named(self.domain_name)

    @property
    def measured(self) -> tuple[int, int]:
        """The native size; metrics that the official scripts take at another reduce the pictures themselves."""
        return self.domain.size

    @property
    def inputs(self) -> dict[str, Path]:
        """The survey holds the digests of every official file."""
        return {"official": FOLDER, "trained": self.weights}

    @property
    def trained(self) -> Path:
        """The encoder that is trained here, of this domain."""
        return trained_encoder(self.weights, self.domain_name)

    def read(self, path: Path) -> torch.Tensor:
        """A source as the methods take it: (3, H, W) in [-1, 1] at the size that the domain's pictures have."""
        picture = tensor_from_image(open_picture(path))
        if tuple(picture.shape[1:]) != self.domain.size:
            height, width = picture.shape[1:]
            wanted = " x ".join(map(str, self.domain.size))
            raise Refusal(f"{path} is {height} x {width} pixels high and wide, not {wanted}; run `dvc repro data`")
        return picture

    def generator(self, resolution: int | None = None, feature_layer: int = 5) -> StyleGenerator:  # type: ignore[override]
        """The official generator that FSE is trained for; it has one resolution."""
        found = read_generator(self.surveyed.path(self.domain.generator), feature_layer)
        cast(nn.Module, found).to(self.device)
        return found

    def method(self, name: str, generator: StyleGenerator | None = None) -> InversionMethod:
        """A row: its official files, or the encoder that was trained here."""
        if name not in TRAINED:
            if name not in OFFICIAL.get(self.domain_name, {}):
                raise Refusal(why_absent(self.surveyed, self.domain_name, name))
            return OFFICIAL[self.domain_name][name].load(self.surveyed.path, self.device)
        if not self.trained.is_file():
            raise Refusal(f"there is no trained encoder {self.trained}; run `dvc repro train@{self.domain_name}`")
        encoder = read_network(self.trained, FeatureStyleEncoder)
        synthesis = read_generator(self.surveyed.path(self.domain.generator), encoder.size.feature_layer)
        method = FeatureStyleInverter(encoder, synthesis, side_for(encoder, synthesis))
        chosen = on_device(method if name == "fse_trained" else codes_alone(method), self.device)
        return chosen if self.domain.size[0] == self.domain.size[1] else PaddedInverter(chosen)

    def weights_of(self, method: str) -> list[Path]:
        """The official files, or the trained encoder and the generator, that decide what a method makes."""
        own = [self.trained] if method in TRAINED else []
        return own + [path for asset in assets_of(self.domain_name, method) for path in self.surveyed.files(asset)]

    def suite(self, mean_descriptor: Path) -> Suite:
        """The paper's metrics, as far as their official files are here (:meth:`absent_columns`)."""
        return self._suite()[0]

    def absent_columns(self) -> dict[str, str]:
        """Metric in print -> why it cannot be computed."""
        return self._suite()[1]

    def absent_frame_columns(self) -> dict[str, str]:
        """The same of clips' frames."""
        return self._suite(distributions=False)[1]

    def _suite(self, distributions: bool = True) -> tuple[Suite, dict[str, str]]:
        domain, missing = self.domain, dict[str, str]()
        references: dict[str, list[ReferenceSet]] = {"": [], REDUCED: []}
        for name in (pictures.set for pictures in domain.references if distributions):
            folder = reference_folder(name)
            if (reason := reason_of(folder)) is not None:
                missing[f"FID to {name}"] = reason
                continue
            known = SetFeatures.read(folder / REFERENCE)
            for suffix, found in references.items():
                found.append(known.reference(name, suffix))
        suite, absent = paper_suite(
            self.surveyed.path,
            self.device,
            faces=domain.faces,
            distributions=distributions,
            size=domain.measured,
            references=references,
            fewest=self.fewest,
            cache=Path("data/features"),
        )
        return suite, {**absent, **missing}

    def clip_suite(self, mean_descriptor: Path) -> ClipSuite:
        """The paper's metrics of frames, and those of stability on the landmarks and descriptors of dlib."""
        return ClipSuite(self._suite(distributions=False)[0], super().clip_suite(mean_descriptor).metrics)


def reference_folder(name: str) -> Path:
    """Of a set that FID is taken to: its features, or ``absent.json`` with the reason why there are none."""
    return Path("data/reference", name)


def trained_encoder(weights: Path, domain: str) -> Path:
    """Where the encoder that is trained for a domain lies; without its assets there is ``absent.json`` beside it."""
    return weights / domain / "fse.safetensors"


def why_absent(surveyed: Surveyed, domain: str, row: str) -> str:
    """Why a row of official weights cannot be measured: which of its files is missing, or never was there."""
    reasons = [surveyed.assets[asset]["reason"] for asset in assets_of(domain, row)]
    return "; ".join(reason for reason in reasons if reason)
