"""The metrics of the paper's protocol, from official files of weights, and every reading of what it leaves open.

All of it is one pass over the pictures: the columns at the native size, those at 256 px (as the official scripts
resize), both kinds of SSIM, two identities. :mod:`eval.protocol` chooses among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import torch

from eval.metrics.arcface import ArcFaceIdentity
from eval.metrics.at_size import DistributionAtSize, PictureAtSize, Size
from eval.metrics.curricularface import CurricularFace
from eval.metrics.distribution import FEWEST_PICTURES, FID, TO_REFERENCE, ReferenceSet
from eval.metrics.inception import FIDInception
from eval.metrics.metric import DistributionMetric, PictureMetric
from eval.metrics.perceptual import LPIPSDistance
from eval.metrics.pixel import MSE, PSNR, SSIM
from eval.metrics.source_features import SourceFeatures
from eval.metrics.ssim_variants import MSSSIM, UniformSSIM
from eval.metrics.suite import Suite
from eval.provenance import code_sha256, sha256
from fse.lpips_alexnet import read_trunk
from fse.refusal import Refusal

Made = TypeVar("Made")

SCRIPTS_SIZE: Size = (256, 256)
"""Of faces in the pSp family's scripts; cars have (192, 256)."""

REDUCED = "_256"
"""Ending of the keys of columns at the scripts' size, which is 256 px wide."""

REFERENCES = ("ffhq", "celeba_hq_test")
"""Sets of :data:`eval.datasets.official.SETS` that FID can be taken to, besides the sources."""

PRINTED = ("ssim", "psnr", "mse", "ssim_256", "psnr_256", "mse_256", "lpips", "id_curricular", "id_arcface",
           "fid", "fid_inf", "kid", *(TO_REFERENCE + name for name in REFERENCES))  # fmt: skip
"""The columns of a table for readers; the further ones are for :mod:`eval.protocol` and for comparison with others."""

DECIMALS = {
    **dict.fromkeys(("psnr", "psnr_256", "fid", "fid_inf", "fid_256", "fid_256_inf"), 2),
    **{TO_REFERENCE + name + suffix: 2 for name in REFERENCES for suffix in ("", REDUCED)},
    **dict.fromkeys(("mse", "mse_256", "kid", "kid_256"), 4),
}
"""Digits in print; the others have 3."""


class Located(Protocol):
    """Where an official asset's only file, or its file ``name``, is; raises Refusal, with the remedy, if it is not."""

    def __call__(self, asset: str, name: str | None = None) -> Path: ...


def paper_suite(
    path: Located,
    device: str | torch.device = "cpu",
    *,
    faces: bool = True,
    distributions: bool = True,
    size: Size = SCRIPTS_SIZE,
    references: Mapping[str, Sequence[ReferenceSet]] | None = None,
    fewest: int = FEWEST_PICTURES,
    cache: Path | None = None,
) -> tuple[Suite, dict[str, str]]:
    """Every metric that the official files allow, for pictures at their native size.

    Parameters
    ----------
    path : callable
        See :class:`Located`; the assets are ``alexnet``, ``curricularface``, ``mtcnn`` (``pnet.npy``, ``rnet.npy``,
        ``onet.npy``), ``buffalo_l`` (``det_10g.onnx``, ``w600k_r50.onnx``) and ``inception_fid``.
    faces, distributions : bool
        Whether there are columns of identity, and of FID and KID.
    size : (int, int)
        Height and width at which the official scripts measure.
    references : mapping, optional
        "" or :data:`REDUCED` -> further sets that FID is taken to, by their pictures at the native size and at ``size``
        (:mod:`eval.metrics.reference_set`).
    fewest : int
        Of pictures that FID and KID are stated for.
    cache : Path, optional
        A folder where features of the sources are kept for the next call, by content.

    Returns
    -------
    suite : Suite
    absent : dict
        Label of each column that is left out -> the reason, which is also the remedy.
    """
    absent: dict[str, str] = {}
    weights: list[Path] = []

    def located(asset: str, name: str | None = None) -> Path:
        weights.append(path(asset, name))
        return weights[-1]

    def unless_absent(labels: tuple[str, ...], make: Callable[[], Made]) -> list[Made]:
        try:
            return [make()]
        except Refusal as refusal:
            absent.update(dict.fromkeys(labels, str(refusal)))
            return []

    def reduced(metric: PictureMetric, remarked: bool = True) -> PictureMetric:
        return PictureAtSize(metric, size, REDUCED if remarked else "", remark if remarked else "")

    remark = " " + (str(size[1]) if size[0] == size[1] else f"{size[0]}x{size[1]}")
    metrics: list[PictureMetric] = [SSIM(), PSNR(), MSE(), reduced(SSIM()), reduced(PSNR()), reduced(MSE())]

    def lpips() -> PictureMetric:
        metric = LPIPSDistance(read_trunk(located("alexnet")))
        metric.network.to(device)
        return reduced(metric, remarked=False)

    def curricularface() -> PictureMetric:
        mtcnn = {name: located("mtcnn", f"{name}.npy") for name in ("pnet", "rnet", "onet")}
        return CurricularFace.load(located("curricularface"), mtcnn, device)

    def arcface() -> PictureMetric:
        return ArcFaceIdentity(located("buffalo_l", "det_10g.onnx"), located("buffalo_l", "w600k_r50.onnx"), device)

    def fids() -> list[DistributionMetric]:
        network = FIDInception.load(located("inception_fid")).to(device)
        native, at_size = (FID(network, (references or {}).get(key, ())) for key in ("", REDUCED))
        return [native, DistributionAtSize(at_size, size, REDUCED, remark)]

    metrics += unless_absent((LPIPSDistance.label,), lpips)
    if faces:
        metrics += unless_absent((CurricularFace.label,), curricularface)
        metrics += unless_absent((ArcFaceIdentity.label,), arcface)
    metrics += [UniformSSIM(), reduced(UniformSSIM()), reduced(MSSSIM(), remarked=False)]
    of_sets: list[DistributionMetric] = []
    if distributions:
        of_sets = [each for found in unless_absent((FID.label, "KID"), fids) for each in found]
    features = None
    if cache is not None:
        used = " ".join(f"{file.name} {sha256(file)}" for file in weights)
        basis = f"{code_sha256(packages=('eval/metrics', 'fse'))} {torch.__version__} {device} {size} {used}"
        keys = {CurricularFace.key, ArcFaceIdentity.key, *(each.key for each in of_sets)}
        features = SourceFeatures(cache, basis, keys)
    return Suite(metrics, of_sets, device, features, fewest), absent
