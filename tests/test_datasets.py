"""The official data sets, on small stand-ins in the official layouts, right ones and wrong ones."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import stat
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import Compose, Normalize, Pad, Resize, ToTensor

from baselines.cars import rows_of_the_car
from eval.datasets import afhq, celeba_hq, ffhq, stanford_cars
from eval.datasets.__main__ import main
from eval.datasets.dataset import DataSet
from eval.datasets.official import SETS, read_official
from eval.datasets.tree import Folder, open_tree
from fse.pictures import PictureFolder
from fse.refusal import Refusal

Files = Mapping[str, bytes]


def encoded(width: int, height: int, seed: int, kind: str) -> bytes:
    """A picture that differs from the next: coarse noise, enlarged."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((width, height)).save(buffer, kind)
    return buffer.getvalue()


JPEG_1024, JPEG_512 = encoded(1024, 1024, 0, "JPEG"), encoded(512, 512, 0, "JPEG")


def celeba_files(
    numbers: Iterable[int], picture: Callable[[int], bytes] = lambda number: JPEG_1024
) -> dict[str, bytes]:
    """CelebAMask-HQ, as far as it is read: original i of CelebA-HQ is 170,000 + 2,000 * i of CelebA, cyclically."""
    numbers = list(numbers)
    files = {f"CelebAMask-HQ/CelebA-HQ-img/{number}.jpg": picture(number) for number in numbers}
    mapping = ["idx        orig_idx   orig_file"]
    mapping += [f"{n:<11}{original(n) - 1:<11}{original(n):06}.jpg" for n in range(len(numbers))]
    attributes = [str(len(numbers)), " ".join(f"Attribute_{i}" for i in range(40))]
    attributes += [f"{n}.jpg  {' '.join(str(label(n, i)) for i in range(40))}" for n in numbers]
    text = {"CelebA-HQ-to-CelebA-mapping.txt": mapping, "CelebAMask-HQ-attribute-anno.txt": attributes}
    files |= {f"CelebAMask-HQ/{name}": ("\n".join(lines) + "\n").encode() for name, lines in text.items()}
    return files | {"CelebAMask-HQ/README.txt": b"", "CelebAMask-HQ/CelebAMask-HQ-mask-anno/0/00000_hair.png": b"png"}


def original(number: int) -> int:
    return 170_001 + 2_000 * (number % 16) + number // 16


def label(number: int, attribute: int) -> int:
    return 1 if (number + attribute) % 3 == 0 else -1


def write_folder(files: Files, folder: Path) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_zip(files: Files, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tgz(files: Files, path: Path, links: Mapping[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return path


def refused(read: Callable[[], object], *parts: str) -> str:
    with pytest.raises(Refusal) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    return message


def pixels(dataset: DataSet) -> dict[str, bytes]:
    return {name: image.tobytes() for name, image in dataset}


# CelebA-HQ


def test_a_zip_and_what_it_unpacks_to_are_the_same_set_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    files = celeba_files(range(12), lambda number: encoded(1024, 1024, number, "JPEG"))
    folder, archive = write_folder(files, tmp_path / "data"), write_zip(files, tmp_path / "CelebAMask-HQ.zip")
    sets = [celeba_hq.first(path, 12) for path in (archive, folder, folder / "CelebAMask-HQ")]
    inner = celeba_hq.first(folder / "CelebAMask-HQ/CelebA-HQ-img", 12)
    for dataset in [*sets, inner]:
        assert dataset.names == [str(number) for number in range(12)]  # and not 0, 1, 10, 11, 2
        assert (dataset.is_partial, dataset.described) == (False, "CelebA-HQ, first 12")
        assert pixels(dataset) == pixels(sets[0])
    assert [p.path for p in sets[0].pictures][:2] == [
        "CelebAMask-HQ/CelebA-HQ-img/0.jpg",
        "CelebAMask-HQ/CelebA-HQ-img/1.jpg",
    ]
    name, tensor = sets[0].tensor(3)
    assert (name, tensor.shape, tensor.dtype) == ("3", (3, 1024, 1024), torch.float32)
    transform = Compose([ToTensor(), Normalize([0.5] * 3, [0.5] * 3)])
    expected = transform(Image.open(folder / "CelebAMask-HQ/CelebA-HQ-img/3.jpg"))
    torch.testing.assert_close(tensor, expected, rtol=0, atol=1e-6)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(25)), count=st.integers(1, 25))
def test_the_order_is_that_of_the_numbers_whatever_the_archives(order: list[int], count: int, tmp_path: Path) -> None:
    archive = write_zip({f"CelebA-HQ-img/{number}.jpg": b"" for number in order[:count]}, tmp_path / "a.zip")
    dataset = celeba_hq.first(archive, 25, allow_partial=True)
    assert dataset.names == [str(number) for number in sorted(order[:count])]
    assert dataset.is_partial == (count < 25)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.sets(st.tuples(st.sampled_from(["flickr", "pixabay"]), st.integers(0, 999_999)), min_size=1, max_size=20)
)
def test_names_without_a_number_of_their_own_are_sorted_by_code_point(
    names: set[tuple[str, int]], tmp_path: Path
) -> None:
    written = [f"{source}_cat_{number:06}" for source, number in names]
    archive = write_zip(
        {f"afhq/val/cat/{name}.jpg": b"" for name in written} | {"afhq/train/": b""}, tmp_path / "a.zip"
    )
    assert afhq.read(archive, "cat", allow_partial=True).names == sorted(written)


