"""The probes on this machine: what they say is so, why not where not, and that nothing stays behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import rights
from support.confined import NOBODY, run

from codecontext_service.processes.bootstrap import clean_environment, command
from codecontext_service.workers.confinement import Confinement
from codecontext_service.workers.filters import policy_for

AS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not AS_ROOT, reason="needs root")


def _works(found: dict) -> dict[str, bool]:
    return {each["name"]: each["works"] for each in found["layers"]}


def _reason(found: dict, name: str) -> str:
    return next(each["reason"] for each in found["layers"] if each["name"] == name)


def test_they_leave_nothing_behind_and_say_why() -> None:
    """After all probes mounts, host name and children are as before; failures have reasons."""
    mounts = Path("/proc/self/mountinfo")
    before, name = mounts.read_text(), os.uname().nodename
    found = run(rights.assess_machine).value
    assert mounts.read_text() == before
    assert os.uname().nodename == name
    assert found["children_left"] == 0
    for each in found["layers"]:
        assert bool(each["reason"]) != each["works"], each


def test_the_module_prints_what_a_process_can_not_find_out_itself() -> None:
    """A process with threads runs it as one of its own and reads JSON."""
    argv = command(sys.executable, "tiers", {"no_memory_group": "not here"}, "-S")
    env = clean_environment(sys.executable)
    said = subprocess.run(argv, env=env, capture_output=True, text=True, check=True, timeout=60)
    found = json.loads(said.stdout)
    assert [each["name"] for each in found["tiers"]] == ["cell", "uid", "landlock", "none"]
    assert "memory_control_group: not here" in found["strict_obstacles"]


@needs_root
def test_an_ordinary_user_has_no_uids_and_may_have_user_namespaces() -> None:
    """What only root can is refused, and said to be; the rest goes by the user's own namespace."""
    found = run(rights.assess_machine, uid=NOBODY).value
    works = _works(found)
    assert not any(works[name] for name in ("mounts", "own_proc", "network", "own_uid"))
    assert "not permitted" in _reason(found, "own_uid")
    assert works["seccomp"] == _works(run(rights.assess_machine).value)["seccomp"]
    if all(works[name] for name in works if name.startswith("user_namespace")):
        assert found["strongest"] == "cell"
        assert found["user_namespace"]


@needs_root
def test_under_a_filter_that_denies_namespaces_landlock_is_left() -> None:
    """As in a pod whose runtime filters system calls: each layer's reason is the kernel's answer."""
    policy = policy_for("cell", landlock_abi=7, memory_group=True)
    found = run(rights.assess_machine, uid=NOBODY, confinement=Confinement(filter=policy)).value
    works = _works(found)
    assert not works["user_namespace"]
    assert "Operation not permitted" in _reason(found, "user_namespace")
    if works["landlock"]:
        assert found["strongest"] == "landlock"


@needs_root
def test_a_system_that_gives_user_namespaces_no_rights_is_found_out() -> None:
    """Under no_new_privs and a limit of none, no namespace can be had: the probe is not fooled."""
    found = run(rights.assess_without_user_namespaces).value
    assert not _works(found)["user_namespace"]
    assert "No space left" in _reason(found, "user_namespace")


def test_a_probe_that_hangs_or_dies_is_a_failure() -> None:
    """Neither keeps the server from starting; both are told."""
    hung, died = run(rights.probe_badly).value
    assert hung == (False, "it took longer than 1 s")
    assert died == (False, "the probe ended with -9")
