"""Reading files of weights: every official format, and that nothing of a hostile or damaged one is ever run."""

from __future__ import annotations

import argparse
import builtins
import codecs
import io
import json
import os
import pickle
import resource
import shutil
import struct
import subprocess
import sys
import time
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fse.checkpoints.checkpoint import Checkpoint
from fse.checkpoints.network_file import write_network
from fse.checkpoints.openvino_ir import read_constants
from fse.checkpoints.reader import read_checkpoint
from fse.checkpoints.safetensors_file import write_checkpoint, write_tensors
from fse.face_recognition import CURRICULARFACE, IRFace
from fse.generators.families import read_generator
from fse.generators.stylegan2 import StyleGAN2, StyleGAN2Size
from fse.refusal import Refusal
from pipelines.convert import convert
from pipelines.official import KINDS, check, recognise
from pipelines.rehearsal.nvidia_pickle_writer import (
    EasyDict,
    Layer,
    Persistent,
    grow,
    official_modules,
    snapshot,
    write_nvidia_pickle,
)
from tests.golden.fill import normal
from tests.golden.vectors import Golden

ROOT = Path(__file__).resolve().parents[1]
TINY = StyleGAN2Size(32, (8, 8, 4, 4), 8, 2)


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """A file that hostile code would create; it must not."""
    path = tmp_path / "marker"
    yield path
    assert not path.exists(), "code of the file was executed"


def write_pickle(path: Path, content: Any, marker: Path, protocol: int = 4) -> None:
    """As NVIDIA's; the source code in it creates ``marker`` when it is executed."""
    source = f"open({str(marker)!r}, 'w').close()\nclass Generator: pass\nclass Layer: pass\n"
    write_nvidia_pickle(path, content, source, protocol)


