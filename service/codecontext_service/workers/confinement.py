"""Confines a process: limits, user, capabilities, Landlock and filters, each or none, in the right order."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Callable
from dataclasses import dataclass

from . import filters, landlock, syscalls
from .architecture import this_machine


class ConfinementError(RuntimeError):
    """A layer could not be applied: the process must end, since it is confined in part only."""

    def __init__(self, layer: str, cause: Exception) -> None:
        """Names the layer.

        Args:
            layer: One of `limits`, `user`, `capabilities`, `no_new_privs`, `parent_death`, `dumpable`,
                `landlock`, `filter`.
            cause: Why.
        """
        super().__init__(f"the layer {layer!r} could not be applied: {cause}")
        self.layer = layer


@dataclass(frozen=True)
class Limits:
    """Resource limits of one process, and what it starts gets the same; None leaves one as it is.

    A limit is never raised: where the process already has a lower hard limit, that stays.
    """

    address_space_bytes: int | None = None
    """RLIMIT_AS. Not for Node, whose V8 reserves far more than it uses, and hangs."""
    data_bytes: int | None = None
    """RLIMIT_DATA: private writable memory."""
    processes: int | None = None
    """RLIMIT_NPROC: of the process's user, and in its user namespace; root's are not counted."""
    open_files: int | None = None
    """RLIMIT_NOFILE."""
    file_size_bytes: int | None = None
    """RLIMIT_FSIZE: of each file that it writes."""
    cpu_time_s: int | None = None
    """RLIMIT_CPU: SIGXCPU, then one second later SIGKILL."""
    core_bytes: int | None = 0
    """RLIMIT_CORE."""

    def apply(self) -> None:
        """Gives this process the limits.

        Raises:
            ValueError: A limit is negative.
            OSError: The kernel refused.
        """
        for kind, value in (
            (resource.RLIMIT_AS, self.address_space_bytes),
            (resource.RLIMIT_DATA, self.data_bytes),
            (resource.RLIMIT_NPROC, self.processes),
            (resource.RLIMIT_NOFILE, self.open_files),
            (resource.RLIMIT_FSIZE, self.file_size_bytes),
            (resource.RLIMIT_CPU, self.cpu_time_s),
            (resource.RLIMIT_CORE, self.core_bytes),
        ):
            if value is not None:
                _limit(kind, value, grace=1 if kind == resource.RLIMIT_CPU else 0)


def _limit(kind: int, value: int, grace: int) -> None:
    if value < 0:
        raise ValueError(f"a limit can't be negative: {value}")
    had = resource.getrlimit(kind)[1]
    most = value + grace if had == resource.RLIM_INFINITY else min(value + grace, had)
    resource.setrlimit(kind, (min(value, most), most))


@dataclass(frozen=True)
class User:
    """A user and group of the process's own, with no other groups."""

    uid: int
    gid: int

    def become(self) -> None:
        """Makes this process that user's, for good.

        Raises:
            OSError: The kernel refused.
            PermissionError: Without CAP_SETUID and CAP_SETGID.
        """
        os.setgroups([])
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)


@dataclass(frozen=True)
class Confinement:
    """What a process is confined by. Capabilities and what an exec could bring are always given up."""

    limits: Limits = Limits()
    user: User | None = None
    """None: the user stays."""
    landlock: landlock.Ruleset | None = None
    """None: whatever the user may reach. Paths are looked up when it is applied, as that user."""
    filter: filters.Policy | None = None
    """None: every system call."""
    parent_pid: int | None = None
    """The parent, as this process sees it, with whose thread it is to die; None: it does not.

    A change of user takes an earlier wish back, so it's expressed here.
    """
    dumpable: bool = True
    """Whether processes of the same user may see into it; without it /proc/self can't be read."""


def prepare(confinement: Confinement) -> None:
    """Does what all children have in common: call it before forking, and `confine` takes less time.

    Raises:
        ConfinementError: This machine can't filter system calls.
    """
    syscalls.last_capability()
    landlock.abi()
    if confinement.filter is not None:
        policy = confinement.filter
        _apply("filter", lambda: filters.program(policy, this_machine()))


def confine(confinement: Confinement) -> None:
    """Confines this process and all that it starts from now on; there is no way back.

    Call it in a process that was just forked and has one thread, after all that is denied then:
    joining namespaces, `setsid`, opening descriptors outside. Where the error is raised some layers hold
    already: report it and end the process.

    Args:
        confinement: By what.

    Raises:
        ConfinementError: A layer failed; the error names it.
    """
    _apply("limits", confinement.limits.apply)
    _apply("capabilities", _drop_bounding_set)  # while this process still has the right to
    if confinement.user is not None:
        _apply("user", confinement.user.become)
    _apply("capabilities", syscalls.clear_capabilities)
    _apply("no_new_privs", syscalls.set_no_new_privs)
    # A change of user or capabilities has undone both of these.
    parent, rules, policy = confinement.parent_pid, confinement.landlock, confinement.filter
    if parent is not None:
        _apply("parent_death", lambda: syscalls.die_with_parent(parent))
    _apply("dumpable", lambda: syscalls.set_dumpable(confinement.dumpable))
    if rules is not None:
        _apply("landlock", lambda: landlock.restrict(rules))
    if policy is not None:
        _apply("filter", lambda: filters.install(policy, os.getpid()))


def _drop_bounding_set() -> None:
    # Without the right to: after no_new_privs and without capabilities an exec has nothing to give.
    with contextlib.suppress(PermissionError):
        syscalls.drop_bounding_set()


def _apply(layer: str, action: Callable[[], object]) -> None:
    try:
        action()
    except (OSError, ValueError, OverflowError, NotImplementedError) as error:
        raise ConfinementError(layer, error) from error
