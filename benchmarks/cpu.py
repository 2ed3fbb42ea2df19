"""The CPU time of processes, in nanoseconds: what other things on the machine hardly change."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time

import psutil

_libc = ctypes.CDLL(None)


def cpu_time_s(pid: int) -> float:
    """Returns the CPU time of a process, in seconds, threads that have ended included.

    Raises:
        OSError: There is no such process.
    """
    clock = ctypes.c_int()
    if number := _libc.clock_getcpuclockid(pid, ctypes.byref(clock)):
        raise OSError(number, os.strerror(number))
    return time.clock_gettime(clock.value)


def cpu_time_below_s(pid: int) -> float:
    """Returns the CPU time of all that descends from a process, in seconds."""
    total = 0.0
    for process in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(OSError):
            total += cpu_time_s(process.pid)
    return total
