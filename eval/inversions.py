"""Reconstructions of a folder of pictures, kept as files that everything else measures and shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from eval.profile import Profile
from fse.pictures import read_picture, write_picture


@torch.no_grad()  # and not inference mode: methods that optimise need tensors that gradients can pass
def invert_pictures(sources: Sequence[Path], out: Path, method: str, profile: Profile, *, batch: int = 8) -> None:
    """Write every source's reconstruction by ``method`` to ``out/NAME.png`` (8 bits, clamped).

    What the metrics see is what a person sees: the file, not the network's floating-point output.
    """
    inverter = profile.method(method)
    starts = range(0, len(sources), batch)
    for start in track(starts, f"inverting {out.name} with {method}", console=Console(stderr=True)):
        paths = sources[start : start + batch]
        pictures = torch.stack([read_picture(path, profile.resolution) for path in paths]).to(profile.device)
        for path, picture in zip(paths, inverter.invert(pictures).picture.cpu(), strict=True):
            write_picture(picture, out / f"{path.stem}.png")
