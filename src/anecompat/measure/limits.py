"""How much memory a process takes, and how much the machine has: for the limit on the child."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from functools import cache
from pathlib import Path

_FOOTPRINT_OFFSET = 72
"""``ri_phys_footprint`` in ``struct rusage_info_v0`` (sys/resource.h): after a UUID and seven 64-bit counters."""


def memory_of(process: int) -> int:
    """Bytes that a process holds now; 0 where it is gone or the system does not say."""
    if sys.platform == "darwin":
        return _footprint(process)
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


@cache
def _libproc() -> ctypes.CDLL:
    return ctypes.CDLL("/usr/lib/libproc.dylib")


def _footprint(process: int) -> int:
    buffer = ctypes.create_string_buffer(512)
    if _libproc().proc_pid_rusage(ctypes.c_int(process), ctypes.c_int(0), buffer) != 0:
        return 0
    return int(struct.unpack_from("<Q", buffer.raw, _FOOTPRINT_OFFSET)[0])


def default_limit() -> int:
    """Three quarters of the machine's memory: the engine's compiler has been seen to take more than 11 GB."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4
    except (ValueError, OSError):
        return 8 << 30