def test_a_missing_picture_is_named_and_a_partial_set_says_so(tmp_path: Path) -> None:
    folder = write_folder(celeba_files([0, 1, 2, 4, 6]), tmp_path)
    refused(lambda: celeba_hq.first(folder, 9), "lacks 4 files (3.jpg, 5.jpg, 7.jpg, ...) of the 9 pictures")
    refused(lambda: celeba_hq.first(folder, 4), "lacks 3.jpg of the 4 pictures")
    partial = celeba_hq.first(folder, 9, allow_partial=True)
    assert (len(partial), partial.is_partial) == (5, True)
    assert partial.described == "CelebA-HQ, first 9 (PARTIAL: 5 of 9 pictures)"
    partial.prepare(tmp_path / "out")
    assert json.loads((tmp_path / "out/dataset.json").read_text())["title"] == partial.described
    assert (tmp_path / "out/files.sha256").read_text().startswith(f"# {partial.described}\n")
    refused(
        lambda: celeba_hq.first(folder / "CelebAMask-HQ/CelebAMask-HQ-mask-anno", 9, allow_partial=True), "no folder"
    )


def test_no_picture_at_all_is_no_partial_set(tmp_path: Path) -> None:
    (tmp_path / "CelebA-HQ-img").mkdir()
    refused(lambda: celeba_hq.first(tmp_path, 9, allow_partial=True), "lacks 9 files")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("30000.jpg", ("30000.jpg", "has not")),
        ("notes.txt", ("notes.txt", "has not")),
        ("1.JPG", ("1.JPG", "it is called 1.jpg officially")),
        ("00001.jpg", ("another packaging",)),
        ("1.png", ("another packaging",)),
    ],
)
def test_another_file_among_the_pictures_is_refused(name: str, parts: tuple[str, ...], tmp_path: Path) -> None:
    folder = write_folder(celeba_files(range(3)) | {f"CelebAMask-HQ/CelebA-HQ-img/{name}": JPEG_1024}, tmp_path)
    for allow_partial in (False, True):
        refused(lambda allow=allow_partial: celeba_hq.first(folder, 3, allow_partial=allow), *parts)  # type: ignore[misc]


def test_what_operating_systems_leave_behind_is_no_picture(tmp_path: Path) -> None:
    litter = [
        "CelebA-HQ-img/.DS_Store",
        "CelebA-HQ-img/._0.jpg",
        "__MACOSX/CelebA-HQ-img/._0.jpg",
        "CelebA-HQ-img/Thumbs.db",
    ]
    files = celeba_files(range(3)) | {f"CelebAMask-HQ/{name}": b"x" for name in litter}
    for path in (write_folder(files, tmp_path / "folder"), write_zip(files, tmp_path / "a.zip")):
        assert len(celeba_hq.first(path, 3)) == 3


