"""Stand-ins of the data sets: ten pictures of each set, under the official names, as folders and as archives."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from eval.datasets import afhq, celeba_hq, ffhq
from fse.generators.style_generator import StyleGenerator
from pipelines.rehearsal.pictures import CARS, CATS, DOGS, encoded, faces, photographs

COUNT = 10
"""Pictures of a set."""

ATTRIBUTES = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose",
    "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses",
    "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes",
    "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks", "Sideburns", "Smiling",
    "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick", "Wearing_Necklace",
    "Wearing_Necktie", "Young",
)  # fmt: skip
"""CelebA's, in its order."""

Files = Iterator[tuple[str, bytes]]


def write_data_sets(folder: Path, generator: StyleGenerator) -> None:
    """All of them but RAVDESS.

    Zips are read in place and left packed; of Stanford Cars the training set is a folder, and the test set the tgz
    that is unpacked when it is read. FFHQ has no archive.

    Parameters
    ----------
    generator : StyleGenerator
        Of faces, the embedded profile's.
    """
    _write_zip(folder / "CelebAMask-HQ.zip", _celeba_hq(generator))
    _write_celeba_lists(folder)
    digests = {}
    for name, content in _ffhq(generator):
        _write(folder / name, content)
        digests[name] = hashlib.md5(content, usedforsecurity=False).hexdigest()
    metadata = {
        str(number): {"category": "training", "image": {"file_path": name, "file_md5": md5}}
        for number, (name, md5) in enumerate(digests.items())
    }
    _write(folder / "ffhq-dataset-v2.json", json.dumps(metadata).encode())
    for name, content in _cars("train", 1):
        _write(folder / name, content)
    _write_tgz(folder / "cars_test.tgz", _cars("test", 2))
    _write_zip(folder / "afhq.zip", _afhq(1))
    _write_zip(folder / "afhq_v2.zip", _afhq(2))
    _write_zip(folder / "celeba_hq.zip", _celeba_hq_of_stargan())


def label(number: int, attribute: int) -> int:
    """Of a picture of CelebA-HQ: 1 or -1, each of some of the ten pictures for every attribute."""
    return 1 if number // (1 + attribute % 5) % 2 else -1


def original(number: int) -> int:
    """The number in CelebA of a picture of CelebA-HQ: of even ones in its test partition, of odd ones in training."""
    return celeba_hq.FIRST_OF_TEST + 1 + number if number % 2 == 0 else 1 + number


def _celeba_hq(generator: StyleGenerator) -> Files:
    root = "CelebAMask-HQ"
    for number, image in enumerate(faces(generator, 601, COUNT, celeba_hq.SIDE)):
        yield f"{root}/{celeba_hq.FOLDER}/{number}.jpg", encoded(image, "JPEG")
    mapping = ["idx        orig_idx   orig_file"]
    mapping += [f"{n:<11}{original(n) - 1:<11}{original(n):06}.jpg" for n in range(COUNT)]
    yield f"{root}/{celeba_hq.MAPPING}", ("\n".join(mapping) + "\n").encode()
    yield f"{root}/{celeba_hq.ATTRIBUTES}", _attributes({f"{n}.jpg": n for n in range(COUNT)})


def _attributes(pictures: Mapping[str, int]) -> bytes:
    """CelebA's form: the count, the names, then a line a picture; file -> number in CelebA-HQ."""
    lines = [str(len(pictures)), " ".join(ATTRIBUTES) + " "]
    lines += [
        f"{file}  {' '.join(f'{label(number, i):>2}' for i in range(len(ATTRIBUTES)))}"
        for file, number in pictures.items()
    ]
    return ("\n".join(lines) + "\n").encode()


def _write_celeba_lists(folder: Path) -> None:
    """CelebA's own lists, of the originals of the ten pictures."""
    originals = {f"{original(number):06}.jpg": number for number in sorted(range(COUNT), key=original)}
    _write(folder / "list_attr_celeba.txt", _attributes(originals))
    partition = [f"{file} {2 if number % 2 == 0 else 0}\n" for file, number in originals.items()]
    _write(folder / "list_eval_partition.txt", "".join(partition).encode())


def _ffhq(generator: StyleGenerator) -> Files:
    for number, image in enumerate(faces(generator, 602, COUNT, ffhq.SIDE)):
        yield f"{ffhq.FOLDER}/00000/{number:05}.png", encoded(image, "PNG")


def _cars(split: str, seed: int) -> Files:
    """Of different sizes, as officially."""
    for number in range(1, COUNT + 1):
        size = (400 + 40 * number, 300 + 20 * number)
        (image,) = photographs([CARS[number % len(CARS)]], 100 * seed + number, 1, size)
        yield f"cars_{split}/{number:05}.jpg", encoded(image, "JPEG")


def _afhq(version: int) -> Files:
    """Cats and dogs, the first version in ``train`` and ``val``, the second in ``train`` and ``test``."""
    outer, test, kind = ("afhq/", "val", "JPEG") if version == 1 else ("", "test", "PNG")
    for place, split in enumerate(("train", test)):
        for animal, names in (("cat", CATS), ("dog", DOGS)):
            seed = 10 * version + 2 * place + (animal == "dog")
            pictures = photographs(names, seed, COUNT if version == 1 else 2, (afhq.SIDE, afhq.SIDE))
            for number, image in enumerate(pictures, 2):
                suffix = "jpg" if version == 1 else "png"
                yield f"{outer}{split}/{animal}/flickr_{animal}_{number:06}.{suffix}", encoded(image, kind)


def _celeba_hq_of_stargan() -> Files:
    """StarGAN v2's packaging, which must not be taken for Table 1's set."""
    for place, (split, who) in enumerate((s, w) for s in ("train", "val") for w in ("female", "male")):
        (image,) = photographs(["astronaut"], 40 + place, 1, (64, 64))
        yield f"celeba_hq/{split}/{who}/{place:06}.jpg", encoded(image, "JPEG")


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _write_zip(path: Path, files: Files) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files:
            archive.writestr(zipfile.ZipInfo(name), content)


def _write_tgz(path: Path, files: Files) -> None:
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", 1, file, 0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
