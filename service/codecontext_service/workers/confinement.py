"""Confines a process: limits, user, capabilities, Landlock and filters, each or none, in the right order."""

from __future__ import annotations

import functools
import os
import resource
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from . import filters, landlock, syscalls
from .prepared import Call, in_turn


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

    def ready(self) -> Call:
        """Makes it ready to give the limits to this process, or to one that is forked from it.

        Raises:
            ValueError: A limit is negative.
        """
        return in_turn(*self._calls())

    def apply(self) -> None:
        """Gives this process the limits.

        Raises:
            ValueError: A limit is negative.
            OSError: The kernel refused.
        """
        self.ready()()

    def _calls(self) -> Iterator[Call]:
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
                yield _limit(kind, value, grace=1 if kind == resource.RLIMIT_CPU else 0)


def _limit(kind: int, value: int, grace: int) -> Call:
    if value < 0:
        raise ValueError(f"a limit can't be negative: {value}")
    had = resource.getrlimit(kind)[1]
    most = value + grace if had == resource.RLIM_INFINITY else min(value + grace, had)
    return functools.partial(resource.setrlimit, kind, (min(value, most), most))


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
        self.becoming()()

    def becoming(self) -> Call:
        """Makes it ready to `become` that user."""
        return in_turn(
            functools.partial(os.setgroups, []),
            functools.partial(os.setresgid, self.gid, self.gid, self.gid),
            functools.partial(os.setresuid, self.uid, self.uid, self.uid),
        )


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


class Confining:
    """A confinement that is ready: a child that is forked has nothing left but to apply it."""

    def __init__(self, confinement: Confinement) -> None:
        """Makes it ready; see `prepare`."""
        parent, rules, policy = confinement.parent_pid, confinement.landlock, confinement.filter
        dumpable = confinement.dumpable
        self._first = [
            _ready("limits", confinement.limits.ready),
            _ready("capabilities", _drop_bounding_set),  # while the process still has the right to
        ]
        self._then = [
            _ready("capabilities", syscalls.clear_capabilities.ready),
            _ready("no_new_privs", syscalls.set_no_new_privs.ready),
        ]
        # A change of user or capabilities has undone both of these.
        if parent is not None:
            self._then.append(("parent_death", functools.partial(syscalls.die_with_parent, parent)))
        self._then.append(_ready("dumpable", lambda: syscalls.set_dumpable.ready(dumpable)))
        if rules is not None:
            landlock.abi()  # is asked for once
            self._then.append(("landlock", functools.partial(landlock.restrict, rules)))
        if policy is not None:
            self._then.append(_ready("filter", lambda: filters.install.ready(policy)))

    def of(self, user: User | None) -> Call:
        """Returns what confines the process that calls it, as `confine` does.

        Args:
            user: Whom that becomes; None: the user stays.
        """
        becoming = [] if user is None else [("user", user.becoming())]
        return functools.partial(_apply, [*self._first, *becoming, *self._then])


def prepare(confinement: Confinement) -> Confining:
    """Does what all children have in common: call it before forking, and they take less time and memory.

    Args:
        confinement: By what they are confined; whom they become is for each to say.

    Raises:
        ConfinementError: This machine can't filter system calls, or a limit is none.
    """
    return Confining(confinement)


def confine(confinement: Confinement) -> None:
    """Confines this process and all that it starts from now on; there is no way back.

    Call it in a process that was just forked and has one thread, after all that is denied then:
    joining namespaces, `setsid`, opening descriptors outside. Where the error is raised some layers may
    hold already: report it and end the process.

    Args:
        confinement: By what.

    Raises:
        ConfinementError: A layer failed; the error names it.
    """
    prepare(confinement).of(confinement.user)()


def _drop_bounding_set() -> Call:
    # Without the right to: after no_new_privs and without capabilities an exec has nothing to give.
    return functools.partial(_unless_forbidden, syscalls.drop_bounding_set.ready())


def _unless_forbidden(call: Call) -> None:
    try:  # noqa: SIM105  # `suppress` would take more pages of each child
        call()
    except PermissionError:
        pass


_REFUSALS = (OSError, ValueError, OverflowError, NotImplementedError)


def _ready(layer: str, prepare_it: Callable[[], Call]) -> tuple[str, Call]:
    try:
        return layer, prepare_it()
    except _REFUSALS as error:
        raise ConfinementError(layer, error) from error


def _apply(layers: Iterable[tuple[str, Call]]) -> None:
    layer = ""
    try:
        for layer, apply in layers:  # noqa: B007  # the error names it
            apply()
    except _REFUSALS as error:
        raise ConfinementError(layer, error) from error
