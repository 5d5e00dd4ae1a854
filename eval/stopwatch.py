"""Seconds and peak memory of a step, on whatever device it runs.

On a GPU its work is waited for, and memory is what PyTorch's allocator held at most there. On a CPU memory is the
process's: the most that was resident while the step ran (Linux' high-water mark, set back before it), libraries and
networks included. Where a system cannot set it back, it is the most since the process began.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

MIB = 1 << 20


@dataclass
class Timing:
    """Of a step: seconds of each repeat, and the peak memory in bytes over all of them."""

    seconds: list[float] = field(default_factory=list)
    peak: int = 0

    def summary(self, pictures: int = 1) -> dict[str, Any]:
        """Median and quartiles of the seconds a picture, where a repeat did ``pictures`` of them."""
        each = np.array(self.seconds) / pictures
        low, median, high = (float(value) for value in np.percentile(each, (25, 50, 75)))
        peak = round(self.peak / MIB, 1)
        return {"median": median, "low": low, "high": high, "repeats": len(each), "peak_mib": peak}


class Stopwatch:
    """Times steps by name.

    Parameters
    ----------
    device : torch.device
        Whose work is waited for, and whose memory counts.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.timings: dict[str, Timing] = {}
        self.running = True
        self._synchronise: Callable[[], None] | None = None
        if device.type == "cuda":
            self._synchronise = lambda: torch.cuda.synchronize(device)
        elif device.type == "mps":
            self._synchronise = torch.mps.synchronize

    @contextmanager
    def __call__(self, step: str, /) -> Iterator[None]:
        """``with watch("align"):`` adds one repeat; none while ``running`` is False, as in a warm-up."""
        timing = self.timings.setdefault(step, Timing())
        self.wait()
        forget_peak(self.device)
        start = time.perf_counter()
        yield
        self.wait()
        elapsed = time.perf_counter() - start
        if self.running:
            timing.seconds.append(elapsed)
            timing.peak = max(timing.peak, peak(self.device))

    def wait(self) -> None:
        """For what the device has been given to do."""
        if self._synchronise is not None:
            self._synchronise()

    def add(self, step: str, seconds: float, peak: int = 0) -> None:
        """A repeat that was timed elsewhere; its peak in bytes."""
        if self.running:
            timing = self.timings.setdefault(step, Timing())
            timing.seconds.append(seconds)
            timing.peak = max(timing.peak, peak)


def forget_peak(device: torch.device) -> None:
    """Begin to look for a new peak, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif (record := Path("/proc/self/clear_refs")).exists():
        try:
            record.write_text("5")  # proc(5): resets the peak of the resident set
        except OSError:  # not allowed in every container
            return


def peak(device: torch.device) -> int:
    """Bytes, since :func:`forget_peak`."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def busy(seconds: float = 1.0) -> float | None:
    """How many of the machine's cores others keep busy while this process sleeps; None where it cannot be told."""
    record = Path("/proc/stat")
    if not record.exists():
        return None

    def worked() -> int:  # user, nice, system, idle, iowait, irq, softirq, steal, of all cores, in ticks
        ticks = [int(value) for value in record.read_text().split("\n", 1)[0].split()[1:9]]
        return sum(ticks) - ticks[3] - ticks[4]

    before = worked()
    time.sleep(seconds)
    return (worked() - before) / os.sysconf("SC_CLK_TCK") / seconds
