"""Reading, writing and pairing of picture files."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import Compose, Normalize, Resize, ToTensor

from fse.pictures import (
    PictureFolder,
    batches,
    image_from_tensor,
    list_pictures,
    open_picture,
    read_picture,
    tensor_from_image,
    write_picture,
)
from fse.refusal import Refusal


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_reading_is_the_official_scripts_transform(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    noise(100, 100).save(path)
    transform = Compose([Resize((64, 64)), ToTensor(), Normalize([0.5] * 3, [0.5] * 3)])
    torch.testing.assert_close(read_picture(path, 64), transform(Image.open(path)), rtol=0, atol=1e-6)


def test_eight_bits_survive_the_way_to_disk_and_back(tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = tensor_from_image(Image.fromarray(np.stack([levels, levels.T, levels[::-1]], -1)))
    assert (picture.min(), picture.max(), picture.dtype) == (-1, 1, torch.float32)
    write_picture(picture, tmp_path / "new/folder/a.png")
    assert torch.equal(read_picture(tmp_path / "new/folder/a.png"), picture)
    assert [path.name for path in (tmp_path / "new/folder").iterdir()] == ["a.png"]  # no partial file

    wide = torch.tensor([-7.0, -1.0, 0.4 / 127.5 - 1, 0.6 / 127.5 - 1, 1.0, 7.0]).expand(3, 1, 6)
    assert np.asarray(image_from_tensor(wide))[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255]
    with pytest.raises(ValueError, match="NaN"):
        image_from_tensor(torch.full((3, 4, 4), torch.nan))


def test_every_way_to_store_a_picture_gives_the_same_rgb(tmp_path: Path) -> None:
    grey = Image.fromarray(np.arange(0, 256, dtype=np.uint8).reshape(16, 16))
    expected = np.asarray(grey.convert("RGB"))
    rgba = grey.convert("RGBA")
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    files = {
        "l.png": encoded(grey, "PNG"),
        "rgb.webp": encoded(grey.convert("RGB"), "WEBP", lossless=True),
        "rgba.png": encoded(rgba, "PNG"),
        "la.png": encoded(grey.convert("LA"), "PNG"),
        "palette.png": encoded(grey.convert("P"), "PNG"),
        "i16.png": encoded(sixteen, "PNG"),
        "wrong_suffix.jpg": encoded(grey, "PNG"),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        np.testing.assert_array_equal(np.asarray(open_picture(tmp_path / name)), expected, err_msg=name)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = noise(6, 4)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side: to be turned a quarter clockwise
    image.save(tmp_path / "a.png", exif=exif)
    upright = open_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(upright), np.rot90(np.asarray(image), -1))


def bad_files() -> dict[str, tuple[bytes, str]]:
    image = noise(32, 32)
    clear = image.convert("RGBA")
    clear.putpixel((3, 3), (0, 0, 0, 0))
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return {
        "empty.png": (b"", "is not a PNG, JPEG or WebP picture"),
        "text.png": (b"not a picture", "is not a PNG, JPEG or WebP picture"),
        "other.png": (encoded(image, "BMP"), "is not a PNG, JPEG or WebP picture"),
        "cut.png": (encoded(image, "PNG")[:-1500], "cannot be read as a picture"),
        "cut.jpg": (encoded(image, "JPEG")[:-300], "cannot be read as a picture"),
        "cut.webp": (encoded(image, "WEBP", lossless=True)[:-300], "cannot be read as a picture"),
        "bomb.png": (bomb, "has more than 89478485 pixels"),
        "clear.png": (encoded(clear, "PNG"), "is partly transparent"),
        "cmyk.jpg": (encoded(image.convert("CMYK"), "JPEG"), "has the colour mode CMYK"),
        "moving.webp": (
            encoded(image, "WEBP", save_all=True, append_images=[noise(32, 32, 1)]),
            r"is animated \(2 frames\)",
        ),
        "oblong.png": (encoded(noise(32, 31), "PNG"), "is 32 x 31 pixels, not square"),
    }


@pytest.mark.parametrize("name", bad_files())
def test_unusable_file_is_refused_with_its_name(tmp_path: Path, name: str) -> None:
    content, sentence = bad_files()[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Refusal, match=f"{name} {sentence}"):
        read_picture(tmp_path / name)


def test_absent_file_and_folder_in_its_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"there is no picture .*a\.png"):
        read_picture(tmp_path / "a.png")
    with pytest.raises(Refusal, match="cannot be read as a picture"):
        read_picture(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(Refusal, match="cannot be written"):
        write_picture(torch.zeros(3, 4, 4), tmp_path / "file" / "a.png")


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("JPEG", {}), ("WEBP", {}), ("WEBP", {"lossless": True})])
def test_damaged_bytes_are_read_or_refused_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, kind: str, options: dict[str, object]
) -> None:
    intact = encoded(noise(24, 24), kind, **options)
    path = tmp_path_factory.mktemp("damaged") / "a.png"

    @settings(max_examples=150, deadline=None, database=None)
    @given(
        st.lists(st.tuples(st.integers(0, len(intact) - 1), st.integers(0, 255)), max_size=6),
        st.integers(0, 60),
    )
    def damage(changes: list[tuple[int, int]], cut: int) -> None:
        content = bytearray(intact)
        for position, value in changes:
            content[position] = value
        path.write_bytes(content[: len(content) - cut])
        try:
            picture = read_picture(path, 16)
        except Refusal as refusal:
            assert "\n" not in str(refusal)  # noqa: PT017 (either outcome is right)
        else:
            assert picture.shape == (3, 16, 16)

    damage()


def test_folders_are_listed_in_order_and_paired_by_name(tmp_path: Path) -> None:
    for number in (3, 1, 2, 0, 4):
        write_picture(noise(8, 8, number), tmp_path / f"source/{number}.png")
        write_picture(noise(16, 16, number), tmp_path / f"result/{number}.png")
    write_picture(noise(8, 8), tmp_path / "result/extra.png")
    (tmp_path / "source/._0.png").write_bytes(b"a Mac's resource fork")
    (tmp_path / "source/notes.txt").touch()
    source, result = PictureFolder(tmp_path / "source", 8), PictureFolder(tmp_path / "result", 8)
    assert (source.names, len(source), source[1][0]) == (["0", "1", "2", "3", "4"], 5, "1")

    seen = list(batches(2, source, result))
    assert [names for names, _ in seen] == [["0", "1"], ["2", "3"], ["4"]]
    assert [tuple(batch.shape) for batch in seen[2][1]] == [(1, 3, 8, 8), (1, 3, 8, 8)]
    assert torch.equal(seen[1][1][0][1], read_picture(tmp_path / "source/3.png"))
    assert torch.equal(seen[1][1][1][1], read_picture(tmp_path / "result/3.png", 8))

    with pytest.raises(Refusal, match="lacks extra and 0 more"):
        next(batches(2, result, source))
    with pytest.raises(Refusal, match=r"extra\.png is 8 pixels wide but 4 is 16"):
        list(batches(2, PictureFolder(tmp_path / "result")))
    (tmp_path / "source/3.webp").write_bytes(encoded(noise(8, 8), "WEBP"))
    with pytest.raises(Refusal, match=r"3\.png and 3\.webp have the same name"):
        PictureFolder(tmp_path / "source")


def test_absent_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no folder of pictures"):
        list_pictures(tmp_path / "absent")
    with pytest.raises(Refusal, match="holds no picture"):
        list_pictures(tmp_path)
