"""The mappings of a zygote's libraries: fewer, and as usable as before."""

import subprocess
import sys

_CHECK = """
import zlib, unicodedata  # libraries of compiled code

from codecontext_service.workers import mappings


def lines():
    return [line.split(maxsplit=5) for line in open("/proc/self/maps")]


before = lines()
joined = mappings.join()
after = lines()
assert joined > 10, before
assert len(before) - len(after) == joined, (joined, before, after)
assert not any("w" in line[1] and "x" in line[1] for line in after), after
assert mappings.join() == 0, after


def whole(lines, access):
    return sum(
        int(end, 16) - int(first, 16)
        for first, end in (line[0].split("-") for line in lines if access in line[1])
    )


assert whole(after, "r") == whole(before, "r")
import json, decimal  # what is loaded later is not touched, and what was loaded goes on
assert zlib.decompress(zlib.compress(b"x" * 1000)) == b"x" * 1000
assert unicodedata.name("a") == "LATIN SMALL LETTER A"
"""


def test_the_mappings_of_each_library_become_few_and_none_can_be_written_and_executed() -> None:
    """As many mappings are gone as were joined, all of the libraries is still there, and they work."""
    check = subprocess.run(
        [sys.executable, "-c", _CHECK], capture_output=True, text=True, timeout=60, check=False
    )
    assert check.returncode == 0, check.stderr
