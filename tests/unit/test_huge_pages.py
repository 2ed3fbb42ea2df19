"""Huge pages: for memory that is in use, and for nothing else."""

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

address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
first = -(-address // SIZE) * SIZE - address
whole = (len(memory) - first) // SIZE
sparse = first + SIZE
holds = [place for place in range(0, len(memory), mmap.PAGESIZE) if not sparse <= place < sparse + SIZE]
holds.append(sparse)
for place in holds:
    memory[place] = place // mmap.PAGESIZE % 251

try:
    syscalls.collapse_pages(address + first, SIZE)
except OSError:
    sys.exit(77)


def huge():
    entries = re.split(r"^(?=[0-9a-f]+-)", open("/proc/self/smaps").read(), flags=re.M)
    for entry in filter(None, entries):
        low, high = (int(end, 16) for end in entry.split()[0].split("-"))
        if low <= address < high:
            return int(re.search(r"AnonHugePages: *(\\d+)", entry)[1]) << 10


assert huge() == SIZE
assert huge_pages.collapse() >= whole - 1
assert huge() == (whole - 1) * SIZE, (huge(), whole)
for place in holds:
    assert memory[place] == place // mmap.PAGESIZE % 251
"""


def test_regions_in_use_become_huge_pages_and_keep_what_they_hold() -> None:
    """Only the region that is mostly empty stays in small pages, and no byte is changed."""
    check = subprocess.run(
        [sys.executable, "-c", _CHECK], capture_output=True, text=True, timeout=60, check=False
    )
    if check.returncode == 77:
        pytest.skip("this kernel makes no huge pages on demand")
    assert check.returncode == 0, check.stderr


_ROOM = """
import contextlib
import mmap

from codecontext_service.workers import huge_pages


def mappings():
    spans = (line.split()[0].split("-") for line in open("/proc/self/maps"))
    return [tuple(int(end, 16) for end in span) for span in spans]


def load(kept, obstacles):
    \"\"\"Makes objects, between which mappings come up as those of libraries do.\"\"\"
    for _ in range(16):
        kept.append([bytes(400) for _ in range(3000)])
        obstacles.append(mmap.mmap(-1, 4 << 20, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS))


def homes(kept):
    places = mappings()
    return {
        first for part in kept for each in part for first, end in places if first <= id(each) < end
    }


def size():
    return sum(end - first for first, end in mappings())


scattered, obstacles = [], []
load(scattered, obstacles)
before = size()
with huge_pages.room_for_objects():
    side_by_side, more_obstacles = [], []
    load(side_by_side, more_obstacles)
assert len(homes(side_by_side)) <= len(homes(scattered)) // 3, (homes(side_by_side), homes(scattered))
grown = size() - before - 16 * (4 << 20)
assert grown < 32 << 20, grown
"""


def test_objects_made_in_their_room_live_side_by_side_and_what_is_left_is_given_back() -> None:
    """Mappings that come between do not scatter them, and no more memory stays than they take."""
    check = subprocess.run(
        [sys.executable, "-c", _ROOM], capture_output=True, text=True, timeout=60, check=False
    )
    assert check.returncode == 0, check.stderr
