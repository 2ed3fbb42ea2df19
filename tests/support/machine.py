"""What this machine allows, tried without the service: so that nothing is skipped that could be done."""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

IN_CI = os.environ.get("CI") == "true"

_NAMESPACES = ("unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup", "--fork")
_OF_USERS = ("--user", "--map-root-user")
_LANDLOCK_CREATE_RULESET, _VERSION = 444, 1


@functools.cache
def why_no_namespaces(prefix: Sequence[str] = ()) -> str:
    """Returns what keeps a user from making namespaces with a /proc in them; empty if nothing does.

    Args:
        prefix: What makes a command one of that user: by default it is this process's.
    """
    said = ""
    for users in ((), _OF_USERS):
        command = [*prefix, *_NAMESPACES, *users, "--mount-proc", "true"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == 0:
            return ""
        said = done.stderr.strip() or f"unshare ended with {done.returncode}"
    return said


@functools.cache
def why_no_landlock() -> str:
    """Returns the kernel's answer to who asks for Landlock; empty if it has that."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION) > 0:
        return ""
    return f"Landlock: {os.strerror(ctypes.get_errno())}"


@functools.cache
def why_no_memory_groups() -> str:
    """Returns what keeps this process from making a control group for memory; empty if nothing does.

    In version 2 who has to share its own group can't have any below it, so that says nothing.
    """
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = [line.split(":", 2)[2] for line in lines if ":memory:" in line]
    if not own:
        return "no control groups of version 1"
    hierarchy = Path("/sys/fs/cgroup/memory")
    trial = Path(f"{hierarchy}{own[0]}", f"codecontext-test-{os.getpid()}")
    try:
        trial.mkdir()
        trial.rmdir()
    except OSError as error:
        return str(error)
    return ""


def skip(reason: str, proof: str) -> NoReturn:
    """Skips a test that can't be made here; in CI, where that would hide a hole, not without a proof.

    Args:
        reason: What the test lacks.
        proof: Why this machine can't give it, as others than the service have found; empty if it can.
    """
    if IN_CI and not proof:
        pytest.fail(f"{reason}, though this machine can; in CI nothing is skipped")
    pytest.skip(f"{reason} ({proof})" if proof else reason)