def test_a_picture_of_another_size_is_refused_when_it_is_read(tmp_path: Path) -> None:
    files = celeba_files(range(3), lambda number: JPEG_512 if number == 1 else JPEG_1024)
    dataset = celeba_hq.first(write_folder(files, tmp_path), 3)
    assert dataset[0][0] == "0"
    refused(lambda: dataset[1], "1.jpg is 512 x 512 pixels, not 1024 x 1024")
    refused(lambda: dataset.prepare(tmp_path / "out"), "1 of 3 pictures", "1.jpg is 512 x 512")
    assert sorted(path.name for path in (tmp_path / "out").glob("*.jpg")) == ["0.jpg", "2.jpg"]  # the others are there


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    files = celeba_files(range(2), lambda number: JPEG_1024[:5000] if number else JPEG_1024)
    for path in (write_folder(files, tmp_path / "folder"), write_zip(files, tmp_path / "a.zip")):
        dataset = celeba_hq.first(path, 2)
        refused(lambda dataset=dataset: dataset[1], "CelebA-HQ-img/1.jpg cannot be read as a picture")  # type: ignore[misc]


def test_stargans_packaging_is_not_taken_for_table_1(tmp_path: Path) -> None:
    files = {
        f"celeba_hq/{split}/{sex}/000004.jpg": JPEG_1024 for split in ("train", "val") for sex in ("female", "male")
    }
    archive = write_zip(files, tmp_path / "celeba_hq.zip")
    refused(lambda: celeba_hq.first(archive, allow_partial=True), "StarGAN v2", "order are others than Table 1's")


def test_the_test_split_is_told_by_the_mapping(tmp_path: Path) -> None:
    folder = write_folder(celeba_files(range(20)), tmp_path)
    expected = [str(n) for n in range(20) if original(n) >= 182_638]
    dataset = celeba_hq.official_test(folder, allow_partial=True)
    assert dataset.names == expected == ["7", "8", "9", "10", "11", "12", "13", "14", "15"]
    assert dataset.described == "CelebA-HQ, test split (PARTIAL: 9 of 2,824 pictures)"
    refused(lambda: celeba_hq.official_test(folder), "names 20 pictures and not 30,000")

    mapping = folder / "CelebAMask-HQ/CelebA-HQ-to-CelebA-mapping.txt"
    lines = mapping.read_text().splitlines()
    for wrong in (
        lines[:3] + lines[4:],
        [*lines, lines[-1]],
        [*lines[:5], "4  1  000003.jpg", *lines[6:]],
        ["0 x.jpg"],
    ):
        mapping.write_text("\n".join(wrong))
        refused(lambda: celeba_hq.official_test(folder, allow_partial=True), "mapping.txt", "replace the file")
    mapping.unlink()
    refused(lambda: celeba_hq.official_test(folder, allow_partial=True), "has no CelebA-HQ-to-CelebA-mapping.txt")


def test_the_whole_mapping_without_its_first_line_gives_the_official_count(tmp_path: Path) -> None:
    """2,824 of 30,000 in CelebA's last partition; some copies of the file have no line of names."""
    numbers = np.r_[1 : 30_000 - 2_824 + 1, 182_638 : 182_638 + 2_824]
    np.random.default_rng(0).shuffle(numbers)
    text = "".join(f"{i:<11}{n - 1:<11}{n:06}.jpg\n" for i, n in enumerate(numbers))
    archive = write_zip(
        {"CelebAMask-HQ/CelebA-HQ-to-CelebA-mapping.txt": text.encode()}
        | {f"CelebAMask-HQ/CelebA-HQ-img/{i}.jpg": b"" for i in range(30_000)},
        tmp_path / "a.zip",
    )
    dataset = celeba_hq.official_test(archive)
    assert (len(dataset), dataset.is_partial) == (2_824, False)
    assert dataset.names == sorted(dataset.names, key=int)
    assert len(celeba_hq.first(archive)) == 1_000


