"""Times and memory that add up, and what follows from them on paper."""

from __future__ import annotations

import json
import mmap
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data
from torch.utils.flop_counter import FlopCounterMode

from eval import speed
from eval.contest import Places
from eval.profile import Profile
from eval.speed import (
    GeneratorClock,
    SpeedSettings,
    measure,
    render,
    seconds_a_frame,
    section,
    tables_of,
    time_method,
    time_steps_around,
)
from eval.stopwatch import MIB, Stopwatch, busy
from eval.tables import Table
from fse.inverter import CodesInverter, FeatureStyleInverter
from fse.refusal import Refusal
from fse.video.clip import ClipWriter, Colour, Frame, planes_of
from tests.tiny import tiny_encoder, tiny_generator, tiny_pyramid

CPU = torch.device("cpu")
SETTINGS = SpeedSettings(batch=2, repeats=2, seconds=5.0, frames=3)


@dataclass(frozen=True)
class TinyProfile(Profile):
    """Methods that need no training, at 64 px."""

    def method(self, name: str, generator: object = None) -> CodesInverter | FeatureStyleInverter:  # type: ignore[override]
        tiny = tiny_generator()
        if name == "fse":
            return FeatureStyleInverter(tiny_encoder(tiny), tiny)
        return CodesInverter(tiny_pyramid(tiny), tiny)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face at rest, 320 x 320."""
    path = tmp_path_factory.mktemp("videos") / "videos/00.mp4"
    pixels = np.ascontiguousarray(data.astronaut()[:320, 60:380])
    colour = Colour(1, 1, 1)
    with ClipWriter(path, 320, 320, Fraction(25), colour=colour) as writer:
        for number in range(6):
            writer.write(Frame(number, number, 1, planes_of(pixels, colour), colour))
    return path


def test_the_watch_waits_counts_and_sees_the_peak() -> None:
    watch = Stopwatch(CPU)
    watch.running = False
    with watch("sleep"):
        time.sleep(0.001)
    assert watch.timings["sleep"].seconds == []
    watch.running = True
    with watch("sleep"):
        time.sleep(0.02)
    with watch("allocate"), mmap.mmap(-1, 64 * MIB) as block:  # whatever the process has kept
        block.write(b"x" * len(block))
    with watch("rest"):
        pass
    assert 0.02 <= watch.timings["sleep"].seconds[0] < 1
    assert watch.timings["allocate"].peak - watch.timings["rest"].peak > 50 * MIB or not Path("/proc/self").exists()
    summary = watch.timings["sleep"].summary(pictures=2)
    assert summary["repeats"] == 1
    assert summary["low"] == summary["median"] == summary["high"] == watch.timings["sleep"].seconds[0] / 2


@pytest.mark.parametrize("name", ["psp", "fse"])
def test_encoding_and_synthesis_add_up_to_the_inversion(name: str) -> None:
    pictures = torch.zeros(2, 3, 64, 64)
    profile = TinyProfile()
    found = time_method(name, profile, pictures, SETTINGS)
    for values in found["batches"].values():
        assert values["encode"]["median"] + values["synthesise"]["median"] == pytest.approx(
            values["invert"]["median"], rel=0.5
        )
        assert 0 < values["synthesise"]["median"] < values["invert"]["median"]
        assert all(value["repeats"] == SETTINGS.repeats for value in values.values())
        peaks = [values[step]["peak_mib"] for step in ("encode", "synthesise", "edit")]
        assert min(peaks) > 0
        assert values["invert"]["peak_mib"] >= max(peaks[:2])
    assert list(found["batches"]) == ["1", "2"]

    method = profile.method(name)
    network = method.network if isinstance(method, CodesInverter) else method.encoder
    assert found["parameters"] == sum(p.numel() for p in network.parameters())
    assert found["generator_parameters"] == sum(p.numel() for p in tiny_generator().parameters())
    inversion = method.invert(pictures[:1])
    for work, expected in (
        (lambda: method.generator.synthesize(inversion.codes, inversion.feature), found["generator_macs"]),
        (lambda: network(pictures[:1]), found["encoder_macs"]),
    ):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            work()
        assert counter.get_total_flops() == 2 * expected > 0


def test_a_generator_that_calls_itself_is_counted_once_and_none_is_no_failure() -> None:
    class Generator(torch.nn.Module):
        def synthesize(self, x: torch.Tensor) -> torch.Tensor:
            return self.feature(x)

        def feature(self, x: torch.Tensor) -> torch.Tensor:
            time.sleep(0.01)
            return x

    class Method:
        generator = Generator()

        def invert(self, pictures: torch.Tensor) -> Any:
            return self.generator.synthesize(pictures)

    method: Any = Method()
    clock = GeneratorClock(method, Stopwatch(CPU))
    start = time.perf_counter()
    method.invert(torch.zeros(1))
    assert 0.01 <= clock.seconds <= time.perf_counter() - start
    assert GeneratorClock(object(), Stopwatch(CPU)).seconds == 0  # type: ignore[arg-type]


def test_the_steps_around_are_timed_on_a_real_clip(clip: Path, assets: Path) -> None:
    found = time_steps_around(clip, Profile(assets), SETTINGS)
    assert found["size"] == "320 x 320"
    assert list(found["steps"]) == ["read", "track", "align", "paste", "write"]
    for values in found["steps"].values():
        assert values["repeats"] == SETTINGS.frames
        assert 0 < values["low"] <= values["median"] <= values["high"]
        assert values["peak_mib"] > 50


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux' record of the process")
def test_freed_memory_stays_where_it_is_asked_to() -> None:
    """Resident memory after 200 MiB were written and freed, in processes of their own."""
    script = (
        "import sys; from fse.allocator import keep_freed_memory; kept = 'keep' in sys.argv and keep_freed_memory();"
        "block = b'x' * (200 << 20); del block;"
        "print(kept, open('/proc/self/status').read().split('VmRSS:')[1].split()[0])"
    )
    found = {}
    for argument in ("keep", "plain"):
        done = subprocess.run([sys.executable, "-c", script, argument], capture_output=True, text=True, check=True)
        kept, resident = done.stdout.split()
        found[argument] = kept == "True", int(resident) * 1024
    assert found["plain"][1] < found["keep"][1] or not found["keep"][0]
    if platform.libc_ver()[0] == "glibc":
        assert found["keep"][0]
        assert found["keep"][1] - found["plain"][1] > 190 * MIB


def test_without_clips_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"there are no videos in .*videos: run `make repro`"):
        measure(Places(clips=tmp_path), Profile(), SETTINGS)


def step(milliseconds: float, repeats: int = 5) -> dict[str, float]:
    seconds = milliseconds / 1000
    return {"median": seconds, "low": 0.9 * seconds, "high": 1.2 * seconds, "repeats": repeats, "peak_mib": 700.0}


def measured() -> dict[str, Any]:
    """pSp needs 30 ms a frame and FSE 33; the steps around take 10."""

    def method(encode: float, synthesise: float, edit: float) -> dict[str, Any]:
        one = {"invert": step(encode + synthesise), "encode": step(encode), "synthesise": step(synthesise)}
        one["edit"] = step(edit)
        many = {name: {**value, "median": 0.5 * value["median"]} for name, value in one.items()}
        sizes = {"parameters": 5_000_000, "generator_parameters": 9_000_000}
        return {"batches": {"1": one, "8": many}, **sizes, "encoder_macs": 10**9, "generator_macs": 4 * 10**9}

    return {
        "device": "Some CPU", "memory": "resident", "threads": 2, "cores": 2, "busy_before": 0.1, "resolution": 256,
        "batch": 8, "clip": "400 x 400",
        "steps": {name: step(2) for name in speed.AROUND},
        "methods": {"psp": method(10, 20, 20), "fse": method(13, 20, 60)},
    }  # fmt: skip


def test_real_time_is_what_the_steps_add_up_to() -> None:
    found = measured()
    assert seconds_a_frame(found, "psp") == pytest.approx({"inversion": 0.015, "video": 0.01 + 0.015 + 0.01})
    assert seconds_a_frame(found, "fse")["video"] == pytest.approx(0.01 + 0.0165 + 0.03)
    table, [around, real_time, published] = tables_of(found)
    assert [(row[0], row[3], row[6]) for row in real_time.rows] == [
        ("pSp", "yes", "yes"),
        ("FSE, G(F, w)", "yes", "no"),
    ]
    assert len(around.rows) == 5
    ratios = {row[0]: row[1:] for row in published.rows}
    assert ratios["FSE, G(F, w)"] == ["1.10", "0.038", "1.12", "—", "—"]
    assert ratios["HFGI"] == ["—", "0.072", "2.12", "0.067", "1.63"]
    assert "V100: Bobkov et al." in published.notes[0]
    cells = table.rows[0].cells
    fps = cells["fps_1"]
    assert (fps.mean, fps.low, fps.high) == pytest.approx((1 / 0.030, 1 / 0.036, 1 / 0.027))
    assert cells["encoder_gmacs"].mean == 1


def test_a_busy_machine_is_owned_up_to() -> None:
    assert not any("at rest" in note for note in tables_of(measured())[0].notes)
    table, _ = tables_of(measured() | {"busy_before": 1.8})
    assert "others used 1.8 of its 2 cores" in table.notes[-1]
    assert not any("at rest" in note for note in tables_of(measured() | {"busy_before": None})[0].notes)
    others = busy(0.05)
    assert others is None or others >= 0


def test_the_files_and_the_section_say_where_it_was_measured(tmp_path: Path) -> None:
    places = Places(reports=tmp_path)
    assert section(places) is None
    printed = render(places, measured(), {"code": {}})
    assert isinstance(printed[0], Table)
    kept = json.loads((tmp_path / "speed.json").read_text())
    assert kept["provenance"] == {"code": {}}
    assert kept["methods"]["fse"]["batches"]["8"]["edit"]["repeats"] == 5
    for suffix in ("md", "tex"):
        assert "Some CPU, 2 threads" in (tmp_path / f"speed.{suffix}").read_text()
    assert "psp,10,9,12" in (tmp_path / "speed.csv").read_text()
    found = section(places)
    assert found is not None
    assert found.introduction == [
        "Measured on Some CPU, 2 threads.",
        "Inversion alone at 25 frames a second: pSp, FSE, G(F, w).",
        "The whole edit of a video at 25 frames a second: pSp.",
    ]
    assert len(found.tables) == 4
