"""Huge pages for the memory of a zygote.

A fork copies an entry of the page tables for every page, and the end of the child takes each away again. A
huge page has one entry in place of 512; see admin-guide/mm/transhuge.rst in the documentation of Linux. A
child's first write to it makes 512 entries of that one, in the child alone, and copies the one small page: its
neighbours stay parts of one piece of memory, which a newer Linux copies and drops many at a time.

CPython keeps small objects in arenas, pieces of 1 MiB (`Include/internal/pycore_obmalloc.h`), which Linux
places between the libraries that are loaded in the meantime: most would lie in no region that is theirs alone.
"""

from __future__ import annotations

import array
import contextlib
import mmap
import sys
from collections.abc import Iterator

from . import syscalls

SIZE = 2 << 20
"""That of a huge page and of the region that becomes one, in bytes."""

_PAGES = SIZE // mmap.PAGESIZE

_MIN_PRESENT = _PAGES // 2
"""How many of its pages must be there: a huge page takes memory for all of them."""

_ARENA = 1 << 20
"""CPython's, in bytes."""

_ROOM = 48
"""How many arenas are kept side by side: what IPython, numpy, pandas and matplotlib fill."""

_OBJECT = 512
"""The size of the largest object that goes to an arena, in bytes."""

_IS_PRESENT = 1 << 63
"""A bit of an entry of /proc/self/pagemap, see admin-guide/mm/pagemap.rst."""


@contextlib.contextmanager
def room_for_objects() -> Iterator[None]:
    """Has the objects that are made inside of it live side by side, in arenas that are made ahead.

    An object in each holds it for so long; what nobody has moved into by the end is given back.
    """
    content = _OBJECT - sys.getsizeof(b"")
    each = _ARENA // _OBJECT
    fillers: list[bytes | None] = [None] * (_ROOM * each)  # as long as it gets: it lies elsewhere
    for number in range(len(fillers)):
        fillers[number] = bytes(content)
    holders = fillers[
        :: each // 2
    ]  # one in each at least, since a part of an arena holds no objects
    fillers.clear()
    try:
        yield
    finally:
        holders.clear()


def collapse() -> int:
    """Makes huge pages of this process's memory, where most of it is in use.

    Without such pages in the kernel, or memory for them, all stays as it is.

    Returns:
        How many huge pages were made.
    """
    made = 0
    with contextlib.suppress(OSError):
        for region in list(_regions()):
            if _is_in_use(region):
                with contextlib.suppress(OSError):
                    syscalls.collapse_pages(region, SIZE)
                    made += 1
    return made


def _regions() -> Iterator[int]:
    """Returns the addresses of the parts of this process's own memory that a huge page can take."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            span, access, _, _, inode, *name = line.split(maxsplit=5)
            if access == "rw-p" and inode == "0" and name in ([], ["[heap]\n"]):
                first, end = (int(address, 16) for address in span.split("-"))
                yield from range(-(-first // SIZE) * SIZE, end // SIZE * SIZE, SIZE)


def _is_in_use(region: int) -> bool:
    entries = array.array("Q")
    with open("/proc/self/pagemap", "rb", buffering=0) as file:
        file.seek(region // mmap.PAGESIZE * entries.itemsize)
        entries.frombytes(file.read(_PAGES * entries.itemsize))
    return sum(entry & _IS_PRESENT > 0 for entry in entries) >= _MIN_PRESENT
