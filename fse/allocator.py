"""Freed memory that stays with the process, for networks on a CPU.

glibc gives large blocks back to the system as soon as they are free, and the kernel clears every page of the next one.
Feature maps are such blocks: on two cores an inversion took 0.15 to 0.27 s a picture with a third of it in the kernel,
more the larger the batch, and takes 0.08 s at any batch with this. The price is peak memory, a third more.
"""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> bool:
    """For the rest of this process; results do not change. False where the C library is another, which does nothing."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
