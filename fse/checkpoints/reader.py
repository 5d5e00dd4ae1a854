"""Files of weights of every format the field uses; which one a file has is read off its content, not its name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from fse.checkpoints.checkpoint import Checkpoint, check_parameters
from fse.checkpoints.nvidia_pickle import read_nvidia_pickle
from fse.checkpoints.openvino_ir import read_constants
from fse.checkpoints.pytorch_file import LEGACY_MAGIC, ZIP_MAGIC, read_pytorch
from fse.checkpoints.safetensors_file import read_safetensors
from fse.refusal import Refusal


def read_checkpoint(path: Path) -> Checkpoint:
    """What the file ``path`` holds: PyTorch's, NVIDIA's pickle, safetensors, or an OpenVINO graph (.xml).

    Nothing of the file is executed, whatever it holds.

    Raises
    ------
    Refusal
        When the file is missing, is of none of these formats, is damaged, or asks for code to be run.
    """
    if not path.is_file():
        raise Refusal(f"there is no weights file {path}; download it first")
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        raise Refusal(f"{path} is empty; download it again")
    if head.startswith((ZIP_MAGIC, LEGACY_MAGIC)):
        return read_pytorch(path)
    if head.startswith(b"\x80"):  # any pickle of protocol 2 or later
        return read_nvidia_pickle(path)
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return read_safetensors(path)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<?xml", b"<net")) and b"<html" not in text:
        return _read_openvino(path)
    if text.startswith(b"<") or b"<html" in text:
        raise Refusal(
            f"{path} is a web page and no file of weights (Google Drive answers so when a file is large or has been "
            "downloaded too often); download it again in a browser"
        )
    if text.startswith(b"version https://git-lfs"):
        raise Refusal(f"{path} is a pointer of Git LFS and no file of weights; fetch it with `git lfs pull`")
    raise Refusal(
        f"{path} is no file of weights: its content is neither PyTorch's, NVIDIA's pickle, safetensors nor an "
        "OpenVINO graph; download it again, and unpack it if it is an archive"
    )


def read_weights(
    path: Path | str,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    remedy: str = "run `python -m pipelines.assets`",
) -> dict[str, Tensor]:
    """The tensors ``shapes`` of a file, on the CPU; further ones are left out.

    Raises
    ------
    Refusal
        As :func:`read_checkpoint` does, or naming the parameter that is missing or has another shape.
    """
    if not Path(path).is_file():
        raise Refusal(f"there is no weights file {path}; {remedy}")
    tensors = read_checkpoint(Path(path)).tensors
    check_parameters(shapes, tensors, path, remedy)
    return {name: tensors[name] for name in shapes}


def _read_openvino(path: Path) -> Checkpoint:
    tensors: dict[str, Tensor] = {}
    for constant in read_constants(path):
        if constant.name in tensors:
            raise Refusal(f"{path} has two constants of the name {constant.name}; obtain it again")
        tensors[constant.name] = constant.value
    return Checkpoint(path, "openvino-ir", tensors, {})
