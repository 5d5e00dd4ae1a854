"""Reconstructions on disk: made once, made again when what they come from has changed, and never in excess."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from baselines.psp import PyramidEncoder
from eval.inversions import Order, invert_missing, invert_pictures
from eval.processes import processes_for
from eval.profile import Profile
from fse.checkpoints.network_file import read_network, write_network
from fse.pictures import list_pictures, write_picture
from fse.refusal import Refusal


@pytest.fixture
def profile(tmp_path: Path, assets: Path, weights: Path) -> Profile:
    """With weights of its own, which a test may change."""
    shutil.copytree(weights, tmp_path / "weights")
    return Profile(assets, tmp_path / "weights")


def test_only_what_is_out_of_date_is_made(tmp_path: Path, profile: Profile) -> None:
    sources, out = tmp_path / "sources", tmp_path / "out"
    pictures = torch.rand(3, 3, 256, 256, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for name, picture in zip("abc", pictures, strict=True):
        write_picture(picture, sources / f"{name}.png")
    (tmp_path / "out").mkdir()
    (out / "other.png").write_bytes(b"of somebody else")

    def made() -> dict[str, int]:
        invert_pictures(list_pictures(sources), out, "psp", profile)
        return {path.stem: path.stat().st_mtime_ns for path in out.glob("?.png")}

    first = made()
    assert set(first) == set("abc")
    (profile.weights / "fse.safetensors").unlink()  # another method's
    assert made() == first

    write_picture(pictures[0], sources / "b.png")
    second = made()
    assert {name for name in first if first[name] != second[name]} == {"b"}

    (sources / "c.png").unlink()
    assert made() == {name: second[name] for name in "ab"}
    assert (out / "other.png").exists()

    network = read_network(profile.weights / "psp.safetensors", PyramidEncoder)
    write_network(profile.weights / "psp.safetensors", network, {"of": "another training"})
    third = made()
    assert all(third[name] != second[name] for name in "ab")


def test_processes_make_what_one_makes_and_no_more(tmp_path: Path, profile: Profile) -> None:
    pictures = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(1)) * 2 - 1
    sources = [tmp_path / "sources/a.png", tmp_path / "sources/b.png"]
    for path, picture in zip(sources, pictures, strict=True):
        write_picture(picture, path)

    def made(folder: str, processes: int) -> dict[str, bytes]:
        out = tmp_path / folder
        (out / "e4e").mkdir(parents=True)
        for path in sources:
            (out / "e4e" / path.name).write_bytes(b"made before")
        orders = [Order(method, sources, out / method) for method in ("psp", "e4e", "fse")]
        invert_missing(orders, profile, processes=processes)
        return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.glob("*/*.png"))}

    alone = made("alone", 1)
    assert alone["e4e/a.png"] == b"made before"
    assert len(alone) == 6
    assert len(set(alone.values())) == 5
    assert made("shared", 2) == alone
    (profile.weights / "psp.safetensors").unlink()
    with pytest.raises(Refusal, match=r"psp.safetensors is missing"):
        made("broken", 2)


def test_a_process_a_core_with_one_thread_or_one_for_a_gpu() -> None:
    torch.set_num_threads(2)
    assert processes_for(torch.device("cuda")) == 1
    assert torch.get_num_threads() == 2
    assert processes_for(torch.device("cpu")) == 2
    assert torch.get_num_threads() == 1
    assert processes_for(torch.device("cpu"), 3) == 3
