"""Huge pages: for what children leave alone, and for nothing else."""

import subprocess
import sys

import pytest

_CHECK = """
import ctypes
import mmap
import re
import sys

from codecontext_service.workers import huge_pages, syscalls

SIZE = huge_pages.SIZE
memory = mmap.mmap(-1, 5 * SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_DONTDUMP)  # so that the kernel makes it one with no other
for place in range(0, len(memory), mmap.PAGESIZE):
    memory[place] = place // mmap.PAGESIZE % 251

address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
first = -(-address // SIZE) * SIZE - address
whole = (len(memory) - first) // SIZE
written = first + SIZE

try:
    syscalls.collapse_pages(address + first, SIZE)
except OSError:
    sys.exit(77)


def write_a_lot():
    for place in range(written, written + SIZE, mmap.PAGESIZE):
        memory[place] = 255


def huge(place):
    entries = re.split(r"^(?=[0-9a-f]+-)", open("/proc/self/smaps").read(), flags=re.M)
    for entry in filter(None, entries):
        low, high = (int(end, 16) for end in entry.split()[0].split("-"))
        if low <= address + place < high:
            return int(re.search(r"AnonHugePages: *(\\d+)", entry)[1]) << 10


assert huge(first) == SIZE
assert huge_pages.collapse(write_a_lot) >= whole - 1
assert huge(first) == (whole - 1) * SIZE, (huge(first), whole)
for place in range(0, len(memory), mmap.PAGESIZE):
    assert memory[place] == place // mmap.PAGESIZE % 251
"""


def test_regions_that_children_leave_alone_become_huge_pages_and_keep_what_they_hold() -> None:
    """Only the region that the child writes to stays in small pages, and no byte is changed."""
    check = subprocess.run(
        [sys.executable, "-c", _CHECK], capture_output=True, text=True, timeout=60, check=False
    )
    if check.returncode == 77:
        pytest.skip("this kernel makes no huge pages on demand")
    assert check.returncode == 0, check.stderr


def test_a_child_that_fails_changes_nothing() -> None:
    """A rehearsal that ends the child leaves all memory in small pages."""
    code = (
        "import os; from codecontext_service.workers import huge_pages;"
        "assert huge_pages.collapse(lambda: os._exit(3)) == 0;"
        "assert huge_pages.collapse(lambda: 1 / 0) == 0"
    )
    check = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert check.returncode == 0, check.stderr