@contextmanager
def within(seconds: float = 10, mebibytes: int = 256) -> Iterator[None]:
    """What runs inside takes no more time, and adds no more to the largest memory of this process."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.perf_counter() - start < seconds
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < mebibytes * 1024


def refused(path: Path, match: str | None = None) -> str:
    """The message with which ``path`` is refused: one sentence, with the file in it."""
    with within(), pytest.raises(Refusal, match=match) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert path.name.split(".")[0] in message
    assert "\n" not in message
    assert not message.endswith(".")
    return message


def state() -> dict[str, Tensor]:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    return {name: torch.randn(t.shape) if t.ndim else t for name, t in network.state_dict().items()}


def equal(a: Any, b: Any) -> bool:
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in b)


# PyTorch's files


@pytest.mark.parametrize("modern", [True, False], ids=["zip", "before 1.6"])
class TestPyTorch:
    def test_tensors_and_options(self, modern: bool, tmp_path: Path) -> None:
        tensors = state()
        optimiser = torch.optim.Adam([nn.Parameter(torch.randn(3, requires_grad=True))])
        content = {
            "state_dict": OrderedDict(tensors),
            "latent_avg": torch.randn(2, 3),
            "several": [torch.ones(2), (torch.zeros(1, dtype=torch.int64),)],
            "parameter": nn.Parameter(torch.randn(2).half()),
            "expanded": torch.randn(2, 1).expand(2, 5),
            "transposed": torch.randn(2, 3).t(),
            "opts": argparse.Namespace(
                encoder_type="GradualStyleEncoder", lr=1e-4, exp_dir=Path("/a/b"), device=torch.device("cuda:0")
            ),
            "best_val_loss": np.float64(0.25),
            "seeds": np.arange(6, dtype=np.int32).reshape(2, 3),
            "global_step": 300,
            "milestones": Counter({5: 2}),
            "names": {"b", "a"},
            "size": torch.Size([2, 3]),
            "dtype": torch.float16,
            "nothing": None,
            "optimizer": optimiser.state_dict(),
            "enc_opt_state_dict": optimiser.state_dict(),
            "discriminator_optimizer_state_dict": {"x": torch.ones(3)},
        }
        torch.save(content, tmp_path / "x.pth.tar", _use_new_zipfile_serialization=modern)
        found = read_checkpoint(tmp_path / "x.pth.tar")
        assert found.format == "pytorch"
        assert equal(found.part("state_dict."), tensors)
        others = ("latent_avg", "parameter", "expanded", "transposed")
        assert all(torch.equal(found.tensors[name], content[name]) for name in others)
        assert found.tensors["several.1.0"].dtype == torch.int64
        assert found.tensors.keys() == {
            *(f"state_dict.{name}" for name in tensors), *others, "several.0", "several.1.0"
        }  # fmt: skip
        assert not any(tensor.requires_grad for tensor in found.tensors.values())
        assert found.options == {
            "opts": {"encoder_type": "GradualStyleEncoder", "lr": 1e-4, "exp_dir": "/a/b", "device": "cuda:0"},
            "best_val_loss": 0.25,
            "seeds": [[0, 1, 2], [3, 4, 5]],
            "global_step": 300,
            "milestones": {"5": 2},
            "names": ["a", "b"],
            "size": [2, 3],
            "dtype": "torch.float16",
            "nothing": None,
        }
        assert json.loads(json.dumps(found.options)) == found.options

    def test_a_bare_state_dict_and_a_bare_tensor(self, modern: bool, tmp_path: Path) -> None:
        tensors = state()
        torch.save(tensors, tmp_path / "x.safetensors", _use_new_zipfile_serialization=modern)  # names prove nothing
        found = read_checkpoint(tmp_path / "x.safetensors")
        assert equal(found.tensors, tensors)
        assert found.options == {}
        torch.save(torch.ones(3), tmp_path / "y", _use_new_zipfile_serialization=modern)
        assert read_checkpoint(tmp_path / "y").tensors.keys() == {"tensor"}

    def test_no_tensors(self, modern: bool, tmp_path: Path) -> None:
        torch.save({"a": 1}, tmp_path / "x.pt", _use_new_zipfile_serialization=modern)
        refused(tmp_path / "x.pt", "holds no tensors")
        torch.save({"a.b": torch.ones(1), "a": {"b": torch.ones(2)}}, tmp_path / "y.pt")
        refused(tmp_path / "y.pt", r"two tensors of the name a\.b")

    def test_whole_modules_are_refused(self, modern: bool, tmp_path: Path) -> None:
        torch.save(nn.Linear(2, 1), tmp_path / "x.pt", _use_new_zipfile_serialization=modern)
        refused(tmp_path / "x.pt", r"asks for 'torch\.nn\.modules\.linear\.Linear'")

    def test_no_allowance_stays_behind(self, modern: bool, tmp_path: Path) -> None:
        before = set(torch.serialization.get_safe_globals())
        torch.save({"o": argparse.Namespace(a=1), "t": torch.ones(1)}, tmp_path / "x.pt")
        read_checkpoint(tmp_path / "x.pt")
        assert set(torch.serialization.get_safe_globals()) == before


# NVIDIA's pickles


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_nvidia_pickle(protocol: int, tmp_path: Path, marker: Path) -> None:
    tensors = {
        "synthesis.b4.const": torch.randn(4, 4, 4),
        "synthesis.b4.conv1.weight": torch.randn(4, 3, 3, 3).half().transpose(2, 3),
        "synthesis.b4.conv1.noise_strength": torch.randn([]),
        "synthesis.plain.0.weight": torch.randn(2),
        "synthesis.b4.resample_filter": torch.ones(4, 4),
        "synthesis.empty": torch.zeros(0, 3),
        "mapping.w_avg": torch.randn(8),
        "count": torch.tensor(3),
    }
    options = {"z_dim": 8, "c_dim": 0, "mapping_kwargs": EasyDict(num_layers=2), "cutoffs": np.array([[2.0, 3.5]])}
    network = grow(tensors, {"synthesis.b4.const", "synthesis.b4.conv1.weight"}, options)
    network.register_buffer("not_saved", torch.ones(3), persistent=False)
    network.get_submodule("mapping").register_parameter("absent", None)
    write_pickle(tmp_path / "x.pkl", snapshot(network), marker, protocol)
    assert b"open(" in (tmp_path / "x.pkl").read_bytes()  # the source is in there
    found = read_checkpoint(tmp_path / "x.pkl")
    assert found.format == "nvidia-pickle"
    assert list(found.tensors) == list(network.state_dict())
    assert equal(found.tensors, network.state_dict())
    assert found.options == {
        "class_name": "Generator",
        "z_dim": 8,
        "c_dim": 0,
        "mapping_kwargs": {"num_layers": 2},
        "cutoffs": [[2.0, 3.5]],
    }
    assert not {"torch_utils", "dnnlib", "training"} & sys.modules.keys()


ARGUMENTS = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels", "mapping_kwargs", "synthesis_kwargs",
             "channel_base", "channel_max", "conv_clamp", "num_fp16_res", "conv_kernel", "use_radial_filters",
             "magnitude_ema_beta")  # fmt: skip
BUFFERS = ("w_avg", "noise_const", "_filter", "magnitude_ema", "transform", "freqs", "phases")


def read_as_pickle(golden: Golden, path: Path, marker: Path) -> Checkpoint:
    """The network of a vector, written by the official class and read again."""
    facts, shapes = golden.construction, golden.names_and_shapes()
    tensors = {name: tensor.reshape(shapes[name]) for name, tensor in golden.state().items()}
    options = {
        name: EasyDict(facts[name]) if isinstance(facts[name], dict) else facts[name]
        for name in ARGUMENTS
        if name in facts
    }
    network = grow(tensors, {name for name in tensors if not name.endswith(BUFFERS)}, options)
    write_pickle(path, snapshot(network), marker)
    found = read_checkpoint(path)
    assert equal(found.tensors, tensors)
    assert found.options == options | {"class_name": "Generator"}
    return found


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("stylegan2_ada_64_map2", "stylegan2-ada"),
        ("stylegan3_t_64", "stylegan3"),
        ("stylegan3_r_64", "stylegan3"),
    ],
)
def test_pickle_and_what_it_is_converted_to_give_the_official_picture(
    name: str, kind: str, tmp_path: Path, marker: Path
) -> None:
    golden = Golden(name)
    found = read_as_pickle(golden, tmp_path / "x.pkl", marker)
    assert recognise(found) == kind
    assert check(found, kind) > 100_000
    convert(tmp_path / "x.pkl", tmp_path / "x.safetensors")
    count = golden.construction["num_ws"]
    codes = torch.from_numpy(normal(f"input:ws_{count}", (1, count, 512)))
    for path in ("x.pkl", "x.safetensors"):
        golden.check("image_from_ws", read_generator(tmp_path / path).synthesize(codes))


def test_pickles_of_other_kinds(tmp_path: Path, marker: Path) -> None:
    network = grow({"a.b": torch.ones(2)}, set(), {})
    path = tmp_path / "x.pkl"
    write_pickle(path, {"G": network}, marker)
    refused(path, "no network G_ema")
    write_pickle(path, [network], marker)
    refused(path, "no network G_ema")
    write_pickle(path, {"G_ema": torch.ones(2)}, marker)
    refused(path, "its G_ema is no network")
    path.write_bytes(b"\x80\x03cdnnlib.tflib.network\nNetwork\nq\x00)\x81q\x01}q\x02bh\x01h\x01\x87.")
    refused(path, "is the TensorFlow version")


def test_a_network_without_its_tensors(tmp_path: Path, marker: Path) -> None:
    path = tmp_path / "x.pkl"
    for entry, value, match in (
        ("_parameters", {"a": 3}, "'a' is no tensor"),
        ("_parameters", {"a.b": None}, "without proper _parameters"),
        ("_parameters", {"a": OrderedDict()}, "a parameter that is no tensor"),
        ("_buffers", None, "without proper _buffers"),
        ("_modules", {"m": 3}, "'m' is no module"),
    ):
        network = grow({"a.b": torch.ones(2)}, set(), {})
        network.__dict__[entry] = value
        write_pickle(path, {"G_ema": network}, marker)
        refused(path, match)


# Hostile pickles


class Calls:
    """Pickles as a call of ``function``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


