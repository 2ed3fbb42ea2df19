"""What the launcher loads."""

from __future__ import annotations

import subprocess
import sys

from codecontext_service.processes.bootstrap import ROOT

_CODE = f"""
import os, sys

acting = []
os.register_at_fork = lambda **hooks: acting.extend(map(str, hooks.values()))
sys.path.insert(0, {ROOT!r})
from codecontext_service.workers import launcher, selftest
from codecontext_service.workers.bash import worker
print(acting)
"""


def test_nothing_that_it_loads_acts_in_each_fork() -> None:
    """No module has something to do in every process that is forked: each cell's keeper would pay for that."""
    command = [sys.executable, "-I", "-S", "-c", _CODE]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert done.stdout == "[]\n"
