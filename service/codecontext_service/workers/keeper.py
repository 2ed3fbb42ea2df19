"""The keeper: holds a context's processes together, and ends them all.

Contexts that were forked from the one that it was made for are its members too: `marks` tells whose a
process is. In a cell it is pid 1, forked ahead by the launcher: its end is the end of all. Without pid
namespaces it is a subreaper, forked by the zygote as the interpreter's parent, and kills until no child is
left. Either watches its socket: when the server is gone, it ends everything.

From the server, as JSON, each with the number of the `member` that is meant: `{"interrupt": group}`,
`{"empty": number, "leaves": …}`, `{"usage": number}`, `{"limit": {"memory_bytes": …, "cpu_time_s": …}}`,
`{"lower": number, "pid": …, "open_files": …, "file_size": …, "processes": …}` for an interpreter that can't
lower its own limits, and `{"adopt": number, "pid": …, "parent": …}` for one that another member has forked, or
that was started for a member that had none; for all of them `{"kill": true}`.
To the server: first `{"ready": true}` from a cell, with a descriptor of the workspace if it has one, or
`{"pid": …}` with a pidfd of the interpreter; then `{"answer": number, …}` (to `adopt` with a pidfd, or with
an `error`), `{"interrupted": group, "member": …}`, `{"exceeded": what, "member": …}` before it ends a member,
and `{"exited": pid, …}` when it has reaped an interpreter.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable, Collection
from typing import Any, NoReturn

from . import syscalls
from .children import (
    ChildWatch,
    EndedChild,
    descendants,
    descends,
    end_all_children,
    own_children,
)
from .descriptors import close_all, close_all_but, receive_message, send_message
from .lowering import lower_limit
from .marks import Found, Marks
from .usage import measure
from .watchdog import REST, Watchdog

_EMPTYING_S = 0.002
"""How long it waits before it looks again whether all have ended, where nothing tells it."""

_CHASES = 100
"""How often it looks at its own children alone before it looks at all."""

_LOOKS = 20
"""How often it looks for processes of a member that is to end before others get their turn."""


def run_subreaper_keeper(end: socket.socket, run_interpreter: Callable[[], None]) -> NoReturn:
    """Is the keeper of a context without a pid namespace, in a process that was just forked for it.

    Args:
        end: Its socket.
        run_interpreter: What the interpreter's process does; it must close what is not its own.
    """
    syscalls.become_subreaper()
    os.setsid()
    watch = ChildWatch()
    interpreter = os.fork()
    if interpreter == 0:
        watch.close()
        end.close()
        run_interpreter()
        os._exit(0)
    close_all_but([end.fileno(), *watch.descriptors])
    with contextlib.suppress(EOFError, OSError):
        pidfd = os.pidfd_open(interpreter)
        send_message(end, {"pid": interpreter}, [pidfd])
        os.close(pidfd)
        _SubreaperKeeper(watch, interpreter).keep(end)
    end_all_children()
    os._exit(0)


class _Member:
    """What a keeper knows of one context."""

    def __init__(self, held: Callable[[], set[int]]) -> None:
        self.ended_s = 0.0
        """CPU time of its processes that the keeper has reaped, in seconds."""
        self.watchdog = Watchdog(held, lambda: self.ended_s)
        self.emptying: list[int] = []
        """The orders that are answered once it has no processes any more."""
        self.leaves = False
        """Whether it does not come back then."""


class Keeper:
    """Reaps, obeys the server, and ends what uses too much."""

    _end: socket.socket

    def __init__(self, watch: ChildWatch) -> None:
        """Starts with one member.

        Args:
            watch: Of the process whose children it keeps.
        """
        self._watch = watch
        self._marks = Marks()
        self._members: dict[int, _Member] = {}
        self._adopted: set[int] = set()
        self._awaited: int | None = None
        """A pidfd of one that was killed: it is pointless to look whether all have ended before it has."""
        self._held: dict[int, set[int]] | None = None
        """Whose the processes are, if that was looked up since it last waited."""
        self._rest_until = 0.0
        self._goes_on = True
        self._member(0)

    def keep(self, end: socket.socket) -> None:
        """Keeps until it is told to end, or has nothing to keep any more.

        Args:
            end: Its socket.

        Raises:
            EOFError: The server is gone.
            OSError: Likewise.
        """
        self._end = end
        while self._goes_on:
            ends = [self._end.fileno(), self._watch.fileno()]
            if self._awaited is not None:
                ends.append(self._awaited)
            ready = select.select(ends, [], [], self._wait_s())[0]
            self._held = None
            if self._awaited in ready:
                self._await_nobody()
            if self._watch.fileno() in ready:
                self._reap()
            if self._end.fileno() in ready:
                self._obey(receive_message(self._end)[0])
            if self._watchdogs_wait_s() == 0.0:
                self._look()
            if self._awaited is None:
                self._empty_members()

    def held(self, number: int) -> set[int]:
        """Returns the processes of a member."""
        if self._is_all(number):
            return self.all()
        if self._held is None:
            self._held = self._marks.by_owner(self.all())
        return self._held.get(number, set())

    def _is_all(self, number: int) -> bool:
        """Whether all processes are those of a member: there was never another one."""
        return number == 0 and not self._marks.shared

    def all(self) -> set[int]:
        """Returns the processes of all members."""
        return descendants()

    def keeps(self, pid: int) -> bool:
        """Returns whether a process is one of a member's."""
        return descends(pid)

    def end_all(self) -> None:
        """Ends all that it holds, where that is one member's."""
        self._goes_on = False

    def on_reaped(self, child: EndedChild) -> None:
        """Hears that a child has ended."""
        if child.pid in self._adopted:
            self._adopted.discard(child.pid)
            send_message(self._end, child.report())

    def _member(self, number: int) -> _Member:
        if number not in self._members:
            self._members[number] = _Member(lambda: self.held(number))
        return self._members[number]

    def _wait_s(self) -> float | None:
        # Of those that others reap, such as an interpreter, nothing tells it when they are gone.
        if self._awaited is None and any(member.emptying for member in self._members.values()):
            return _EMPTYING_S
        return self._watchdogs_wait_s()

    def _await_one_of(self, pids: Collection[int]) -> None:
        """Looks no more until one of some killed processes has ended: looks of many keepers hinder that."""
        with contextlib.suppress(OSError, ValueError):  # it is gone, or there are none
            self._awaited = os.pidfd_open(min(pids))
            if select.select([self._awaited], [], [], 0)[0]:
                self._await_nobody()  # it has ended, and is still to be reaped, of which nothing tells

    def _await_nobody(self) -> None:
        if self._awaited is not None:
            os.close(self._awaited)
            self._awaited = None

    def _watchdogs_wait_s(self) -> float | None:
        waits = [member.watchdog.wait_s for member in self._members.values()]
        first = min((wait_s for wait_s in waits if wait_s is not None), default=None)
        return None if first is None else max(first, self._rest_until - time.monotonic(), 0.0)

    def _look(self) -> None:
        """Looks at all members at once: most of it is to find whose the processes are."""
        began_s = time.process_time()
        for number, member in list(self._members.items()):
            if exceeded := member.watchdog.look():
                send_message(self._end, {"exceeded": exceeded, "member": number})
                self._end_member(number)
        took_s = time.process_time() - began_s
        self._rest_until = time.monotonic() + REST * took_s

    def _reap(self) -> None:
        owner: int | None = 0

        def find_owner(pid: int) -> None:
            nonlocal owner
            owner = self._marks.owner(pid) if self._marks.shared else 0

        for child in self._watch.reap(find_owner):
            if owner in self._members:
                self._members[owner].ended_s += child.cpu_time_s
            self.on_reaped(child)

    def _obey(self, order: dict[str, Any]) -> None:
        number = order.get("member", 0)
        if "interrupt" in order:
            # The group has the interpreter and what it runs in the foreground, as on a terminal.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(order["interrupt"], signal.SIGINT)
            send_message(self._end, {"interrupted": order["interrupt"], "member": number})
        elif "usage" in order:
            usage = measure(self.held(number), self._member(number).ended_s)
            send_message(self._end, {"answer": order["usage"], **usage})
        elif "limit" in order:
            self._member(number).watchdog.limit(**order["limit"])
        elif "lower" in order:
            self._lower(order)
        elif "empty" in order:
            self._member(number).emptying.append(order["empty"])
            self._member(number).leaves = order["leaves"]
            self._await_nobody()  # there are more to end
        elif "adopt" in order:
            self._adopt(number, order)
        else:
            self._goes_on = False

    def _lower(self, order: dict[str, Any]) -> None:
        """Lowers limits of a process that has run no code yet; 0 leaves one as it is."""
        answer: dict[str, Any] = {"answer": order["lower"]}
        try:
            for kind, name in (
                (resource.RLIMIT_NOFILE, "open_files"),
                (resource.RLIMIT_FSIZE, "file_size"),
                (resource.RLIMIT_NPROC, "processes"),
            ):
                if order[name]:
                    lower_limit(order["pid"], kind, order[name])
        except OSError as error:
            answer["error"] = str(error)
        send_message(self._end, answer)

    def _adopt(self, number: int, order: dict[str, Any]) -> None:
        """Takes a process as the first one of a member; whoever names it may lie."""
        pid, pidfds = order["pid"], []
        answer: dict[str, Any] = {"answer": order["adopt"]}
        try:
            pidfds = [os.pidfd_open(pid)]
            if not self.keeps(pid):
                raise ProcessLookupError(f"process {pid} is none of this keeper's")
            if self._marks.owner(pid) != order["parent"]:
                raise PermissionError(f"process {pid} is not one of its parent's")
            self._marks.give(pid, number)
            signal.pidfd_send_signal(pidfds[0], 0)  # it is still the same process
            self._member(number)
            self._adopted.add(pid)
        except (OSError, ValueError, OverflowError) as error:
            answer["error"] = str(error)
            close_all(pidfds)
            pidfds = []
        send_message(self._end, answer, pidfds)
        close_all(pidfds)

    def _end_member(self, number: int) -> None:
        self._members[number].watchdog.limit(memory_bytes=0, cpu_time_s=0)
        if self._is_all(number):
            self.end_all()
            return
        self._kill_marked([number], self.all())

    def _kill_runaways(self, numbers: Collection[int]) -> None:
        """Ends who forks and ends all the time.

        It is another process before all of /proc is read, but always this one's child once its parent has
        ended, and these are found fast enough.
        """
        for _ in range(_CHASES):
            self._reap()
            if not self._kill_marked(numbers, own_children()).pids:
                return

    def _kill_marked(self, numbers: Collection[int], pids: Collection[int]) -> Found:
        found = self._marks.to_end(numbers, pids)
        for pid in found.pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        return found

    def _empty_members(self) -> None:
        """Ends the members that are to have no processes any more, and answers for those that have none."""
        numbers = {number for number, member in self._members.items() if member.emptying}
        left: set[int | None] = set()
        if numbers == {0} and self._is_all(0):
            if pids := self.all():
                self._end_member(0)
                self._await_one_of(pids)
                return
            if self._watch.is_behind:  # as below
                return
        elif numbers:
            # Who forks and ends at once may be missed, until a look finds nothing new. It is this one's
            # child, or becomes it, so that no look can miss it without news of an end.
            killed: set[int] = set()
            for _ in range(_LOOKS):
                self._kill_runaways(numbers)
                found = self._kill_marked(numbers, self.all())
                left.update(found.owners)
                if found.pids <= killed and not found.missed and not self._watch.is_behind:
                    self._await_one_of(found.pids)
                    break
                killed |= found.pids
            else:
                left.update(numbers)
            self._reap()  # what has no parent but this one any more
        for number in numbers - left:
            member = self._members[number]
            for order in member.emptying:
                send_message(self._end, {"answer": order})
            member.emptying.clear()
            if member.leaves:
                self._marks.forget(number)
                del self._members[number]


class _SubreaperKeeper(Keeper):
    """Is the parent of an interpreter, and ends with it, unless others were forked from that."""

    def __init__(self, watch: ChildWatch, interpreter: int) -> None:
        super().__init__(watch)
        self._interpreter = interpreter
        self._adopted.add(interpreter)

    def on_reaped(self, child: EndedChild) -> None:
        super().on_reaped(child)
        if child.pid == self._interpreter and not self._marks.shared:
            self._goes_on = False
