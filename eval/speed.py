"""Speed: ``python -m eval.speed`` times every step of inverting and editing a clip, and says what runs in real time.

The steps are those of :func:`fse.video.editing.edit_clip`. What does not depend on the method (reading, tracking with
detection and landmarks, aligning, pasting, writing) is timed frame by frame on a clip. What does (encoding,
synthesis, editing) is timed for each method in a process of its own, so that its peak memory is its own: with one
picture, and with a batch. A method's time in its generator counts as synthesis, the rest of its inversion as encoding.

Numbers are medians with quartiles after a warm-up. They belong to the machine and the threads that are named with
them, differ from run to run, and take no part in the tolerance gate.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from eval.clips import RECORD, read_clips
from eval.contest import METHODS, OUT_OF_CONTEST, Places
from eval.profile import Profile
from eval.provenance import cpu_model, gpu_model, provenance
from eval.section import Section
from eval.set_table import write_forms
from eval.stopwatch import Stopwatch, Timing, busy, forget_peak, peak
from eval.table1 import read_parameters
from eval.tables import ABSENT, Column, Estimate, Row, Table, TextTable
from fse.alignment import FaceAligner
from fse.allocator import keep_freed_memory
from fse.device import usable_device
from fse.inversion import InversionMethod
from fse.pictures import read_picture, tensor_from_image
from fse.refusal import Refusal, exit_on_refusal
from fse.video.aligned import AlignedFrame
from fse.video.clip import ClipReader, ClipWriter
from fse.video.pasting import face_mask, paste
from fse.video.tracking import track_face

REAL_TIME = 25
"""Frames a second."""

OPTIMISING = ("wplus", "idinvert")
"""Methods that optimise each picture, for minutes: not timed."""

WARM = 2
"""Repeats before the watch runs; of a clip, frames."""

INVERT, ENCODE, SYNTHESISE, EDIT = "invert", "encode", "synthesise", "edit"
AROUND = {  # steps that no method changes, in order
    "read": "Read (decode)",
    "track": "Track (detection, 68 landmarks)",
    "align": "Align (FFHQ crop)",
    "paste": "Paste (feathered mask)",
    "write": "Write (encode H.264)",
}


@dataclass(frozen=True)
class SpeedSettings:
    """How much is timed.

    Attributes
    ----------
    batch : int
        Pictures of the larger batch.
    repeats : int
        Of each measurement, at most.
    seconds : float
        After which no further repeat of a measurement begins; there are two at least.
    frames : int
        Of the clip, on which the steps around the methods are timed.
    """

    batch: int = 8
    repeats: int = 5
    seconds: float = 6.0
    frames: int = 16


class GeneratorClock:
    """How long a method's generator works, with how many operations and how much memory, and how much the rest needs.

    A method without an attribute ``generator`` cannot be told apart: all of it counts as the rest.
    """

    def __init__(self, method: InversionMethod, watch: Stopwatch) -> None:
        self.generator: nn.Module | None = getattr(method, "generator", None)
        self.counter: FlopCounterMode | None = None
        self._watch, self._depth = watch, 0
        self.restart()
        for name in ("synthesize", "feature") if self.generator is not None else ():
            setattr(self.generator, name, self._timed(getattr(self.generator, name)))

    def restart(self) -> None:
        self.seconds, self.flops = 0.0, 0
        self.peak_inside, self.peak_outside = 0, 0

    def _timed(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def timed(*arguments: Any, **options: Any) -> Tensor:
            if self._depth:  # one calls the other
                return function(*arguments, **options)
            self._depth += 1
            try:
                device = self._watch.device
                self._watch.wait()
                self.peak_outside = max(self.peak_outside, peak(device))
                forget_peak(device)
                start, before = time.perf_counter(), self._counted()
                result = function(*arguments, **options)
                self._watch.wait()
                self.seconds += time.perf_counter() - start
                self.flops += self._counted() - before
                self.peak_inside = max(self.peak_inside, peak(device))
                forget_peak(device)
                return result
            finally:
                self._depth -= 1

        return timed

    def _counted(self) -> int:
        return int(self.counter.get_total_flops()) if self.counter is not None else 0


def time_method(name: str, profile: Profile, pictures: Tensor, settings: SpeedSettings) -> dict[str, Any]:
    """Seconds a picture and peak memory by batch and step, weights and operations of one method.

    Memory is looked at first, in one pass. Then the process keeps what it frees, as the stages that invert do
    (:mod:`fse.allocator`), and is timed.

    pictures: (N, 3, R, R) in [-1, 1], at least ``settings.batch`` of them. For a process of its own.
    """
    method = profile.method(name)
    watch = Stopwatch(profile.device)
    clock = GeneratorClock(method, watch)
    size = _size(method, clock, pictures[:1].to(profile.device))
    batches = {number: pictures[:number].to(profile.device) for number in dict.fromkeys((1, settings.batch))}
    once = replace(settings, repeats=1)
    memory = {number: _steps(method, clock, watch, batch, once, warm=0) for number, batch in batches.items()}
    keep_freed_memory()
    times = {number: _steps(method, clock, watch, batch, settings) for number, batch in batches.items()}
    found: dict[str, Any] = {}
    for number, timings in times.items():
        for step, timing in timings.items():
            timing.peak = memory[number][step].peak
        found[str(number)] = {step: timing.summary(number) for step, timing in timings.items()}
    return {"batches": found, **size}


def _steps(
    method: InversionMethod,
    clock: GeneratorClock,
    watch: Stopwatch,
    batch: Tensor,
    settings: SpeedSettings,
    warm: int = WARM,
) -> dict[str, Timing]:
    """STEP -> timing, of an inversion and its two parts and of an edit."""
    watch.timings.clear()
    edit = _edit(method, batch)
    for _ in _repeats(watch, settings, warm):
        clock.restart()
        with watch(INVERT):
            method.invert(batch)
        inversion = watch.timings[INVERT]
        if watch.running:
            inversion.peak = max(inversion.peak, clock.peak_inside, clock.peak_outside)
            watch.add(SYNTHESISE, clock.seconds, clock.peak_inside)
            watch.add(ENCODE, inversion.seconds[-1] - clock.seconds, clock.peak_outside or inversion.peak)
    for _ in _repeats(watch, settings, warm):
        clock.restart()
        with watch(EDIT):
            edit()
        watch.timings[EDIT].peak = max(watch.timings[EDIT].peak, clock.peak_inside, clock.peak_outside)
    return {step: watch.timings[step] for step in (INVERT, ENCODE, SYNTHESISE, EDIT)}


def _repeats(watch: Stopwatch, settings: SpeedSettings, warm: int) -> Iterator[int]:
    """Warm-ups with the watch stopped, then repeats with it running."""
    begun = time.perf_counter()
    for repeat in range(warm + settings.repeats):
        watch.running = repeat >= warm
        if repeat >= warm + 2 and time.perf_counter() - begun > settings.seconds:
            return
        yield repeat


def _edit(method: InversionMethod, batch: Tensor) -> Callable[[], Tensor]:
    """Along a direction of unit length, which one does not matter here."""
    inversion = method.invert(batch)
    direction = torch.ones(inversion.codes.shape[1:], device=batch.device)
    direction /= direction.norm()
    return lambda: method.edit(inversion, direction, 1.0)


@torch.no_grad()
def _size(method: InversionMethod, clock: GeneratorClock, picture: Tensor) -> dict[str, int]:
    """Parameters of the method's networks and of its generator; multiply-adds of convolutions and matrix products in
    an inversion of one picture, those in the generator apart."""
    parts = [value for value in vars(method).values() if isinstance(value, nn.Module)]
    networks = [value for value in parts if value is not clock.generator]
    clock.restart()
    with FlopCounterMode(display=False) as counter:
        clock.counter = counter
        method.invert(picture)
        clock.counter = None
    return {
        "parameters": sum(p.numel() for network in networks for p in network.parameters()),
        "generator_parameters": sum(p.numel() for p in clock.generator.parameters()) if clock.generator else 0,
        "encoder_macs": (counter.get_total_flops() - clock.flops) // 2,
        "generator_macs": clock.flops // 2,
    }


def time_steps_around(clip: Path, profile: Profile, settings: SpeedSettings) -> dict[str, Any]:
    """Seconds a frame and peak memory of the steps that no method changes, and the clip's size; on the CPU."""
    aligner = FaceAligner(profile.assets / "dlib/shape_predictor_68_face_landmarks.dat")
    watch = Stopwatch(torch.device("cpu"))
    with ClipReader(clip) as reader, tempfile.TemporaryDirectory() as scratch:
        frames, remaining = [], iter(reader)
        for number in range(WARM + settings.frames):
            watch.running = number >= WARM
            with watch("read"):
                frame = next(remaining, None)
            if frame is None:
                watch.timings["read"].seconds.pop()
                break
            frames.append(frame)
        watch.running = True
        items = list(track_face(frames, aligner, timer=watch))
        del watch.timings["track"].seconds[:WARM]  # the first one searches the whole frame
        timed = watch.timings
        with ClipWriter.like(reader, Path(scratch) / "clip.mp4") as writer:
            for number, item in enumerate(items):
                watch.running = number >= WARM
                if item.square is None or item.landmarks is None:
                    raise Refusal(f"{clip} has no face in frame {number}: use another clip to time the steps on")
                with watch("align"):
                    picture = AlignedFrame(number, 0.0, item).picture(profile.resolution)
                    tensor_from_image(picture)
                with watch("paste"):
                    mask = face_mask(item.landmarks, item.square, profile.resolution)
                    pasted = paste(item.frame, np.asarray(picture), item.square, mask)
                with watch("write"):
                    writer.write(pasted)
            watch.running = False
            start = time.perf_counter()
            writer.close()  # the encoder looks ahead: most of a short clip is encoded here
            late = (time.perf_counter() - start) / len(items)
            timed["write"].seconds = [seconds + late for seconds in timed["write"].seconds]
        size = f"{reader.width} x {reader.height}"
    return {"size": size, "steps": {step: watch.timings[step].summary() for step in AROUND}}


