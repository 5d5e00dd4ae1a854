"""A complete folder of stand-ins of the official files and data sets, in the official formats, at small sizes.

``python -m pipelines.rehearsal.build FOLDER`` needs what the embedded profile has: its generator and directions, which
the pictures and the clips are rendered with. What is written depends on nothing else, and is the same each time.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import track

from eval.profile import Profile
from fse.directions import read_directions
from fse.refusal import Refusal, exit_on_refusal
from pipelines.paper.stand_ins import is_rehearsal, mark
from pipelines.rehearsal.buffalo import write_buffalo
from pipelines.rehearsal.datasets import write_data_sets
from pipelines.rehearsal.editing_files import write_editing_files
from pipelines.rehearsal.generators import (
    FACES,
    SQUARES,
    stylegan2,
    stylegan3,
    write_ada,
    write_rosinality,
    write_stylegan3,
)
from pipelines.rehearsal.methods import write_methods, write_newer_methods
from pipelines.rehearsal.mtcnn_arrays import write_mtcnn
from pipelines.rehearsal.networks import write_networks
from pipelines.rehearsal.ravdess_archives import write_ravdess

_LANDMARKS = "shape_predictor_68_face_landmarks.dat"


def build(folder: Path, profile: Profile, directions: Path) -> None:
    """Write everything to ``folder``; stand-ins that are there already are made anew.

    Parameters
    ----------
    folder : Path
        A new or empty one, or one of stand-ins.
    profile : Profile
        The embedded one.
    directions : Path
        Its generator's, ``directions/generator.safetensors``.

    Raises
    ------
    Refusal
        The folder holds other files, or what the embedded profile should have is missing.
    """
    moves = read_directions(directions)
    if is_rehearsal(folder):
        shutil.rmtree(folder)
    mark(folder, finished=False)
    steps: dict[str, Callable[[], None]] = {
        "weights": lambda: write_weights(folder),
        "files that come with packages": lambda: _copy_shared(folder, profile.assets),
        "data sets": lambda: write_data_sets(folder, profile.generator(256)),
        "clips": lambda: write_ravdess(folder / "ravdess", profile.generator(128), moves),
    }
    for step in track(steps, "writing stand-ins", console=Console(stderr=True)):
        steps[step]()
    mark(folder, finished=True)


def write_weights(folder: Path) -> None:
    """All networks, MTCNN's and InsightFace's, directions and seeds; nothing of the embedded profile is needed."""
    faces = stylegan2("stylegan2-ffhq", FACES)
    cars = stylegan2("stylegan2-car", SQUARES)
    write_rosinality(faces, folder / "stylegan2-ffhq-config-f.pt", modern=False)
    write_rosinality(cars, folder / "stylegan2-car-config-f.pt", modern=True)
    write_ada(faces, folder / "ffhq.pkl")
    for name in ("afhqcat", "afhqdog"):
        network = stylegan2(name, replace(SQUARES, clamp=256, raw_weights=True))
        write_ada(network, folder / f"{name}.pkl")
    for letter in "tr":
        name = f"stylegan3-{letter}-ffhq-1024x1024.pkl"
        write_stylegan3(stylegan3(name, rotation=letter == "r"), folder / name)
    write_methods(folder, faces, cars)
    write_newer_methods(folder, faces)
    write_networks(folder)
    (folder / "mtcnn").mkdir(exist_ok=True)
    write_mtcnn(folder / "mtcnn")
    write_buffalo(folder / "buffalo_l.zip", folder / "buffalo_l")
    write_editing_files(folder, faces.num_codes)


def _copy_shared(folder: Path, assets: Path) -> None:
    """The official files themselves where the embedded profile or a package has them: landmarks, LPIPS's linear layers.

    The catalogue finds such files elsewhere by their digests, which a rehearsal has none of.
    """
    try:
        shutil.copyfile(assets / "dlib" / _LANDMARKS, folder / _LANDMARKS)
    except OSError as error:
        raise Refusal(f"{assets} has no {_LANDMARKS} ({error.strerror}); run `python -m pipelines.assets`") from error
    (folder / "lpips").mkdir(exist_ok=True)
    package = importlib.metadata.distribution("lpips")
    for name in ("alex.pth", "vgg.pth"):
        shutil.copyfile(str(package.locate_file(f"lpips/weights/v0.1/{name}")), folder / "lpips" / name)


@exit_on_refusal
def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.rehearsal.build", description=__doc__)
    parser.add_argument("folder", type=Path, help="new or empty, or one of stand-ins, which is made anew")
    parser.add_argument("--assets", type=Path, default=Path("data/assets"))
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--directions", type=Path, default=Path("directions/generator.safetensors"))
    arguments = parser.parse_args()
    build(arguments.folder, Profile(arguments.assets, arguments.weights), arguments.directions)


if __name__ == "__main__":
    main()
