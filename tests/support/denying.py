"""Becomes a program under a filter that denies system calls, as a container's does: a machine that allows less.

`python -m support.denying unshare,setns -- command …`
"""

from __future__ import annotations

import errno
import os
import sys

from codecontext_service.workers import filters, syscalls
from codecontext_service.workers.architecture import this_machine
from codecontext_service.workers.bpf import Rule, assemble, has_any_bit

NAMESPACES = ("unshare", "setns", "mount", "clone")
"""What makes namespaces: no cells without it."""

LANDLOCK = ("landlock_create_ruleset",)


def prefix(*calls: str) -> list[str]:
    """Returns what a command begins with that is to run without these calls."""
    return [sys.executable, "-m", "support.denying", ",".join(calls), "--"]


def _rule(call: str) -> Rule:
    if call == "clone":  # which also starts every process
        return Rule(call, errno.EPERM, has_any_bit(0, filters._NEW_NAMESPACES))
    return Rule(call, errno.ENOSYS if call in LANDLOCK else errno.EPERM)


def main() -> None:
    calls, _, *command = sys.argv[1:]
    syscalls.set_no_new_privs()
    filters.load(assemble(tuple(_rule(call) for call in calls.split(",")), this_machine()))
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
