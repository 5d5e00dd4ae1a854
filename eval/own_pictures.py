"""A user's own pictures: aligned on request and laid out like a test set, each file that cannot be used named."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL.Image import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor

from eval.profile import Profile
from fse.alignment import FaceAligner, align_every_face
from fse.pictures import list_pictures, read_picture, write_picture
from fse.refusal import Refusal


@dataclass
class OwnPictures:
    """What became of a folder: the prepared picture files, and the reason for each file that could not be used."""

    prepared: list[Path] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)


def prepare(folder: Path, out: Path, profile: Profile, *, align: bool, limit: int | None = None) -> OwnPictures:
    """Write every picture of ``folder`` to ``out/NAME.png`` at the profile's resolution.

    ``align`` cuts each face out in the FFHQ template (several faces in a file become NAME_0, NAME_1 ...); otherwise
    pictures must be square. A file that cannot be used is kept with its reason and does not stop the others.

    Raises
    ------
    Refusal
        No file can be used.
    """
    found = OwnPictures()
    usable = list_pictures(folder)
    for path in sorted(set(folder.iterdir()) - set(usable)):
        if (mimetypes.guess_type(path)[0] or "").startswith("image/"):
            found.broken[path.name] = f"{path} is not a PNG, JPEG or WebP file: convert it"
    aligner = FaceAligner(profile.assets / "dlib" / "shape_predictor_68_face_landmarks.dat") if align else None
    for path in track(usable[:limit], "reading", console=Console(stderr=True)):
        try:
            if aligner is None:
                pictures: Mapping[str, Tensor | Image] = {path.stem: read_picture(path, profile.resolution)}
            else:
                pictures = align_every_face([path], aligner, profile.resolution)
        except Refusal as refusal:
            found.broken[path.name] = str(refusal)
            continue
        for name, picture in pictures.items():
            target = out / f"{name}.png"
            if target in found.prepared:
                found.broken[path.name] = f"{path} has the name of another picture: rename it"
                continue
            write_picture(picture, target)
            found.prepared.append(target)
    if not found.prepared:
        reason = next(iter(found.broken.values()))
        raise Refusal(f"none of the {len(found.broken)} pictures of {folder} can be used; the first: {reason}")
    return found
