"""Control groups: what is written where, on a tree of ordinary files for the version that is not here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from codecontext_service.processes.control_groups import ControlGroup, ControlGroups
from codecontext_service.processes.control_trees import Tree

MIB = 1 << 20


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """A group of version 2 that passes memory and CPU on already, as ordinary files."""
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory\n")
    (tmp_path / "cgroup.procs").write_text("")
    return tmp_path


def unified(folder: Path) -> Tree:
    """The server's group of version 2 below a folder."""
    return Tree(folder, 2, ["memory", "cpu", "cpuacct"])


def remove(tree: Tree) -> None:
    """Removes a tree of ordinary files, which have to go before their directories can."""
    shutil.rmtree(tree.own)
    tree.close()


def test_limits_of_version_2(second: Path) -> None:
    """Memory, swap and processors are limited by the files of version 2, and freed by `max`."""
    tree = unified(second)
    assert (tree.own / "cgroup.subtree_control").read_text() == "+cpu +memory"
    group = ControlGroup([tree], "1")
    folder = tree.own / "1"
    (folder / "memory.swap.max").write_text("max")
    group.limit(memory_bytes=300 * MIB, cpus=0.5)
    assert (folder / "memory.max").read_text() == str(300 * MIB)
    assert (folder / "memory.swap.max").read_text() == "0"
    assert (folder / "cpu.max").read_text() == "50000 100000"
    group.limit(memory_bytes=0, cpus=0.0)
    assert (folder / "memory.max").read_text() == "max"
    assert (folder / "memory.swap.max").read_text() == "max"
    assert (folder / "cpu.max").read_text() == "max 100000"
    assert not (folder / "memory.oom.group").exists()
    assert not (second / "memory.oom.group").exists()
    remove(tree)


def test_counts_of_version_2(second: Path) -> None:
    """CPU time and those that were killed for memory are read from the files of version 2."""
    tree = unified(second)
    group = ControlGroup([tree], "1")
    events, used = tree.own / "1" / "memory.events", tree.own / "1" / "cpu.stat"
    events.write_text("low 0\nhigh 0\nmax 12\noom 3\noom_kill 1\noom_group_kill 0\n")
    used.write_text("usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\n")
    assert group.oom_killed
    group.note_oom_kills()
    assert not group.oom_killed
    events.write_text("low 0\nhigh 0\nmax 12\noom 5\noom_kill 2\noom_group_kill 0\n")
    assert group.oom_killed
    assert group.cpu_time_s() == 1.5
    remove(tree)


def test_the_way_into_a_group_of_version_2(second: Path) -> None:
    """A process of a group of version 2 writes to `cgroup.procs`: its `tasks` are for threads alone."""
    tree = unified(second)
    group = ControlGroup([tree], "1")
    (tree.own / "1" / "cgroup.procs").write_text("")
    (entry,) = group.open_entries()
    os.write(entry, b"0")
    os.close(entry)
    assert (tree.own / "1" / "cgroup.procs").read_text() == "0"
    remove(tree)


def test_controllers_are_passed_on(second: Path) -> None:
    """What the server's group does not pass on yet is switched on, and off again at the end."""
    (second / "cgroup.subtree_control").write_text("cpu\n")
    tree = unified(second)
    assert (second / "cgroup.subtree_control").read_text() == "+memory"
    assert (tree.own / "cgroup.subtree_control").read_text() == "+cpu +memory"
    tree.close()
    assert (second / "cgroup.subtree_control").read_text() == "-memory"
    assert (tree.own / "cgroup.subtree_control").read_text() == "-cpu -memory"


def test_a_controller_that_is_not_given_is_named(second: Path) -> None:
    """Where the machine withholds a controller, the error says which, and nothing is left."""
    (second / "cgroup.controllers").write_text("cpu pids\n")
    with pytest.raises(OSError, match=r"is not given memory"):
        unified(second)
    assert not list(second.glob("codecontext-*"))


def real_unified() -> Path | None:
    """Where this machine has groups of version 2 that can be made by this process, if it has."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, folder, kind, *_ = line.split()
        if kind == "cgroup2" and os.access(folder, os.W_OK) and os.geteuid() == 0:
            return Path(folder)
    return None


BURN = """
import os, sys, time
os.write(int(sys.argv[1]), b"0")
print(open("/proc/self/cgroup").read())
while time.process_time() < 0.2: pass
"""


def test_the_kernel_takes_processes_into_a_group_of_version_2() -> None:
    """A real process enters a real group of version 2, its CPU time counts there, and the group can go."""
    folder = real_unified()
    if folder is None:
        pytest.skip("this machine has no control groups of version 2 for this user")
    groups = ControlGroups({"cpuacct": (str(folder), 2)})
    (tree,) = folder.glob(f"codecontext-{os.getpid()}-*")
    group = ControlGroup(groups._trees, "1")
    (entry,) = group.open_entries()
    command = [sys.executable, "-c", BURN, str(entry)]
    burnt = subprocess.run(command, pass_fds=[entry], stdout=subprocess.PIPE, text=True, check=True)
    os.close(entry)
    assert f"{tree.name}/1\n" in burnt.stdout
    cpu_time_s = group.cpu_time_s()
    assert cpu_time_s is not None
    assert 0.1 < cpu_time_s < 2
    groups.close()
    assert not tree.exists()


MOVE = """
import os, sys
from pathlib import Path
from codecontext_service.processes.control_trees import Tree
parent = Path(sys.argv[1])
(parent / "cgroup.procs").write_text("0")
tree = Tree(parent, 2, ["cpuacct"])
tree._move_into_leaf()
assert not (parent / "cgroup.procs").read_text()
assert (tree.own / "server" / "cgroup.procs").read_text().split() == [str(os.getpid())]
tree.close()
assert (parent / "cgroup.procs").read_text().split() == [str(os.getpid())]
assert not tree.own.exists()
"""


def test_the_server_moves_into_a_leaf_and_back() -> None:
    """A server that is alone in a real group of version 2 leaves that to its contexts, and comes back."""
    folder = real_unified()
    if folder is None:
        pytest.skip("this machine has no control groups of version 2 for this user")
    parent = Path(tempfile.mkdtemp(prefix="test-codecontext-", dir=folder))
    try:
        subprocess.run([sys.executable, "-c", MOVE, str(parent)], check=True)
    finally:
        parent.rmdir()


START_AND_END = """
import sys
from pathlib import Path
from codecontext_service.processes.control_trees import Tree
for _ in range(100):
    tree = Tree(Path(sys.argv[1]), 1, ["memory"])
    for _ in range(20):
        assert tree.own.exists(), "another server has removed it"
    tree.close()
"""


def test_servers_that_start_at_once_leave_each_other_alone(tmp_path: Path) -> None:
    """No server takes the group of another one that is just starting for a dead one's."""
    command = [sys.executable, "-c", START_AND_END, str(tmp_path)]
    starting = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [process.communicate(timeout=100)[1] for process in starting]
    assert not "".join(errors)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    """When one hierarchy can't be used, the server's groups in the others are removed again."""
    parents = {"memory": (str(tmp_path), 1), "cpu": (str(tmp_path / "missing"), 1)}
    with pytest.raises(FileNotFoundError):
        ControlGroups(parents)
    assert not list(tmp_path.iterdir())