def test_attributes_are_those_of_the_pictures_by_either_file(tmp_path: Path) -> None:
    folder = write_folder(celeba_files(range(12)), tmp_path / "data")
    dataset = celeba_hq.first(folder, 5)
    attributes = celeba_hq.read_attributes(dataset)
    assert attributes.pictures == ("0", "1", "2", "3", "4")
    assert attributes.labels.tolist() == [[label(n, i) == 1 for i in range(40)] for n in range(5)]
    assert attributes.of("Attribute_2").tolist() == [False, True, False, False, True]
    refused(lambda: attributes.of("Smiling"), "no attribute 'Smiling'")

    celeba = tmp_path / "list_attr_celeba.txt"
    rows = [f"{original(n):06}.jpg {' '.join(str(label(n, i)) for i in range(40))}" for n in reversed(range(12))]
    celeba.write_text("\n".join(["12", " ".join(attributes.names), *rows]) + "\n")
    partial = celeba_hq.first(folder, 13, allow_partial=True)
    by_celeba = celeba_hq.read_attributes(partial, celeba)
    assert by_celeba.labels[:5].tolist() == attributes.labels.tolist()

    path = folder / "CelebAMask-HQ/CelebAMask-HQ-attribute-anno.txt"
    lines = path.read_text().splitlines()
    for wrong, part in [
        (lines[:-1], "says 12"),
        ([*lines[:4], lines[4].replace("-1", "0"), *lines[5:]], "labels of 1 or -1"),
        ([*lines[:4], lines[4] + " 1", *lines[5:]], "labels of 1 or -1"),
        (lines[1:], "does not begin with the number"),
        (["9", lines[1], *lines[5:]], "no attributes of 3 pictures (0, 1, 2)"),
    ]:
        path.write_text("\n".join(wrong))
        refused(lambda: celeba_hq.read_attributes(dataset), "attribute-anno.txt", part)


# FFHQ


@pytest.fixture
def small_ffhq(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffhq, "COUNT", 30)
    monkeypatch.setattr(ffhq, "PER_FOLDER", 10)


def ffhq_files(numbers: Iterable[int], per_folder: int = 10) -> dict[str, bytes]:
    png = encoded(1024, 1024, 5, "PNG")
    files = {f"images1024x1024/{n // per_folder * per_folder:05}/{n:05}.png": png for n in numbers}
    return files | {"images1024x1024/LICENSE.txt": b"licence"}


def test_ffhq_in_its_folders_and_in_one_is_the_same(small_ffhq: None, tmp_path: Path) -> None:
    files = ffhq_files(range(30))
    flat = {f"images1024x1024/{Path(name).name}": content for name, content in files.items()}
    for path in (
        write_folder(files, tmp_path / "a"),
        write_folder(flat, tmp_path / "b") / "images1024x1024",
        write_zip(files, tmp_path / "c.zip"),
    ):
        dataset = ffhq.read(path)
        assert dataset.names == [f"{n:05}" for n in range(30)]
    assert dataset[29][1].size == (1024, 1024)


def test_ffhq_is_checked(small_ffhq: None, tmp_path: Path) -> None:
    whole = ffhq_files(range(30))
    refused(lambda: ffhq.read(write_folder(ffhq_files(range(20)), tmp_path / "a")), "lacks 1 of 70 folders, 00020")
    assert len(ffhq.read(tmp_path / "a", allow_partial=True)) == 20
    refused(lambda: ffhq.read(write_folder(ffhq_files(range(29)), tmp_path / "b")), "lacks 00029.png")
    strange = whole | {"images1024x1024/00010/00005.png": b""}
    refused(lambda: ffhq.read(write_folder(strange, tmp_path / "c"), allow_partial=True), "00005.png", "has not")
    refused(lambda: ffhq.read(write_folder(whole | {"images1024x1024/a/b.png": b""}, tmp_path / "d")), "holds a")


def test_ffhqs_digests_are_those_of_its_metadata(small_ffhq: None, tmp_path: Path) -> None:
    dataset = ffhq.read(write_folder(ffhq_files(range(30)), tmp_path))
    metadata = {
        str(n): {
            "category": "training",
            "image": {
                "file_url": "https://drive.google.com/uc?id=x",
                "file_path": f"images1024x1024/{n // 10 * 10:05}/{n:05}.png",
                "file_md5": hashlib.md5(dataset.tree.read(dataset.pictures[n].path)).hexdigest(),
                "face_landmarks": [[1.5, 2.5]] * 68,
            },
            "thumbnail": {"file_path": f"thumbnails128x128/00000/{n:05}.png", "file_md5": "0" * 32},
        }
        for n in range(30)
    }
    path = tmp_path / "ffhq-dataset-v2.json"
    path.write_text(json.dumps(metadata))
    digests = ffhq.official_md5(path, dataset)
    dataset.check_md5(digests)
    (tmp_path / dataset.pictures[4].path).write_bytes(b"changed")
    refused(lambda: dataset.check_md5(digests), "images1024x1024/00000/00004.png differ from the official MD5")
    path.write_text(json.dumps({"0": metadata["0"]}))
    refused(lambda: ffhq.official_md5(path, dataset), "no MD5 of 29 pictures (00001)")


