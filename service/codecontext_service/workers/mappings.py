"""Fewer mappings for a zygote.

A library of compiled code has five: three to read or execute, one that only the loader has written to, and one
that is written to. A fork makes a copy of each, whatever its size, and the end of the child takes each apart.
Neighbours of one file whose access is the same are one mapping to Linux, see mprotect(2).
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator
from typing import NamedTuple

from . import syscalls

_EXECUTED, _WRITTEN, _READ = "r-xp", "rw-p", "r--p"

_ACCESS = {
    _EXECUTED: mmap.PROT_READ | mmap.PROT_EXEC,
    _WRITTEN: mmap.PROT_READ | mmap.PROT_WRITE,
}


class _Mapping(NamedTuple):
    """A line of /proc/self/maps, see proc(5)."""

    first: int
    end: int
    access: str
    offset: int
    file: tuple[str, str]
    """Device and inode."""

    def goes_on_in(self, other: _Mapping) -> bool:
        """Whether another one is what follows, in memory and in the file."""
        return (
            self.file == other.file
            and self.end == other.first
            and self.offset + self.end - self.first == other.offset
        )


def join() -> int:
    """Joins the mappings of each library: what is only read can also be executed, or written to.

    That gives code nothing that it could not give itself: it may call mprotect(2). No mapping becomes one
    that can be both. What the kernel refuses stays as it is.

    Returns:
        How many have become parts of their neighbours.
    """
    mappings = list(_of_files())
    joined = 0
    for place, mapping in enumerate(mappings):
        if mapping.access != _READ:
            continue
        neighbours = [
            each for each in mappings[max(place - 1, 0) : place] if each.goes_on_in(mapping)
        ]
        neighbours += [each for each in mappings[place + 1 : place + 2] if mapping.goes_on_in(each)]
        accesses = {each.access for each in neighbours}
        for access, wanted in _ACCESS.items():  # code's first: data that is read lies between both
            if access in accesses:
                with contextlib.suppress(OSError):
                    syscalls.protect_pages(mapping.first, mapping.end - mapping.first, wanted)
                    joined += 1
                break
    return joined


def _of_files() -> Iterator[_Mapping]:
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            span, access, offset, device, inode = line.split(maxsplit=5)[:5]
            if inode != "0":
                first, end = (int(address, 16) for address in span.split("-"))
                yield _Mapping(first, end, access, int(offset, 16), (device, inode))
