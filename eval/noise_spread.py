"""How far the numbers move with StyleGAN2's noise: the released FSE draws it anew for every picture.

Here every generator takes the noise that is stored in its file, so that a table can be made twice. This measures what
that choice is worth: the same pictures are inverted under several draws, and each metric is stated for each.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eval.contest import ROWS, Places
from eval.measurement import Resolution, plain, read_at
from eval.metrics.at_size import Size, resized
from eval.metrics.suite import Suite
from eval.section import Section
from eval.set_table import write_forms
from eval.tables import ABSENT, TextTable
from fse.generators.stylegan2 import StyleGAN2
from fse.inversion import InversionMethod
from fse.pictures import image_from_tensor, tensor_from_image
from fse.refusal import Refusal

STORED = "stored"
RECORD = "noise.json"


@dataclass(frozen=True)
class Spread:
    """A metric under several draws of noise.

    Attributes
    ----------
    metric, label : str
        Column and its name in print.
    stored : float or None
        Over all pictures with the generator's own noise.
    drawn : tuple of float
        The same under each draw.
    within : float or None
        Standard deviation over the draws of a single picture's value, averaged over pictures; None for distances
        between sets.
    """

    metric: str
    label: str
    stored: float | None
    drawn: tuple[float, ...]
    within: float | None

    @property
    def mean(self) -> float | None:
        """Over the draws."""
        return statistics.fmean(self.drawn) if self.drawn else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation over the draws; None for fewer than two."""
        return statistics.stdev(self.drawn) if len(self.drawn) > 1 else None


@contextmanager
def other_noise(generator: StyleGAN2, source: torch.Generator) -> Iterator[None]:
    """Within it the generator's stored noise is a new draw from ``source``, a CPU generator."""
    buffers = dict(generator.noises.named_buffers())
    stored = {name: buffer.clone() for name, buffer in buffers.items()}
    try:
        for (name, buffer), drawn in zip(buffers.items(), generator.fresh_noise(source), strict=True):
            if drawn.shape != buffer.shape:
                raise ValueError(f"{name}: noise of shape {tuple(drawn.shape)} for {tuple(buffer.shape)}")
            buffer.copy_(drawn)
        yield
    finally:
        for name, buffer in buffers.items():
            buffer.copy_(stored[name])


@torch.no_grad()
def noise_spread(
    method: InversionMethod,
    generator: StyleGAN2,
    sources: Sequence[Path],
    suite: Suite,
    *,
    seeds: Sequence[int],
    resolution: Resolution,
) -> list[Spread]:
    """Invert every picture under the stored noise and under one draw a seed, and measure each.

    A draw is of one picture and seed, whatever the other pictures are. Where a method passes through its generator
    several times (ReStyle), all passes over a picture share it; the released FSE's one does not ask.

    Parameters
    ----------
    method, generator
        The method, and the very generator that it renders with.
    sources : sequence of Path
        Picture files, read at ``resolution``: the size that the method takes and gives.
    suite : Suite
        A fresh one; it receives a "method" a draw.
    """
    device = generator.mean_code.device
    for path in sources:
        picture = read_at(path, resolution)[None]
        size = (picture.shape[2], picture.shape[3])
        found = {STORED: _as_a_file(method.invert(picture.to(device)).picture, size)}
        for seed in seeds:
            with other_noise(generator, _source(seed, path.stem)):
                found[str(seed)] = _as_a_file(method.invert(picture.to(device)).picture, size)
        suite.update([path.stem], picture, found)
    measured = suite.compute()
    cells, rows = measured.summary(), measured.pictures
    spreads = []
    for metric in suite.metrics:
        means = {name: found[metric.key]["mean"] for name, found in cells.items()}
        drawn = [value for seed in seeds if (value := means.get(str(seed))) is not None and math.isfinite(value)]
        within = None
        if metric.key in rows:
            table = rows[rows["method"] != STORED].pivot(index="picture", columns="method", values=metric.key)
            deviations = table.astype(float).std(axis=1, ddof=1)
            within = float(deviations.mean()) if deviations.notna().any() else None
        spreads.append(Spread(metric.key, metric.label, means.get(STORED), tuple(drawn), within))
    return spreads


def _source(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def _as_a_file(picture: Tensor, size: Size) -> Tensor:
    """(1, 3, H, W), clamped and rounded as a file keeps it, brought to ``size`` as :mod:`eval.measurement` reads it."""
    return resized(torch.stack([tensor_from_image(image_from_tensor(each)) for each in picture]), size)


def spread_table(spreads: Sequence[Spread], name: str, pictures: int) -> TextTable:
    """A row a metric; ``name`` is the method's."""

    def printed(value: float | None) -> str:
        return ABSENT if value is None else f"{value:.4g}"

    rows = [
        [each.label, printed(each.stored), printed(each.mean), printed(each.deviation), printed(each.within)]
        for each in spreads
    ]
    draws = max((len(each.drawn) for each in spreads), default=0)
    notes = [
        f"{name} on {pictures} pictures under {draws} draws of the generator's noise, one a picture. The deviation is "
        "of the mean over all pictures; in the last column of one picture's value, averaged over pictures."
    ]
    headings = ["Metric", "Stored noise", "Mean of the draws", "Deviation", "Deviation of a picture"]
    return TextTable("noise-spread", "How far the numbers move with the generator's noise", headings, rows, notes)


def as_json(spreads: Sequence[Spread]) -> dict[str, Any]:
    """METRIC -> the fields of :class:`Spread`, mean and deviation."""
    return {
        each.metric: {
            **asdict(each),
            **{key: plain(value) for key, value in (("stored", each.stored), ("within", each.within))},
            "drawn": [plain(value) for value in each.drawn],
            "mean": each.mean,
            "deviation": each.deviation,
        }
        for each in spreads
    }


def render(spreads: Sequence[Spread], row: str, pictures: int, places: Places, profile: str) -> None:
    """Write ``noise.{json,md,csv,tex}``; ``row`` is the method's."""
    results = {"profile": profile, "row": row, "pictures": pictures, "metrics": as_json(spreads)}
    write_forms(places.reports / "noise", results, [], [spread_table(spreads, ROWS.get(row, row), pictures)])


def section(places: Places) -> Section | None:
    """Of the report; None where it was not measured."""
    path = places.reports / RECORD
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        spreads = [
            Spread(key, each["label"], each["stored"], tuple(each["drawn"]), each["within"])
            for key, each in found["metrics"].items()
        ]
        table = spread_table(spreads, ROWS.get(found["row"], found["row"]), found["pictures"])
    except (ValueError, KeyError, TypeError) as error:
        raise Refusal(f"{path} cannot be read ({error!r}): measure it again") from error
    introduction = [
        "The released code of FSE draws the generator's noise anew for every picture; every number above is with the "
        "stored noise, so that it can be made twice."
    ]
    return Section("noise", "The generator's noise", introduction, [table])
