"""Huge pages for the memory of a zygote that its children leave alone.

A fork copies an entry of the page tables for every page, and the end of the child takes each away again. A
huge page has one entry in place of 512; see admin-guide/mm/transhuge.rst in the documentation of Linux. But a
child's first write to it makes 512 of that one, so what children write to stays in small pages.
"""

from __future__ import annotations

import array
import contextlib
import json
import mmap
import os
from collections.abc import Callable, Iterator

from . import syscalls

SIZE = 2 << 20
"""That of a huge page and of the region that becomes one, in bytes."""

_PAGES = SIZE // mmap.PAGESIZE

_MAX_WRITTEN = 8
"""To how many of its pages a child may write: too few to give up one entry for the others."""

_MIN_PRESENT = _PAGES // 2
"""How many of its pages must be there: a huge page takes memory for all of them."""

_IS_PRESENT, _IS_OWN = 1 << 63, 1 << 56
"""Bits of an entry of /proc/self/pagemap, see admin-guide/mm/pagemap.rst."""


def collapse(rehearse: Callable[[], object]) -> int:
    """Makes huge pages of this process's memory where its children write little.

    Without such pages in the kernel, or memory for them, all stays as it is.

    Args:
        rehearse: What children do. A child is forked that does it, to see where it writes.

    Returns:
        How many huge pages were made.
    """
    made = 0
    with contextlib.suppress(OSError):
        for region in _left_alone(list(_regions()), rehearse):
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


def _left_alone(regions: list[int], rehearse: Callable[[], object]) -> list[int]:
    """Returns those of the regions that a child writes little to; none of them if the child fails."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            rehearse()
            found = list(filter(_is_left_alone, regions))
            with open(writer, "w") as answer:
                json.dump(found, answer)
        os._exit(0)
    os.close(writer)
    with open(reader) as answer:
        left = answer.read()
    _, status = os.waitpid(pid, 0)
    return json.loads(left) if status == 0 and left else []


def _is_left_alone(region: int) -> bool:
    entries = array.array("Q")
    with open("/proc/self/pagemap", "rb", buffering=0) as file:
        file.seek(region // mmap.PAGESIZE * entries.itemsize)
        entries.frombytes(file.read(_PAGES * entries.itemsize))
    present = [entry for entry in entries if entry & _IS_PRESENT]
    return (
        len(present) >= _MIN_PRESENT
        and sum(entry & _IS_OWN > 0 for entry in present) <= _MAX_WRITTEN
    )
