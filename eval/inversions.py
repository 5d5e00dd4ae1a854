"""Reconstructions of a folder of pictures, kept as files that everything else measures and shows."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from eval.processes import share_out
from eval.profile import Profile
from eval.provenance import code_sha256, sha256
from fse.pictures import write_picture

MADE = "made.json"


@dataclass(frozen=True)
class Order:
    """Sources that a method is to invert into a folder."""

    method: str
    sources: Sequence[Path]
    out: Path

    @property
    def missing(self) -> int:
        """How many of the files are not there, whatever those that are there were made of."""
        return sum(not (self.out / f"{path.stem}.png").is_file() for path in self.sources)


def invert_missing(orders: Sequence[Order], profile: Profile, *, batch: int = 8, processes: int = 1) -> None:
    """Carry out the orders that lack a file, each by one of several processes (:func:`eval.processes.share_out`)."""
    orders = [order for order in orders if order.missing]
    if processes == 1 or len(orders) < 2:
        for order in orders:
            invert_pictures(order.sources, order.out, order.method, profile, batch=batch)
        return
    total = sum(order.missing for order in orders)
    share_out(
        functools.partial(_invert_silently, profile=profile, batch=batch),
        orders,
        processes=processes,
        progress="inverting",
        done=lambda: total - sum(order.missing for order in orders),
        total=total,
    )


def _invert_silently(order: Order, profile: Profile, batch: int) -> None:
    invert_pictures(order.sources, order.out, order.method, profile, batch=batch, silent=True)


@torch.no_grad()  # and not inference mode: methods that optimise need tensors that gradients can pass
def invert_pictures(
    sources: Sequence[Path], out: Path, method: str, profile: Profile, *, batch: int = 8, silent: bool = False
) -> None:
    """Write every source's reconstruction by ``method`` to ``out/NAME.png`` (8 bits, clamped).

    What the metrics see is what a person sees: the file, not the network's floating-point output. ``out/made.json``
    says what each file was made of, so that an interrupted call goes on where it stopped: a file is made again when
    its source, the method's trained weights or the code of ``fse`` and ``baselines`` has changed, and removed when its
    source is not among ``sources`` any more. Files that the record does not name are left alone.
    """
    record = out / MADE
    weights = [f"{path.name} {sha256(path)}" for path in profile.weights_of(method)]
    origin = "\n".join([method, *weights, code_sha256(packages=("baselines", "fse"))])
    maker = hashlib.sha256(origin.encode()).hexdigest()[:16]
    made: dict[str, str] = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    keys = {path: f"{hashlib.sha256(path.read_bytes()).hexdigest()[:16]} {maker}" for path in sources}
    for name in made.keys() - {path.stem for path in sources}:
        (out / f"{name}.png").unlink(missing_ok=True)
        del made[name]
    missing = [
        path for path in sources if made.get(path.stem) != keys[path] or not (out / f"{path.stem}.png").is_file()
    ]
    if not missing:
        _write(made, record)
        return
    inverter = profile.method(method)
    starts = range(0, len(missing), batch)
    for start in track(starts, f"inverting {out.name} with {method}", console=Console(stderr=True), disable=silent):
        paths = missing[start : start + batch]
        pictures = torch.stack([profile.read(path) for path in paths]).to(profile.device)
        for path, picture in zip(paths, inverter.invert(pictures).picture.cpu(), strict=True):
            write_picture(picture, out / f"{path.stem}.png")
            made[path.stem] = keys[path]
        _write(made, record)


def _write(made: Mapping[str, str], record: Path) -> None:
    part = record.with_suffix(".part")
    part.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    part.replace(record)