def text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def hostile_pickles(marker: Path) -> dict[str, bytes]:
    """Programs that would create ``marker``, or do something else that no weights need."""
    command = f"touch {marker}"
    code = f"open({str(marker)!r}, 'w')"
    ordered = b"\x80\x02ccollections\nOrderedDict\n"
    programs = {
        "os.system": pickle.dumps(Calls(os.system, command), 2),
        "os.system, protocol 4": pickle.dumps({"a": Calls(os.system, command)}, 4),
        "eval": pickle.dumps(Calls(builtins.eval, code), 2),
        "exec": pickle.dumps(Calls(builtins.exec, code), 4),
        "subprocess": pickle.dumps(Calls(subprocess.check_output, ["touch", str(marker)]), 4),
        "getattr chain": pickle.dumps(Calls(getattr, Calls(__import__, "os"), "system"), 2),
        "nested reduce": pickle.dumps(Calls(map, Calls(eval, "print"), [Calls(os.system, command)]), 2),
        "stack global": b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + text(command) + b"\x85R.",
        "stack global of a name from the memo": b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x940h\x00h\x01\x93.",
        "stack global of no text": b"\x80\x04}}\x93.",
        "dotted name": b"\x80\x04\x8c\x0bcollections\x8c\x1eOrderedDict.__init__.__globals__\x93.",
        "inst": b"\x80\x02(" + text(command) + b"iposix\nsystem\n.",
        "obj": b"\x80\x02(cposix\nsystem\n" + text(command) + b"o.",
        "inst without a protocol": b"(S'" + command.encode() + b"'\niposix\nsystem\n.",
        "text protocol": b"cposix\nsystem\n(S'" + command.encode() + b"'\ntR.",
        "extension registry": b"\x80\x02\x82\x01.",
        "persistent text": b"\x80\x02Pfile:///etc/passwd\n.",
        "name with spaces": b"\x80\x02cos system\nx y\n.",
        "calls the result of a call": ordered + b")R)R.",
        "calls a text": b"\x80\x02" + text("os.system") + text(command) + b"\x85R.",
        "calls with no tuple": ordered + b"]R.",
        "obj of an allowed name": b"\x80\x02(ccollections\nOrderedDict\no.",
        "state of a class": ordered + b"}" + text("__setstate__") + b"Nsb.",
        "state of a dictionary": b"\x80\x02}}b.",
        "state of a list": b"\x80\x02]}b.",
        "append to a class": ordered + b"]a.",
        "items of a list": b"\x80\x02]K\x01K\x02s.",
        "set of dictionaries": b"\x80\x04\x8f(}\x90.",
        "load of bytes": pickle.dumps(Calls(torch.storage._load_from_bytes, b"cposix\nsystem\n."), 2),
        "load of bytes by pickle": pickle.dumps(Calls(pickle.loads, b"cposix\nsystem\n."), 2),
        "new object with keywords": b"\x80\x04ccollections\nOrderedDict\n)}\x92.",
        "hexadecimal without end": pickle.dumps(nested(60, codecs_encode), 2),
        "bytes without end": pickle.dumps(Calls(bytearray, 10**11), 2),
        "list without end": pickle.dumps(Calls(list, Calls(range, 10**11)), 2),
        "tensor without end": pickle.dumps(Calls(torch.FloatTensor, 10**11), 2),
        "length beyond the end": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"abc.",
        "text beyond the end": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"abc.",
        "frame beyond the end": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N",
        "memo of 4 thousand millions": b"\x80\x02Nr\xff\xff\xff\xff.",
        "memo of nothing": b"\x80\x02h\x05.",
        "stack of nothing": b"\x80\x02\x87.",
        "mark of nothing": b"\x80\x02t.",
        "two objects": b"\x80\x02NN.",
        "tuple as a key": b"\x80\x02}" + b")" + 60 * b"q\x00h\x00\x86" + b"Ns.",
        "colliding keys": b"\x80\x02}\x8a\x0b" + (3 * (2**61 - 1)).to_bytes(11, "little") + b"Ns.",
        "unfolding lists": b"\x80\x02]" + b"".join(b"q\x01](h\x01h\x01e" for _ in range(60)) + b".",
        "very deep lists": b"\x80\x02" + 50_000 * b"]" + 49_999 * b"a" + b".",
        "a list in itself": b"\x80\x02]q\x00h\x00a.",
    }  # fmt: skip
    return programs