def measure(
    places: Places, profile: Profile, settings: SpeedSettings, methods: Sequence[str] | None = None
) -> dict[str, Any]:
    """Everything, as in ``speed.json`` but for the provenance. ``methods`` None: the contest's that have weights."""
    others, clip = busy(), _clip(places.clips)
    frames = read_clips(places.clips, limit=1)[0].frames
    chosen = list(itertools.islice(itertools.cycle(frames), settings.batch))
    pictures = torch.stack([read_picture(path, profile.resolution) for path in chosen])
    around = _alone(time_steps_around, clip, profile, settings)
    found: dict[str, Any] = {}
    untimed = (*OPTIMISING, *OUT_OF_CONTEST)  # those are minutes, and these the networks of others
    wanted = list(methods or (method for method in METHODS if method not in untimed and profile.has_weights(method)))
    for method in track(wanted, "timing", console=Console(stderr=True)):
        found[method] = _alone(time_method, method, profile, pictures, settings)
    return {
        "device": _device(profile.device),
        "memory": "allocated" if profile.device.type == "cuda" else "resident",
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "busy_before": others,
        "resolution": profile.resolution,
        "batch": settings.batch,
        "clip": around["size"],
        "steps": around["steps"],
        "methods": found,
    }


def _alone(function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """The result of a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _clip(folder: Path) -> Path:
    """The first video of the clips' folder."""
    videos = sorted((folder / "videos").glob("*.mp4"))
    if not videos:
        raise Refusal(f"there are no videos in {folder / 'videos'}: run `make repro`, which makes the clips")
    return videos[0]


def _device(device: torch.device) -> str:
    return gpu_model() or device.type if device.type == "cuda" else cpu_model()


def origin_of(places: Places, profile: Profile, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Provenance: code, parameters, machine, and the hashes of assets, weights and the clips' record."""
    inputs = {**profile.inputs, "clips": places.clips / RECORD}
    return provenance(inputs, parameters)


# What is printed


def render(places: Places, measured: Mapping[str, Any], origin: Mapping[str, Any]) -> list[Table | TextTable]:
    """Write ``speed.{json,md,csv,tex}``."""
    table, further = tables_of(measured)
    write_forms(places.reports / "speed", {**measured, "provenance": dict(origin)}, [table], further)
    return [table, *further]


def tables_of(measured: Mapping[str, Any]) -> tuple[Table, list[TextTable]]:
    """Methods by steps; the steps around them; what of it is real time; the same ratios as published elsewhere."""
    return _methods_table(measured), [_around_table(measured), _real_time_table(measured), _published_table(measured)]


def _where(measured: Mapping[str, Any]) -> str:
    threads = measured["threads"]
    return f"{measured['device']}, {threads} thread{'s' * (threads != 1)}"


def _labels(measured: Mapping[str, Any]) -> dict[str, str]:
    """In the order of the rows."""
    order = {method: place for place, method in enumerate(METHODS)}
    methods = sorted(measured["methods"], key=lambda method: (order.get(method, -1), method))
    return {method: METHODS.get(method, method) for method in methods}


def _methods_table(measured: Mapping[str, Any]) -> Table:
    batch = str(measured["batch"])
    columns = [
        Column("encode_1", "Encode ms", False, 0),
        Column("synthesise_1", "Synthesise ms", False, 0),
        Column("edit_1", "Edit ms", False, 0),
        Column("fps_1", "Frames/s", True, 1),
        Column(f"fps_{batch}", f"Frames/s, batch {batch}", True, 1),
        Column("peak_1", "Peak MiB", False, 0),
        Column(f"peak_{batch}", f"Peak MiB, batch {batch}", False, 0),
        Column("weights", "Weights M", False, 1),
        Column("encoder_gmacs", "Encoder GMAC", False, 2),
        Column("generator_gmacs", "Generator GMAC", False, 2),
    ]
    rows = []
    for method, label in _labels(measured).items():
        values = measured["methods"][method]
        one, many = (values["batches"][size] for size in ("1", batch))
        cells = {f"{step}_1": _milliseconds(one[step]) for step in (ENCODE, SYNTHESISE, EDIT)}
        cells |= {"fps_1": _rate(one[INVERT]), f"fps_{batch}": _rate(many[INVERT])}
        cells |= {
            f"peak_{size}": Estimate(max(each[INVERT]["peak_mib"], each[EDIT]["peak_mib"]))
            for size, each in (("1", one), (batch, many))
        }
        cells |= {
            "weights": Estimate(values["parameters"] / 1e6),
            "encoder_gmacs": Estimate(values["encoder_macs"] / 1e9),
            "generator_gmacs": Estimate(values["generator_macs"] / 1e9),
        }
        rows.append(Row(method, label, cells))
    first = next(iter(measured["methods"].values()))
    repeats = [
        value["repeats"]
        for values in measured["methods"].values()
        for each in values["batches"].values()
        for value in each.values()
    ]
    times = str(min(repeats)) if min(repeats) == max(repeats) else f"{min(repeats)} to {max(repeats)}"
    side = measured["resolution"]
    memory = "resident in a process of its own, all that it loaded included"
    if measured["memory"] == "allocated":
        memory = "allocated by PyTorch on the GPU"
    notes = [
        f"{_where(measured)}. Median and quartiles of {times} repeats after a warm-up; one "
        f"picture of {side} px unless a batch is named, then a picture of it. Frames a second are those of the "
        "inversion, encoder and generator.",
        f"Peak memory: the most {memory}. Weights: parameters of the method's networks; the generator has "
        f"{first['generator_parameters'] / 1e6:.1f} million. GMAC: multiply-adds of convolutions and matrix products "
        "in the inversion of one picture, in thousand millions.",
        "Methods that optimise each picture take minutes for it and are not timed. While it was timed, the process "
        "kept the memory that it freed, as the stages that invert do (fse.allocator): with glibc that is two to three "
        "times as fast, for about a third more memory than is stated here.",
    ]
    if (others := measured.get("busy_before")) is not None and others > 0.2:
        notes.append(
            f"The machine was not at rest: others used {others:.1f} of its {measured['cores']} cores when the timing "
            "began. The times are too long."
        )
    return Table("speed", f"Inversion and editing of a frame: {_where(measured)}", columns, rows, notes)


def _milliseconds(value: Mapping[str, float]) -> Estimate:
    return Estimate(*(1000 * value[end] for end in ("median", "low", "high")))


def _rate(value: Mapping[str, float]) -> Estimate:
    return Estimate(*(1 / value[end] for end in ("median", "high", "low")))


def _around_table(measured: Mapping[str, Any]) -> TextTable:
    rows = []
    for step, label in AROUND.items():
        value = measured["steps"][step]
        low, median, high = (1000 * value[end] for end in ("low", "median", "high"))
        rows.append(
            [label, f"{median:.1f}", f"[{low:.1f}, {high:.1f}]", f"{value['peak_mib']:.0f}", str(value["repeats"])]
        )
    notes = [
        f"Of a clip of {measured['clip']} pixels, on the CPU. Tracking smooths over time and so looks ahead by up to "
        "35 frames: what is said of real time is throughput, not delay."
    ]
    return TextTable(
        "speed-steps",
        "The steps around the methods",
        ["Step", "ms a frame", "Quartiles", "Peak MiB", "Frames"],
        rows,
        notes,
    )


def seconds_a_frame(measured: Mapping[str, Any], method: str) -> dict[str, float]:
    """Of a method at its faster batch: ``inversion``, and ``video``, everything from the file to the edited file."""
    batches = measured["methods"][method]["batches"].values()
    best = min(batches, key=lambda each: each[INVERT]["median"] + each[EDIT]["median"])
    around = sum(step["median"] for step in measured["steps"].values())
    inversion = min(each[INVERT]["median"] for each in batches)
    return {"inversion": inversion, "video": around + best[INVERT]["median"] + best[EDIT]["median"]}


def _real_time_table(measured: Mapping[str, Any]) -> TextTable:
    rows = []
    for method, label in _labels(measured).items():
        row = [label]
        for seconds in seconds_a_frame(measured, method).values():
            row += [f"{1000 * seconds:.0f}", f"{1 / seconds:.1f}", "yes" if seconds <= 1 / REAL_TIME else "no"]
        rows.append(row)
    headings = [
        "Method",
        "Inversion, ms",
        "Frames/s",
        f"{REAL_TIME} a second",
        "Whole edit, ms",
        "Frames/s",
        f"{REAL_TIME} a second",
    ]
    notes = [
        f"{_where(measured)}, the faster of the two batches. The whole edit: reading, tracking, aligning, inverting, "
        "editing, pasting and writing, one after the other. The paper speaks of real-time editing in videos and states "
        "neither a time nor a device."
    ]
    return TextTable("speed-real-time", "Real time?", headings, rows, notes)


def _published_table(measured: Mapping[str, Any]) -> TextTable:
    paper = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))["speed"]
    ours = {method: measured["methods"][method]["batches"]["1"][INVERT]["median"] for method in _labels(measured)}
    base = paper["relative_to"]
    rows = []
    for method in dict.fromkeys([*ours, *(m for source in paper["sources"].values() for m in source["seconds"])]):
        row = [METHODS.get(method, method), _ratio(ours, method, base)]
        for source in paper["sources"].values():
            row += [
                f"{source['seconds'][method]:.3f}" if method in source["seconds"] else ABSENT,
                _ratio(source["seconds"], method, base),
            ]
        rows.append(row)
    headings = ["Method", "Here, ratio"]
    for source in paper["sources"].values():
        headings += [f"{source['label']}, s", "ratio"]
    notes = [
        f"Time of an inversion over that of {METHODS[base]}, here with one picture. Published by others, on GPUs and "
        "with StyleGAN2 1024: "
        + "; ".join(f"{source['label']}: {source['source']}" for source in paper["sources"].values())
        + "."
    ]
    return TextTable("speed-published", f"Relative to {METHODS[base]}", headings, rows, notes)


