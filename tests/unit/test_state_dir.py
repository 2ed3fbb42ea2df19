"""The directory of a server: its own while it lives, removed by the next one when it was killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from codecontext_service.server.state_dir import StateDirectory

START_AND_END = """
import sys
from codecontext_service.server.state_dir import StateDirectory
for _ in range(200):
    state = StateDirectory(sys.argv[1])
    for _ in range(20):
        assert (state.path / "lock").exists(), "another server has removed it"
    state.remove()
"""


def complaints_of_four(code: str, folder: Path) -> str:
    """Runs code in four processes at once, with a folder as its argument, and returns what they complain of."""
    command = [sys.executable, "-c", code, str(folder)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    return "".join(process.communicate(timeout=100)[1] for process in running)


def test_servers_that_start_at_once_leave_each_other_alone(tmp_path: Path) -> None:
    """No server takes the directory of another one that is just starting for a dead one's."""
    assert not complaints_of_four(START_AND_END, tmp_path)
    assert not list(tmp_path.glob("host-*"))


def test_what_a_dead_server_left_is_removed(tmp_path: Path) -> None:
    """The next server removes the directory of one that was killed."""
    code = "import os, sys; from codecontext_service.server.state_dir import StateDirectory as S\n"
    code += "print(S(sys.argv[1]).path, flush=True); os._exit(9)"
    command = [sys.executable, "-c", code, str(tmp_path)]
    dead = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert Path(dead.stdout.strip()).is_dir()
    state = StateDirectory(str(tmp_path))
    assert not Path(dead.stdout.strip()).exists()
    state.remove()


SHARED = """
import os, sys, tempfile
from codecontext_service.server.state_dir import StateDirectory
tempfile.tempdir = sys.argv[1]
for _ in range(200):
    state = StateDirectory("")
    assert (state.path / "lock").exists(), "another server has removed it"
    state.remove()
"""


def test_the_last_server_leaves_no_directory_that_nobody_asked_for(tmp_path: Path) -> None:
    """Servers that start while others end have theirs, and after the last one nothing is left at all."""
    assert not complaints_of_four(SHARED, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_directory_that_was_asked_for_stays(tmp_path: Path) -> None:
    """A server removes what it has put into it, and not the directory itself."""
    asked_for = tmp_path / "state"
    StateDirectory(str(asked_for)).remove()
    assert asked_for.is_dir()
    assert not list(asked_for.iterdir())
