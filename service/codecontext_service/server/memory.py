"""How the server's process gives memory back to the kernel."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of <malloc.h>

_LARGEST = 8 << 20
"""Buffers up to this size, in bytes, are taken from memory that was freed before."""
_KEPT = 8 << 20
"""How many freed bytes an arena keeps at most."""
_ARENAS = 2


def keep_buffers() -> None:
    """Has the C library keep the memory of message buffers, within bounds, in the place of giving it back.

    A message of a megabyte is copied several times on its way. Where each copy is new memory, the kernel
    zeroes 256 pages for it, which takes longer than the copy. Does nothing where the C library has no such
    options.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGEST)
    mallopt(_M_TRIM_THRESHOLD, _KEPT)
    mallopt(_M_ARENA_MAX, _ARENAS)