def codecs_encode(inner: Any) -> Calls:
    return Calls(codecs.encode, inner, "hex_codec")


def nested(depth: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = "00"
    for _ in range(depth):
        value = wrap(value)
    return value


NAMES = list(hostile_pickles(Path("marker")))


def torch_zip(path: Path, program: bytes, storages: dict[str, bytes] | None = None) -> Path:
    """A zip file of PyTorch around any pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/byteorder", b"little")
        for key, content in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", content)
        archive.writestr("archive/version", b"3\n")
    return path


def torch_legacy(path: Path, program: bytes) -> Path:
    """A file of PyTorch before 1.6 around any pickle."""
    facts = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, facts)]
    path.write_bytes(b"".join((*parts, program, pickle.dumps([], 2))))
    return path


@pytest.mark.parametrize("name", NAMES)
def test_hostile_pickles_run_nothing(name: str, tmp_path: Path, marker: Path) -> None:
    program = hostile_pickles(marker)[name]
    (tmp_path / "plain.pkl").write_bytes(program)
    refused(tmp_path / "plain.pkl")
    refused(torch_zip(tmp_path / "zip.pt", program))
    refused(torch_legacy(tmp_path / "legacy.pt", program))


@pytest.mark.parametrize("name", NAMES)
def test_hostile_parts_of_a_nvidia_pickle_run_nothing(name: str, tmp_path: Path, marker: Path) -> None:
    with official_modules():
        whole = pickle.dumps(snapshot(grow({"a.b": torch.arange(3.0)}, set(), {"option": "to be replaced"})), 2)
    program = hostile_pickles(marker)[name].removeprefix(b"\x80\x02").removeprefix(b"\x80\x04").removesuffix(b".")
    assert whole.count(text("to be replaced")) == 1
    (tmp_path / "x.pkl").write_bytes(whole.replace(text("to be replaced"), program))
    if name in ("frame beyond the end", "memo of 4 thousand millions", "memo of nothing"):
        assert isinstance(read_checkpoint(tmp_path / "x.pkl").options["option"], str | None)  # harmless there
    else:
        refused(tmp_path / "x.pkl")


def test_hostile_storage_in_a_nvidia_pickle(tmp_path: Path, marker: Path) -> None:
    path = tmp_path / "x.pkl"
    inner = torch_legacy(tmp_path / "inner.pt", hostile_pickles(marker)["os.system"]).read_bytes()
    for content in (inner, b"", b"cposix\nsystem\n.", inner[:20], pickle.dumps(3)):
        network = grow({"a.b": torch.ones(2)}, set(), {})
        rebuild = (
            torch._utils._rebuild_tensor_v2,
            Calls(torch.storage._load_from_bytes, content),
            0,
            (2,),
            (1,),
            False,
        )
        network.get_submodule("a").__dict__["_buffers"] = {"b": Calls(*rebuild, OrderedDict())}
        write_pickle(path, {"G_ema": network}, marker)
        refused(path, "posix.system|no file of PyTorch|cut short")


def storage_of_three() -> torch.TypedStorage:
    return torch.TypedStorage(wrap_storage=torch.arange(3.0).untyped_storage(), dtype=torch.float32, _internal=True)


def nvidia_tensor(offset: int, shape: tuple[Any, ...], stride: tuple[Any, ...]) -> Any:
    """A network whose only tensor claims to be this part of a storage with three elements."""
    network = grow({"a.b": torch.ones(2)}, set(), {})
    rebuild = (torch._utils._rebuild_tensor_v2, storage_of_three(), offset, shape, stride, False, OrderedDict())
    network.get_submodule("a").__dict__["_buffers"] = {"b": Calls(*rebuild)}
    return network


@pytest.mark.parametrize(
    ("offset", "shape", "stride"),
    [
        (0, (4,), (1,)),
        (1, (3,), (1,)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (-2,), (1,)),
        (0, (2, 2), (1,)),
        (0, (2**40,), (0,)),
        (0, (2**30, 2**30), (0, 0)),
        (0, (2**70,), (1,)),
        (2**70, (1,), (1,)),
        (0, (2,), (2**62,)),
        (0, (2.0,), (1,)),
        (0, ((2,),), (1,)),
        (0, (1,) * 60, (1,) * 60),
    ],
)
def test_tensors_beyond_their_storage(
    offset: int, shape: tuple[Any, ...], stride: tuple[Any, ...], tmp_path: Path, marker: Path
) -> None:
    write_pickle(tmp_path / "x.pkl", {"G_ema": nvidia_tensor(offset, shape, stride)}, marker)
    refused(tmp_path / "x.pkl")
    for modern in (True, False):
        torch.save({"a": torch.arange(3.0)}, tmp_path / "x.pt", _use_new_zipfile_serialization=modern)
        assert read_checkpoint(tmp_path / "x.pt").tensors["a"].tolist() == [0, 1, 2]
        buffer = io.BytesIO()
        rebuild = Calls(
            torch._utils._rebuild_tensor_v2, storage_of_three(), offset, shape, stride, False, OrderedDict()
        )
        torch.save({"a": rebuild}, buffer, _use_new_zipfile_serialization=modern)
        (tmp_path / "x.pt").write_bytes(buffer.getvalue())
        refused(tmp_path / "x.pt")


def test_a_storage_of_another_size_than_the_file_has(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(300.0)}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        program = archive.read(name)
    claim = b"M\x2c\x01"  # 300
    assert program.count(claim) == 2
    for elements in (b"J\xff\xff\xff\x7f", b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"K\x03", b"J\xff\xff\xff\xff"):
        path = torch_zip(tmp_path / "x.pt", program.replace(claim, elements), {"0": bytes(1200)})
        refused(path)
    assert len(read_checkpoint(torch_zip(tmp_path / "x.pt", program, {"0": bytes(1200)})).tensors["a"]) == 300
    refused(torch_zip(tmp_path / "x.pt", program, {"0": bytes(1199)}), "has 1200 bytes, the file has 1199")
    refused(torch_zip(tmp_path / "x.pt", program), "the file has none")

    torch.save({"a": torch.arange(300.0)}, tmp_path / "y.pt", _use_new_zipfile_serialization=False)
    legacy = (tmp_path / "y.pt").read_bytes()
    (tmp_path / "y.pt").write_bytes(legacy.replace(claim, b"J\xff\xff\xff\x7f"))
    refused(tmp_path / "y.pt", "a storage is not where")
    giant = struct.pack("<q", 300), struct.pack("<q", 2**31 - 1)
    (tmp_path / "y.pt").write_bytes(legacy.replace(claim, b"J\xff\xff\xff\x7f").replace(*giant))
    refused(tmp_path / "y.pt", "the file has")


def test_modules_in_themselves_and_modules_without_end(tmp_path: Path, marker: Path) -> None:
    cycle = grow({"a.b": torch.ones(2)}, set(), {})
    cycle.__dict__["_modules"]["again"] = cycle.get_submodule("a")
    cycle.get_submodule("a").__dict__["_modules"] = {"a": None}
    inner: Persistent = Layer()
    for _ in range(31):  # two paths at each level: 2^31 modules when walked
        outer = Layer()
        outer.__dict__["_modules"].update(x=inner, y=inner)
        inner = outer
    folded = grow({"a.b": torch.ones(2)}, set(), {})
    folded.__dict__["_modules"]["c"] = inner
    write_pickle(tmp_path / "x.pkl", {"G_ema": folded}, marker)
    refused(tmp_path / "x.pkl", "repeat endlessly")

    # Pickle cannot write a persistent module that contains itself, but plain ones can: torch.nn's.
    plain = nn.ModuleList()
    plain.__dict__["_modules"]["0"] = plain
    folded.__dict__["_modules"]["c"] = plain
    write_pickle(tmp_path / "x.pkl", {"G_ema": folded}, marker)
    refused(tmp_path / "x.pkl", "contain themselves")


def test_one_storage_under_many_names(tmp_path: Path, marker: Path) -> None:
    shared = torch.ones(100_000)
    tensors = {f"a{i}": shared for i in range(100)}
    torch.save(tensors, tmp_path / "x.pt")
    refused(tmp_path / "x.pt", "unfold to tensors of 40000000 bytes")
    write_pickle(tmp_path / "x.pkl", {"G_ema": grow(tensors, set(), {})}, marker)
    refused(tmp_path / "x.pkl", "unfold to tensors of 40000000 bytes")


def test_zip_bombs(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        with archive.open("archive/data/0", "w") as member:
            for _ in range(300):
                member.write(bytes(2**20))
    assert path.stat().st_size < 2**21
    refused(path, "'archive/data.pkl' is compressed")

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data/0", bytes(100))
    whole = bytearray(path.read_bytes())
    at = whole.rindex(b"PK\x01\x02")  # the directory's entry of data/0
    whole[at + 20 : at + 28] = struct.pack("<II", 2**31, 2**31)
    path.write_bytes(whole)
    refused(path, "lie beyond its end")

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("archive/data.pkl", b"\x80\x02}.")
    refused(path, "overlap")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("README", b"text")
    refused(path, "unpack it")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/constants.pkl", b"\x80\x02).")
    refused(path, "TorchScript")


# Damaged and other files


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small file of each format."""
    folder = tmp_path_factory.mktemp("whole")
    tensors = state()
    torch.save({"state_dict": tensors, "opts": argparse.Namespace(a=1), "l": np.float32(1)}, folder / "zip.pt")
    torch.save({"g_ema": tensors, "n": np.float32(1)}, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    network = grow({f"a.{name}": tensor for name, tensor in tensors.items()}, {"a.0.weight"}, {"z": EasyDict(x=1)})
    write_pickle(folder / "x.pkl", snapshot(network), folder / "marker")
    write_tensors(folder / "x.safetensors", tensors, {"options": '{"a": 1}'})
    (folder / "x.xml").write_text(
        "<?xml version='1.0'?><net><layers><layer id='0' name='a' type='Const'><data element_type='f32' shape='2,3' "
        "offset='0' size='24'/></layer><layer id='1' type='Add'/></layers><edges><edge from-layer='0' to-layer='1'/>"
        "</edges></net>"
    )
    (folder / "x.bin").write_bytes(bytes(24))
    with zipfile.ZipFile(folder / "zip.pt") as archive:
        (folder / "data.pkl").write_bytes(archive.read("zip/data.pkl"))
    return folder


FORMATS = ["zip.pt", "legacy.pt", "x.pkl", "x.safetensors", "x.xml"]


@pytest.mark.parametrize("name", FORMATS)
def test_truncated_files(name: str, whole_files: Path, tmp_path: Path) -> None:
    whole = (whole_files / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(whole)
    shutil.copy(whole_files / "x.bin", tmp_path)
    read_checkpoint(path)
    for length in {1, 2, 9, 15, 40, len(whole) // 4, len(whole) // 2, len(whole) * 9 // 10, len(whole) - 1}:
        path.write_bytes(whole[:length])
        refused(path)
    path.write_bytes(b"")
    refused(path, "is empty")


CHANGES = st.lists(
    st.tuples(st.sampled_from(["set", "insert", "delete", "copy"]), st.integers(0, 2**16), st.integers(0, 2**16)),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("name", [*FORMATS, "data.pkl"])
@settings(max_examples=150, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=CHANGES)
def test_any_damage_is_refused_or_harmless(
    name: str, whole_files: Path, tmp_path: Path, changes: list[tuple[str, int, int]]
) -> None:
    damaged = bytearray((whole_files / name).read_bytes())
    for kind, place, value in changes:
        at = place % len(damaged)
        if kind == "set":
            damaged[at] = value % 256
        elif kind == "insert":
            damaged[at:at] = value.to_bytes(4, "little")
        elif kind == "delete":
            del damaged[at : at + 1 + value % 8]
        else:
            damaged[at:at] = damaged[value % len(damaged) :][:64]
    path = tmp_path / name
    if name == "data.pkl":
        with zipfile.ZipFile(whole_files / "zip.pt") as archive:
            storages = {str(key): archive.read(f"zip/data/{key}") for key in range(7)}
        torch_zip(path, damaged, storages)
    else:
        path.write_bytes(damaged)
        shutil.copy(whole_files / "x.bin", tmp_path)
    with suppress(Refusal):  # and nothing else
        for tensor in read_checkpoint(path).tensors.values():
            tensor.contiguous().sum()


def test_truncated_graphs(assets: Path, tmp_path: Path) -> None:
    folder = assets / "mobilestylegan"
    for name in ("MappingNetwork", "SynthesisNetwork"):
        for suffix in (".xml", ".bin"):
            shutil.copy(folder / f"{name}{suffix}", tmp_path)
    graph = read_checkpoint(tmp_path / "MappingNetwork.xml")
    assert graph.format == "openvino-ir"
    assert sum(tensor.numel() for tensor in graph.tensors.values()) > 8 * 512 * 512
    for suffix, shares in ((".xml", (0.1, 0.5, 0.9)), (".bin", (0, 0.5, 0.99))):
        path = tmp_path / f"MappingNetwork{suffix}"
        whole = path.read_bytes()
        for share in shares:
            path.write_bytes(whole[: int(share * len(whole))])
            refused(tmp_path / "MappingNetwork.xml")
            with pytest.raises(Refusal, match="MappingNetwork"):
                convert(tmp_path, tmp_path / "out.safetensors")
        path.write_bytes(whole)


def test_entities_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"")
    for encoding in ("utf-8", "utf-16"):
        document = f"<?xml version='1.0' encoding='{encoding}'?><!DOCTYPE net [<!ENTITY a 'b'>]><net>&a;</net>"
        (tmp_path / "x.xml").write_bytes(document.encode(encoding))
        with pytest.raises(Refusal, match="declares a document type"):
            read_constants(tmp_path / "x.xml")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title>", "is a web page .*Google Drive"),
        (b"\xef\xbb\xbf\n  <html lang='en'>", "is a web page"),
        (b"<?xml version='1.0'?><!DOCTYPE html><html xmlns='http://www.w3.org/1999/xhtml'>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        (b"hello", "is no file of weights"),
        (b"\x1f\x8b\x08\x00 gzip", "is no file of weights"),
        (b"\x89HDF\r\n\x1a\n", "is no file of weights"),
        (bytes(10_000), "is no file of weights"),
        (b"<?xml version='1.0'?><net/>", "not an OpenVINO IR"),
        (b"<net><layers/></net>", "not an OpenVINO IR"),
        (b"<?xml version='1.0'?><!DOCTYPE net [<!ENTITY a 'b'>]><net/>", "declares a document type"),
        (b"<?xml version='1.0' encoding='of their own'?><net/>", "not the XML"),
        ((10).to_bytes(8, "little") + b"{}", "is no file of weights"),
        ((2).to_bytes(8, "little") + b"{}" + bytes(9), "no safetensors file"),
        (b"PK\x03\x04 and so on", "no whole zip archive"),
    ],
)
def test_other_files(content: bytes, match: str, tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(content)
    (tmp_path / "x.bin").write_bytes(b"")
    refused(tmp_path / "x.pkl", match)


def test_no_file(tmp_path: Path) -> None:
    refused(tmp_path / "x.pt", "there is no weights file")


# safetensors


def test_safetensors_of_the_project_and_of_others(tmp_path: Path) -> None:
    network = StyleGAN2(TINY)
    write_network(tmp_path / "n.safetensors", network, {"steps": 3})
    found = read_checkpoint(tmp_path / "n.safetensors")
    assert found.tensors.keys() == network.state_dict().keys()
    assert found.options["network"] == "StyleGAN2"
    assert found.options["size"]["resolution"] == 32
    save_file({"a": torch.ones(2)}, tmp_path / "s", {"format": "pt"})
    assert read_checkpoint(tmp_path / "s").options == {"format": "pt"}
    for options in ("[", "3", "[" * 100_000):
        save_file({"a": torch.ones(2)}, tmp_path / "s", {"options": options})
        refused(tmp_path / "s", "options in its header")


def test_the_writer_and_the_library_agree(tmp_path: Path) -> None:
    types = (*(torch.float64, torch.float32, torch.float16, torch.bfloat16), *(torch.int64, torch.int32, torch.int16),
             *(torch.int8, torch.uint8, torch.bool))  # fmt: skip
    tensors = {
        f"{i}.{j}": torch.randn(shape).mul(9).to(dtype)
        for i, dtype in enumerate(types)
        for j, shape in enumerate([(), (3,), (0, 2), (2, 3)])
    }
    tensors |= {"transposed": torch.randn(2, 3).t(), "expanded": torch.ones(1).expand(4)}
    write_tensors(tmp_path / "a", tensors, {"b": "é"})
    assert equal(load_file(tmp_path / "a"), tensors)
    first = (tmp_path / "a").read_bytes()
    write_tensors(tmp_path / "a", dict(reversed(tensors.items())), {"b": "é"})
    assert (tmp_path / "a").read_bytes() == first
    with pytest.raises(Refusal, match="no place for c"):
        write_tensors(tmp_path / "a", {"c": torch.ones(1, dtype=torch.complex64)}, {})
    assert (tmp_path / "a").read_bytes() == first
    assert {path.name for path in tmp_path.iterdir()} == {"a"}


@pytest.mark.parametrize("name", FORMATS)
def test_converted_files_hold_what_the_original_held(name: str, whole_files: Path, tmp_path: Path) -> None:
    shutil.copytree(whole_files, tmp_path, dirs_exist_ok=True)
    path = tmp_path / name
    original = read_checkpoint(path)
    for out in ("a", "b"):
        write_checkpoint(tmp_path / out, original, "any", {"name": name})
    converted = read_checkpoint(tmp_path / "a")
    assert equal(converted.tensors, original.tensors)
    assert converted.options == original.options
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# Kinds, and the command


OFFICIAL = {
    "stylegan2": {"g_ema.": "stylegan2_rosinality_256"},
    "stylegan2-ada": {"": "stylegan2_ada_64_map8"},
    "stylegan3": {"": "stylegan3_r_1024_keys"},
    "stylegan1": {"": "idinvert_generator_256"},
    "fse-encoder": {"": "fse_encoder_stride2"},
    "fse-training": {"enc_state_dict.": "fse_encoder_video_stride2"},
    "psp": {"state_dict.encoder.": "psp_gradual_style_encoder", "state_dict.decoder.": "stylegan2_rosinality_1024"},
    "e4e": {"state_dict.encoder.": "e4e_encoder4editing", "state_dict.decoder.": "stylegan2_rosinality_1024"},
    "restyle-psp": {
        "state_dict.encoder.": "restyle_psp_backbone_encoder", "state_dict.decoder.": "stylegan2_rosinality_1024"
    },
    "restyle-e4e": {
        "state_dict.encoder.": "restyle_e4e_progressive_backbone_encoder",
        "state_dict.decoder.": "stylegan2_rosinality_1024",
    },
    "hfgi": {
        "state_dict.encoder.": "e4e_encoder4editing",
        "state_dict.decoder.": "stylegan2_rosinality_1024",
        "state_dict.residue.": "hfgi_residual_encoder",
        "state_dict.grid_align.": "hfgi_residual_aligner",
    },
    "idinvert-encoder": {"": "idinvert_encoder_256"},
    "vgg16": {"": "idinvert_vgg16"},
    "arcface": {"": "arcface_iresnet50"},
    "ir-se-50": {"": "ir_se50_backbone"},
    "bisenet": {"": "bisenet_face_parsing"},
}  # fmt: skip
ENCODER_TYPES = {
    "psp": "GradualStyleEncoder",
    "e4e": "Encoder4Editing",
    "restyle-psp": "BackboneEncoder",
    "restyle-e4e": "ProgressiveBackboneEncoder",
}


def official(name: str) -> Checkpoint:
    """Names and shapes of an official file, without memory for its tensors."""
    tensors = {
        prefix + key: torch.empty(shape, device="meta")
        for prefix, vector in OFFICIAL[name].items()
        for key, shape in Golden(vector).names_and_shapes().items()
    }
    if "state_dict.encoder." in OFFICIAL[name]:
        tensors["latent_avg"] = torch.empty(18, 512, device="meta")
    options = {"opts": {"encoder_type": ENCODER_TYPES[name]}} if name in ENCODER_TYPES else {}
    return Checkpoint(Path("x.pt"), "pytorch", tensors, options)


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_files_are_recognised_and_whole(name: str) -> None:
    checkpoint = official(name)
    assert recognise(checkpoint) == name
    assert check(checkpoint, name) > 10_000
    last = list(checkpoint.tensors)[-1]
    without = Checkpoint(
        checkpoint.path, "pytorch", {k: v for k, v in checkpoint.tensors.items() if k != last}, checkpoint.options
    )
    with pytest.raises(Refusal, match=r"is missing|instead of"):
        check(without, name)


def test_curricularface_is_recognised() -> None:
    with torch.device("meta"):
        tensors = IRFace(CURRICULARFACE).state_dict()
    checkpoint = Checkpoint(Path("CurricularFace_Backbone.pth"), "pytorch", tensors, {})
    assert recognise(checkpoint) == "curricularface"
    assert check(checkpoint, "curricularface") > 60_000_000


def test_every_kind_is_recognised_by_a_test() -> None:
    elsewhere = {"hyperstyle", "w-encoder", "styleres"}  # in the tests of these methods
    assert KINDS.keys() == {*OFFICIAL, "mobilestylegan", "curricularface", *elsewhere}


def tiny_generator(path: Path, **changes: Tensor) -> StyleGAN2:
    network = StyleGAN2(TINY)
    torch.save({"g_ema": network.state_dict() | changes, "latent_avg": torch.randn(8)}, path)
    return network


def test_convert(tmp_path: Path) -> None:
    source, out = tmp_path / "x.pt", tmp_path / "folder/x.safetensors"
    network = tiny_generator(source)
    line = convert(source, out)
    assert "stylegan2" in line
    assert f"{source.stat().st_size:,} ->" in line
    found = read_checkpoint(out)
    assert equal(found.part("g_ema."), network.state_dict())
    first = out.read_bytes()
    convert(source, out)
    assert out.read_bytes() == first
    header = json.loads(first[8 : 8 + int.from_bytes(first[:8], "little")])["__metadata__"]
    assert (header["format"], header["kind"]) == ("pytorch", "stylegan2")
    provenance = json.loads(header["provenance"])
    assert (provenance["name"], provenance["size"]) == ("x.pt", source.stat().st_size)
    assert len(provenance["sha256"]) == 64


def test_convert_refuses(tmp_path: Path) -> None:
    source, out = tmp_path / "x.pt", tmp_path / "x.safetensors"
    tiny_generator(source)
    with pytest.raises(Refusal, match=r"has the SHA-256 \w{64} and not 00"):
        convert(source, out, expected_sha256="00")
    with pytest.raises(Refusal, match=r"enc_state_dict|content_layer|conv\.0\.weight"):
        convert(source, out, "fse-encoder")
    with pytest.raises(Refusal, match="there is no file"):
        convert(tmp_path / "y", out)
    with pytest.raises(Refusal, match="is a folder"):
        convert(source, tmp_path)
    tiny_generator(source, **{"convs.1.conv.weight": torch.ones(1, 8, 9, 3, 3)})
    with pytest.raises(
        Refusal, match=r"convs\.1\.conv\.weight has shape \(1, 8, 9, 3, 3\) instead of \(1, 8, 8, 3, 3\)"
    ):
        convert(source, out)
    torch.save({"a": torch.ones(2)}, source)
    with pytest.raises(Refusal, match=r"1 tensors \(a, \.\.\.\) of no network that is known here \(fse-encoder,"):
        convert(source, out)
    assert "1 tensors" in convert(source, out, "any")
    out.unlink()
    with pytest.raises(Refusal, match="is no e4e"):
        check(official("psp"), "e4e")
    assert {path.name for path in tmp_path.iterdir()} == {"x.pt"}


def test_the_embedded_generator_as_one_file(assets: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    assert "mobilestylegan" in convert(assets / "mobilestylegan", out)
    assert check(read_checkpoint(out), "mobilestylegan") > 10_000_000
    with pytest.raises(Refusal, match="is missing"):
        convert(tmp_path, tmp_path / "n.safetensors")


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipelines.convert", *map(str, arguments)], capture_output=True, text=True, cwd=ROOT
    )


def test_the_command(tmp_path: Path, marker: Path) -> None:
    tiny_generator(tmp_path / "x.pt")
    done = command(tmp_path / "x.pt", tmp_path / "x.safetensors", "--expect", "stylegan2")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{tmp_path / 'x.safetensors'}: stylegan2, ")
    assert done.stdout.count("\n") == 1

    (tmp_path / "y.pkl").write_bytes(hostile_pickles(marker)["os.system, protocol 4"])
    done = command(tmp_path / "y.pkl", tmp_path / "y.safetensors")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert "asks for 'posix.system'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "y.safetensors").exists()