def _ratio(seconds: Mapping[str, float], method: str, base: str) -> str:
    return f"{seconds[method] / seconds[base]:.2f}" if method in seconds and base in seconds else ABSENT


def section(places: Places) -> Section | None:
    """Of the report; None where nothing was timed."""
    path = places.reports / "speed.json"
    if not path.is_file():
        return None
    measured = json.loads(path.read_text(encoding="utf-8"))
    table, further = tables_of(measured)
    fast = {label: seconds_a_frame(measured, method) for method, label in _labels(measured).items()}
    reached = {
        what: [label for label, each in fast.items() if each[what] <= 1 / REAL_TIME] for what in ("inversion", "video")
    }
    said = [
        f"{kind} at {REAL_TIME} frames a second: {', '.join(reached[what]) or 'no method'}."
        for what, kind in (("inversion", "Inversion alone"), ("video", "The whole edit of a video"))
    ]
    return Section("speed", "Speed", [f"Measured on {_where(measured)}.", *said], [table, *further])


@exit_on_refusal
def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m eval.speed",
        description="Time every step of inverting and editing a clip, for each method.",
        epilog="example:\n  python -m eval.speed --methods psp,fse --device cuda --out runs/speed",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    settings = SpeedSettings()
    parser.add_argument("--methods", metavar="A,B", help="default: all with trained weights that do not optimise")
    parser.add_argument("--batch", type=int, default=settings.batch, help="the larger batch (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=settings.repeats, help="at most (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="DIR", default=Path("reports"), help="default: %(default)s")
    parser.add_argument("--device", default="cpu", help="where networks run (default: %(default)s)")
    arguments = parser.parse_args()
    for option, least in (("batch", 1), ("repeats", 2)):
        if getattr(arguments, option) < least:
            raise Refusal(f"--{option} is {getattr(arguments, option)}: give at least {least}")
    settings = replace(settings, batch=arguments.batch, repeats=arguments.repeats)
    profile, places = Profile(device=usable_device(arguments.device)), Places(reports=arguments.out)
    methods = arguments.methods.split(",") if arguments.methods else None
    measured = measure(places, profile, settings, methods)
    console = Console()
    for table in render(places, measured, origin_of(places, profile, read_parameters())):
        console.print(table.rich(console.width) if isinstance(table, Table) else table.rich(), "")
    console.print(f"written: {places.reports}/speed.{{md,csv,tex,json}}", style="dim")


if __name__ == "__main__":
    main()