# Stanford Cars


def car_files(split: str, numbers: Iterable[int]) -> dict[str, bytes]:
    return {f"cars_{split}/{n:05}.jpg": encoded(40 + 10 * n, 30 + 7 * n, n, "JPEG") for n in numbers}


def test_cars_in_each_form_are_the_official_transforms(tmp_path: Path) -> None:
    folder = write_folder(car_files("test", range(1, 4)), tmp_path)
    official = {
        "padded": Compose(
            [Resize((384, 512)), Pad(padding=(0, 64, 0, 64)), ToTensor(), Normalize([0.5] * 3, [0.5] * 3)]
        ),
        "half": Compose([Resize((192, 256)), ToTensor(), Normalize([0.5] * 3, [0.5] * 3)]),
        "full": Compose([Resize((384, 512)), ToTensor(), Normalize([0.5] * 3, [0.5] * 3)]),
    }
    for form, transform in official.items():
        dataset = stanford_cars.read(folder, "test", form, allow_partial=True)
        for index in range(3):
            name, tensor = dataset.tensor(index)
            image = Image.open(folder / f"cars_test/{name}.jpg").convert("RGB")
            torch.testing.assert_close(tensor, transform(image), rtol=0, atol=1e-6)
            assert dataset.form.size == (tensor.shape[2], tensor.shape[1])
    padded = stanford_cars.read(folder, allow_partial=True).tensor(0)[1]
    full = stanford_cars.read(folder, form="full", allow_partial=True).tensor(0)[1]
    assert (padded[:, :64] == -1).all()
    assert (padded[:, 448:] == -1).all()
    assert torch.equal(rows_of_the_car(padded), full)


def test_cars_out_of_the_tgz_the_folder_and_a_mirror_are_the_same(tmp_path: Path) -> None:
    files = {f"./{name}": content for name, content in car_files("train", range(1, 6)).items()}
    tgz = write_tgz(files, tmp_path / "any_name")
    folder = write_folder(files, tmp_path / "plain")
    mirror = write_folder({f"cars_train/{name}": content for name, content in files.items()}, tmp_path / "kaggle")
    sets = [stanford_cars.read(path, "train", allow_partial=True) for path in (tgz, folder, mirror)]
    assert all(pixels(dataset) == pixels(sets[0]) for dataset in sets)
    assert sets[0].names == ["00001", "00002", "00003", "00004", "00005"]
    refused(lambda: stanford_cars.read(tgz, "test", allow_partial=True), "no folder cars_test", "cars_train/")
    refused(lambda: stanford_cars.read(tgz, "train"), "lacks 8,139 files (00006.jpg, 00007.jpg, 00008.jpg, ...)")


def test_the_other_split_under_this_ones_name_is_refused(tmp_path: Path) -> None:
    names = [f"cars_test/{n:05}.jpg" for n in range(1, 8_145)]
    archive = write_zip(dict.fromkeys(names, b""), tmp_path / "a.zip")
    refused(lambda: stanford_cars.read(archive, "test"), "103 files (08042.jpg, 08043.jpg, 08044.jpg, ...)")


# AFHQ


def afhq_files(version: int, test: int = 500, train: int = 3) -> dict[str, bytes]:
    outer, held_out, suffix = {1: ("afhq/", "val", "jpg"), 2: ("", "test", "png")}[version]
    picture = JPEG_512 if version == 1 else encoded(512, 512, 1, "PNG")
    counts = {"train": train, held_out: test}
    return {
        f"{outer}{split}/{animal}/flickr_{animal}_{n:06}.{suffix}": picture
        for split, count in counts.items()
        for animal in ("cat", "dog", "wild")
        for n in range(count)
    }


