"""All metrics of clips: those of single frames and those over time, in one pass over the frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch

from eval.metrics.clip_metric import Clip, ClipMetric, ClipOutcome
from eval.metrics.identity import Identity, MeanDescriptor
from eval.metrics.identity_stability import GlobalIdentity, LocalIdentity, LowestIdentity
from eval.metrics.landmark_jitter import AddedJitter
from eval.metrics.metric import Described, PictureMetric
from eval.metrics.perceptual import LPIPSDistance, STLPIPSDistance
from eval.metrics.perceptual_change import PerceptualChange
from eval.metrics.pixel import MSE, PSNR, SSIM
from eval.metrics.shared import SharedFaces, SharedSTLPIPS
from eval.metrics.suite import OK, Part, Suite
from eval.metrics.warping import WarpingError

SOURCE = "source"
"""Stands as a method where the source itself is measured."""


@dataclass(frozen=True)
class ClipSuite:
    """Metrics of single frames, and metrics over time.

    What :meth:`measure` gives of a clip are two parts. The first has a row a frame and method, as for pictures. The
    second has a row a clip and method, the source among them: the columns of the temporal metrics, and for each metric
    ``KEY_expected`` and ``KEY_used``, the pairs of frames that the clip has and those that have a value.
    """

    frames: Suite
    metrics: Sequence[ClipMetric]

    @property
    def columns(self) -> list[Described]:
        """Of the temporal metrics, in printing order."""
        return [column for metric in self.metrics for column in (metric, *metric.companions)]

    @torch.inference_mode()
    def measure(
        self, name: str, frames: Sequence[str] | None, source: Clip, reconstructions: Iterable[tuple[str, Clip]]
    ) -> tuple[Part, Part]:
        """The clip ``name``, whose frames have the names ``frames``; (METHOD, its reconstruction, of the same frames).

        Without names the first part is empty: the frames are measured elsewhere, at another size. Reconstructions are
        taken one after the other, so that memory does not grow with the number of methods. A frame that is absent in
        one has no row in the first part; its pairs are counted in the second.
        """
        of_frames, of_clip = Part({}), Part({})
        features = [metric.features(source) for metric in self.metrics]
        for method, clip in chain(reconstructions, [(SOURCE, source)]):
            outcomes = [metric.compare(known, clip) for metric, known in zip(self.metrics, features, strict=True)]
            of_clip.rows[name, method] = self._row(outcomes)
            if frames is not None and method != SOURCE:
                of_frames.rows.update(self._frames(frames, source, method, clip).rows)
        return of_frames, of_clip

    def _frames(self, names: Sequence[str], source: Clip, method: str, clip: Clip) -> Part:
        both = [ours and theirs for ours, theirs in zip(clip.present, source.present, strict=True)]
        if not any(both):
            return Part({})
        if all(both):  # the tensors themselves, which shared networks remember
            return self.frames.measure(names, source.frames, {method: clip.frames})
        chosen = torch.tensor(both)
        kept = [name for name, present in zip(names, both, strict=True) if present]
        return self.frames.measure(kept, source.frames[chosen], {method: clip.frames[chosen]})

    def _row(self, outcomes: Sequence[ClipOutcome]) -> dict[str, float | str]:
        row: dict[str, float | str] = {}
        reasons: dict[str, list[int]] = {}
        for metric, outcome in zip(self.metrics, outcomes, strict=True):
            row |= outcome.values
            row |= {f"{metric.key}_expected": outcome.expected, f"{metric.key}_used": outcome.used}
            for number, reason in outcome.failures.items():
                if number not in reasons.setdefault(reason, []):
                    reasons[reason].append(number)
        said = [
            f"{reason} in frame{'s' * (len(found) > 1)} {', '.join(map(str, sorted(found)))}"
            for reason, found in reasons.items()
        ]
        row["status"] = "; ".join(said) or OK
        return row


def build_clip_suite(assets: Path, mean_descriptor: Path, device: str | torch.device = "cpu") -> ClipSuite:
    """Every metric that this machine has the weights of, as :func:`eval.metrics.suite.build_suite` but for Fréchet
    distances: frames of one clip are no sample of a distribution.
    """
    mean = MeanDescriptor.read(mean_descriptor)
    perceptual = SharedSTLPIPS.load(assets / "stlpips/alex_shift_tolerant.pth").to(device)
    faces = SharedFaces(assets / "dlib")
    metrics: list[PictureMetric] = [SSIM(), PSNR(), MSE(), STLPIPSDistance(perceptual), Identity(faces, mean)]
    if (lpips := LPIPSDistance.cached()) is not None:
        lpips.network.to(device)
        metrics.append(lpips)
    temporal: list[ClipMetric] = [
        LocalIdentity(faces, mean),
        GlobalIdentity(faces, mean),
        LowestIdentity(faces, mean),
        WarpingError(),
        AddedJitter(faces),
        PerceptualChange(perceptual),
    ]
    return ClipSuite(Suite(metrics, device=device), temporal)
