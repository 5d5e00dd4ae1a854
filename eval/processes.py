"""Work that several processes share, an item each at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import Progress

from fse.allocator import keep_freed_memory

Item = TypeVar("Item")

MOST = 16
"""Processes that nobody asked for: each takes about a gigabyte."""


def processes_for(device: torch.device, asked: int | None = None) -> int:
    """How many processes share work: as asked, or one a core of a CPU (at most :data:`MOST`), or one for a GPU.

    On a CPU this process and so all of them have one thread from here on. Then numbers depend neither on the cores nor
    on how many processes there are, and cores are not asked for by several threads each, which takes several times as
    long.
    """
    cores = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    return asked or (min(cores, MOST) if device.type == "cpu" else 1)


def share_out(
    call: Callable[[Item], None],
    items: Sequence[Item],
    *,
    processes: int,
    progress: str,
    done: Callable[[], int] | None = None,
    total: int | None = None,
) -> None:
    """Call ``call`` with every item, in the order of the items, each in the first process that is free.

    A process has as many threads as this one: the last bits of a network's output depend on their number, and must not
    on the number of processes.

    Parameters
    ----------
    call, items
        Pickled; the call leaves its result in files, and is silent.
    done, total : callable, int, optional
        What the bar shows where an item is long: how much of how much there is. By default items.

    Raises
    ------
    Exception
        The first one of a call; items that have not begun are left undone.
    """
    with (
        ProcessPoolExecutor(processes, get_context("spawn"), _begin, (torch.get_num_threads(),)) as pool,
        Progress(console=Console(stderr=True)) as bar,
    ):
        task = bar.add_task(f"{progress} by {processes} processes", total=total or len(items))
        running = {pool.submit(call, item) for item in items}
        while running:
            ended, running = wait(running, timeout=1, return_when=FIRST_EXCEPTION)
            bar.update(task, completed=done() if done else len(items) - len(running))
            for error in filter(None, (each.exception() for each in ended)):
                pool.shutdown(wait=False, cancel_futures=True)
                raise error


def _begin(threads: int) -> None:
    torch.set_num_threads(threads)
    keep_freed_memory()