def test_afhq_and_its_second_version_are_told_apart(tmp_path: Path) -> None:
    first = write_zip(afhq_files(1), tmp_path / "afhq.zip")
    second = write_folder(afhq_files(2, test=2), tmp_path / "afhq_v2")
    dataset = afhq.read(first, "cat")
    assert (len(dataset), dataset.is_partial, dataset.names[:2]) == (
        500,
        False,
        ["flickr_cat_000000", "flickr_cat_000001"],
    )
    assert dataset.described == "AFHQ cat, test"
    assert dataset[7][1].size == (512, 512)
    refused(lambda: afhq.read(second, "dog", allow_partial=True), "version 2 and not 1", "test/, as .png")
    refused(lambda: afhq.read(first, "dog", version=2, allow_partial=True), "version 1 and not 2")
    assert len(afhq.read(second, "dog", version=2, allow_partial=True)) == 2
    refused(lambda: afhq.read(second, "dog", version=2), "holds 2 of the 491 pictures of AFHQ v2 dog, test")
    refused(lambda: afhq.read(first, "cat", "train"), "holds 3 of the 5,153")
    assert sum(afhq.COUNTS[1].values()) == 16_130
    assert sum(afhq.COUNTS[2].values()) == 15_803


def test_one_animal_more_or_among_the_others_is_refused(tmp_path: Path) -> None:
    for extra in ("flickr_cat_000500.jpg", "flickr_dog_000001.jpg", "flickr_cat_000001.png"):
        archive = write_zip(afhq_files(1) | {f"afhq/val/cat/{extra}": JPEG_512}, tmp_path / f"{extra}.zip")
        refused(lambda archive=archive: afhq.read(archive, "cat", allow_partial=True), "val/cat holds")  # type: ignore[misc]


# What the sets share


def test_archives_cannot_lead_out_of_themselves(tmp_path: Path) -> None:
    for name in ("../escaped.jpg", "/tmp/escaped.jpg", "a/../../b.jpg", "C:/b.jpg", "a\\..\\b.jpg"):
        files = {"cars_test/00001.jpg": JPEG_512, name: b"x"}
        for path in (write_zip(files, tmp_path / "a.zip"), write_tgz(files, tmp_path / "a.tgz")):
            refused(lambda path=path: open_tree(path), "leads out of it")  # type: ignore[misc]
    assert not list(tmp_path.rglob("*escaped*"))
    assert {path.name for path in tmp_path.rglob("*.jpg")} == {"00001.jpg"}
    folder = write_folder({"cars_test/00001.jpg": JPEG_512, "outside.jpg": JPEG_512}, tmp_path / "folder")
    for path in ("../outside.jpg", "/etc/passwd"):
        refused(lambda path=path: Folder(folder / "cars_test").read(path), "leads out of it")  # type: ignore[misc]


