"""How a subreaper ends all that descends from it."""

from __future__ import annotations

import subprocess
import sys

import pytest

RUNAWAYS = """
import os, sys, time
from codecontext_service.workers import children, syscalls

syscalls.become_subreaper()
alive, ended = os.pipe()
for number in range(4):
    if os.fork() == 0:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if os.fork():
                os._exit(0)
            if number % 2:
                os.setsid()
        os.write(ended, b"x")
        os._exit(0)
os.close(ended)
{before}
children.end_all_children({spare})
print(len(os.read(alive, 4)))
"""


def escaped(before: str = "", spare: str = "") -> int:
    """How many of four processes that run away for 20 s have come to their own end."""
    command = [sys.executable, "-c", RUNAWAYS.format(before=before, spare=spare)]
    return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


@pytest.mark.parametrize("number", range(3))
def test_what_runs_away_is_caught(number: int) -> None:
    """Processes that fork and end all the time are caught, long before they end by themselves."""
    assert escaped() == 0


def test_what_is_spared_lives_on() -> None:
    """What is to stay stays, with what descends from it, while all around it is ended."""
    before = (
        "ready, told = os.pipe()\nkept = os.fork()\n"
        "if kept == 0:\n"
        "    os.close(alive)\n    os.fork()\n    os.write(told, b'x')\n    time.sleep(1000)\n"
        "for _ in range(2): os.read(ready, 1)\n"
    )
    after = "frozenset({kept})"
    code = RUNAWAYS.format(before=before, spare=after) + (
        "print(len(children.descendants()))\nchildren.end_all_children()\n"
    )
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, check=True, text=True)
    assert ended.stdout.split() == ["0", "2"]


STOPPED = """
import os, select, signal
from codecontext_service.workers.children import ChildWatch

watch = ChildWatch()
child = os.fork()
if child == 0:
    while True:
        signal.pause()
try:
    for number, options in ((signal.SIGSTOP, os.WSTOPPED), (signal.SIGCONT, os.WCONTINUED)):
        os.kill(child, number)
        os.waitid(os.P_PID, child, options)
        assert not watch.is_behind, number
finally:
    os.kill(child, signal.SIGKILL)
assert select.select([watch.fileno()], [], [], 60)[0]
assert [each.pid for each in watch.reap()] == [child]
"""


def test_a_watch_hears_of_ends_alone() -> None:
    """A child that is stopped, or goes on, wakes nobody; one that ends does, and is reaped."""
    check = subprocess.run(
        [sys.executable, "-c", STOPPED], capture_output=True, text=True, timeout=90, check=False
    )
    assert check.returncode == 0, check.stderr