def test_links_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(JPEG_512)
    link = zipfile.ZipInfo("cars_test/00001.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, str(secret))
    refused(lambda: open_tree(tmp_path / "a.zip"), "is a link")
    for kind, links in (("a.tgz", {"cars_test/00001.jpg": str(secret)}), ("b.tgz", {"cars_test": "/etc"})):
        path = write_tgz({}, tmp_path / kind, links)
        refused(lambda path=path: open_tree(path), "is a link, a device or a sparse file")  # type: ignore[misc]

    folder = write_folder(car_files("test", [2]), tmp_path / "folder")
    (folder / "cars_test/00001.jpg").symlink_to(secret)
    refused(lambda: stanford_cars.read(folder, allow_partial=True), "holds 00001.jpg, which are links")
    (folder / "cars_test/00001.jpg").unlink()
    dataset = stanford_cars.read(folder, allow_partial=True)
    (folder / "cars_test/00002.jpg").unlink()
    (folder / "cars_test/00002.jpg").symlink_to(secret)  # between listing and reading
    refused(lambda: dataset[0], "00002.jpg is a link")
    (folder / "cars_test").rename(tmp_path / "elsewhere")
    (folder / "cars_test").symlink_to(tmp_path / "elsewhere")
    refused(lambda: stanford_cars.read(folder, allow_partial=True), "no folder cars_test")
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere")  # the path that a user gives may be one
    assert open_tree(tmp_path / "linked").listing().links == ["00002.jpg"]


def test_names_twice_or_in_two_cases_are_refused(tmp_path: Path) -> None:
    for second, part in (("cars_test/00001.jpg", "is there twice"), ("cars_test/00001.JPG", "upper and lower case")):
        with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            warnings.simplefilter("ignore")  # zipfile says that it is there twice
            archive.writestr("cars_test/00001.jpg", JPEG_512)
            archive.writestr(second, JPEG_512)
        refused(lambda: open_tree(tmp_path / "a.zip"), part)
        with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
            for name in ("cars_test/00001.jpg", second):
                tar.addfile(tarfile.TarInfo(name))
        refused(lambda: open_tree(tmp_path / "a.tgz"), part)


def test_archives_that_unfold_are_refused_before_they_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eval.datasets.tree._ALWAYS_ALLOWED", 1 << 20)
    zeros = {"cars_test/00001.jpg": bytes(8 << 20)}
    refused(lambda: open_tree(write_zip(zeros, tmp_path / "a.zip")), "far larger than it should be")
    refused(lambda: open_tree(write_tgz(zeros, tmp_path / "a.tgz")), "far larger than it should be")
    assert not list(tmp_path.rglob("*.jpg"))
    monkeypatch.undo()
    tree = open_tree(tmp_path / "a.zip")
    refused(lambda: tree.read("cars_test/00001.jpg", 1 << 20), "too large for what it should be")

    lying = bytearray((tmp_path / "a.zip").read_bytes())  # says that it holds a thousand bytes
    directory = lying.rfind(b"PK\x01\x02")
    lying[directory + 24 : directory + 28] = (1000).to_bytes(4, "little")
    (tmp_path / "b.zip").write_bytes(lying)
    refused(lambda: open_tree(tmp_path / "b.zip").read("cars_test/00001.jpg"), "is damaged")


def test_damaged_archives_are_refused_and_a_tgz_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    files = {f"cars_test/{n:05}.jpg": np.random.default_rng(n).bytes(40_000) for n in range(1, 30)}
    whole = write_tgz(files, tmp_path / "whole.tgz").read_bytes()
    cut = tmp_path / "cars_test.tgz"
    cut.write_bytes(whole[: len(whole) // 2])
    refused(lambda: open_tree(cut), "cars_test.tgz is damaged or cut short")
    unpacked = sorted((tmp_path / "cars_test.tgz.unpacked/cars_test").glob("*.jpg"))
    assert 0 < len(unpacked) < 29
    before = {path: path.stat().st_mtime_ns for path in unpacked}
    cut.write_bytes(whole)
    tree = open_tree(cut)
    assert {name: tree.read(f"cars_test/{name}") for name in tree.listing("cars_test").files} == {
        Path(name).name: content for name, content in files.items()
    }
    assert all(path.stat().st_mtime_ns == modified for path, modified in before.items())
    (tmp_path / "cars_test.tgz.unpacked/cars_test/00003.jpg").unlink()
    assert "00003.jpg" not in open_tree(cut).listing("cars_test").files  # whole once: not unpacked again

    broken = bytearray(write_zip(files, tmp_path / "a.zip").read_bytes())
    broken[5_000] ^= 255
    (tmp_path / "a.zip").write_bytes(broken)
    refused(lambda: open_tree(tmp_path / "a.zip").read("cars_test/00001.jpg"), "00001.jpg is damaged")
    (tmp_path / "a.zip").write_bytes(broken[:9_000])
    refused(lambda: open_tree(tmp_path / "a.zip"), "neither a folder nor a zip or tar archive")
    refused(lambda: open_tree(tmp_path / "absent"), "there is no data set")


def test_a_set_travels_to_worker_processes(tmp_path: Path) -> None:
    archive = write_zip(celeba_files(range(6), lambda n: encoded(1024, 1024, n, "JPEG")), tmp_path / "a.zip")
    dataset = celeba_hq.first(archive, 6)
    alone = pixels(dataset)
    loader = DataLoader(dataset, batch_size=None, num_workers=2, collate_fn=None)  # type: ignore[arg-type, var-annotated]
    assert {name: image.tobytes() for name, image in loader} == alone
    assert pixels(pickle.loads(pickle.dumps(dataset))) == alone


def test_a_prepared_set_is_what_the_measurements_read(tmp_path: Path) -> None:
    archive = write_zip(celeba_files(range(4), lambda n: encoded(1024, 1024, n, "JPEG")), tmp_path / "a.zip")
    dataset, out = celeba_hq.first(archive, 4), tmp_path / "paper/celeba_hq_1000"
    paths = dataset.prepare(out)
    assert [path.name for path in paths] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert [path.read_bytes() for path in paths] == [dataset.tree.read(p.path) for p in dataset.pictures]
    assert PictureFolder(out).names == dataset.names

    dataset.file_list(tmp_path / "list.sha256")
    assert (tmp_path / "list.sha256").read_bytes() == (out / "files.sha256").read_bytes()
    with zipfile.ZipFile(archive) as unzipped:
        unzipped.extractall(tmp_path / "unzipped")
    check = ["sha256sum", "--check", "--strict", "--quiet", tmp_path / "list.sha256"]
    assert subprocess.run(check, cwd=tmp_path / "unzipped", check=False).returncode == 0

    before = {path: path.stat().st_mtime_ns for path in paths}
    (out / "2.jpg").unlink()
    dataset.prepare(out)
    assert [path.name for path in paths if path.stat().st_mtime_ns != before[path]] == ["2.jpg"]


def test_prepared_pictures_follow_their_source_and_form(tmp_path: Path) -> None:
    folder, out = write_folder(car_files("test", range(1, 4)), tmp_path / "cars"), tmp_path / "out"
    read = lambda form: stanford_cars.read(folder, form=form, allow_partial=True)  # noqa: E731
    paths = read("padded").prepare(out)
    assert [path.name for path in paths] == ["00001.png", "00002.png", "00003.png"]
    assert PictureFolder(out).read("00002").shape == (3, 512, 512)
    assert torch.equal(PictureFolder(out).read("00002"), read("padded").tensor(1)[1])
    before = {path: path.stat().st_mtime_ns for path in paths}
    (folder / "cars_test/00002.jpg").write_bytes(encoded(50, 60, 99, "JPEG"))
    with (out / ".prepared.csv").open("a") as journal:
        journal.write("00003.png,12")  # a run that was killed while it wrote a line
    read("padded").prepare(out)
    assert [path.name for path in paths if path.stat().st_mtime_ns != before[path]] == ["00002.png"]
    read("full").prepare(out)
    assert Image.open(out / "00001.png").size == (512, 384)
    assert json.loads((out / "dataset.json").read_text())["form"] == "full"
    (out / "someone.png").write_bytes(b"")
    refused(lambda: read("full").prepare(out), "holds someone.png", "remove that folder")


def test_orientation_is_left_as_it_is_stored_as_in_the_official_scripts(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(buffer, "JPEG", exif=exif)
    write_folder({"cars_test/00001.jpg": buffer.getvalue()}, tmp_path)
    tree = stanford_cars.read(tmp_path, allow_partial=True)
    assert tree._decoded(buffer.getvalue(), tree.pictures[0]).size == (40, 30)


def test_every_official_set_has_its_name_and_count(tmp_path: Path) -> None:
    write_folder(celeba_files(range(3)), tmp_path / "c")
    write_folder(car_files("train", [1]) | car_files("test", [1]), tmp_path / "s")
    write_folder(afhq_files(1, 1, 1), tmp_path / "a")
    write_folder(afhq_files(2, 1, 1), tmp_path / "a2")
    write_folder(ffhq_files([0], 1000), tmp_path / "f")
    write_folder(celeba_files(range(9)), tmp_path / "t")
    folders = {"celeba_hq_test": "t", "celeba": "c", "stanford": "s", "afhq_v2": "a2", "afhq": "a", "ffhq": "f"}
    for name, official in SETS.items():
        folder = next(folder for start, folder in folders.items() if name.startswith(start))
        dataset = read_official(name, tmp_path / folder, allow_partial=True)
        assert (dataset.name, dataset.official_count) == (name, official.count)
        assert "PARTIAL" in dataset.described
    refused(lambda: read_official("celeba", tmp_path), "no official set 'celeba'", "celeba_hq_1000")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    assert "celeba_hq_test" in capsys.readouterr().out
    folder = write_folder(celeba_files(range(3)), tmp_path / "data")
    arguments = ["celeba_hq_1000", str(folder), "--out", str(tmp_path / "paper"), "--list", str(tmp_path / "list")]
    run = [sys.executable, "-m", "eval.datasets", *arguments]
    done = subprocess.run(run, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"}, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "lacks 997 files" in done.stderr
    main([*arguments, "--allow-partial"])
    printed = capsys.readouterr().out
    assert "CelebA-HQ, first 1,000 (PARTIAL: 3 of 1,000 pictures): 3 pictures" in printed
    assert sorted(path.name for path in (tmp_path / "paper/celeba_hq_1000").glob("*.jpg")) == [
        "0.jpg",
        "1.jpg",
        "2.jpg",
    ]
