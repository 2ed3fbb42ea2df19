"""Control groups, version 1 or 2: by them the kernel limits what a context uses, and counts it.

The server has a group of its own below the one that it runs in, and in it one for each cell. In version 1
each controller has such a tree of its own (or shares it with another), in version 2 all share one.

An interpreter enters its group by itself, right after it is forked and before it runs any code: it
writes to descriptors that the server has opened, and whose rights are therefore the server's. In version
1 that file is `tasks`: a process with one thread that moves itself need not wait for the kernel to agree
with all processors, which takes 10 to 30 ms, nor do others wait for it. Version 2 has no such way.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from codecontext_service.workers.control_groups import own_group

from .locks import lock, locked

logger = logging.getLogger(__name__)

MEMORY, CPU, CPU_TIME = "memory", "cpu", "cpuacct"

_PREFIX = "codecontext-"
_LEAF = "server"
_PERIOD_US = 100_000
_MIN_QUOTA_US = 1_000

_ENTRIES = {1: "tasks", 2: "cgroup.procs"}
_NO_LIMIT = {1: "-1", 2: "max"}
_MEMORY_LIMITS = {1: "memory.limit_in_bytes", 2: "memory.max"}
_SWAP_LIMITS = {1: "memory.memsw.limit_in_bytes", 2: "memory.swap.max"}
_OOM_COUNTS = {1: "memory.oom_control", 2: "memory.events"}

_START_WAIT_S = 10.0
"""How long other servers may take to start. Whoever can read the directory could hold the lock."""

_LEFTOVERS_WAIT_S = 2.0
"""How long the processes of a server that was killed may take to end, at the next one's start."""

_RETRY_S, _MAX_RETRY_S = 0.001, 1.0
_PATIENCE = 8
"""After so many attempts, a quarter of a second, it is worth a warning that a group stays."""

_TRIAL_BYTES = 64 << 20
_TRIAL = (
    "import os, sys\nfor fd in sys.argv[1:]: os.write(int(fd), b'0')\n"
    "print(open('/proc/self/cgroup').read())"
)


class Tree:
    """The server's group in one hierarchy, and what it has to do there."""

    def __init__(self, parent: Path, version: int, controllers: Iterable[str]) -> None:
        """Makes the server's group, and removes those of servers that were killed.

        Args:
            parent: The group that the server runs in.
            version: 1 or 2.
            controllers: What the hierarchy has to limit or count.

        Raises:
            OSError: It can't be used; the text says why.
        """
        self.version = version
        self.controllers = frozenset(controllers)
        self._parent = parent
        self._enabled: list[str] = []
        self._moved = False
        # One server at a time, or one would take the other's group, not locked yet, for a dead one's.
        with locked(parent, _START_WAIT_S):
            _remove_leftovers(parent)
            self.own = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
            self._lock = lock(self.own)
        if version == 2:
            try:
                self._delegate()
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Removes the server's group and all below it, and leaves the rest as it was found."""
        try:
            _remove(self.own, spare=(self.own, self.own / _LEAF))
            if self._enabled:
                _write(self.own / "cgroup.subtree_control", _minus(self._wanted()))
                with contextlib.suppress(OSError):  # another server needs them
                    _write(self._parent / "cgroup.subtree_control", _minus(self._enabled))
            if self._moved:
                _write(self._parent / "cgroup.procs", str(os.getpid()))
            _remove(self.own)
        except OSError as error:
            logger.warning("a control group is left: %s", error)
        finally:
            os.close(self._lock)

    def _wanted(self) -> list[str]:
        return sorted(self.controllers - {CPU_TIME})  # which version 2 counts anyway

    def _delegate(self) -> None:
        """Has the groups below the server's one limit what they are to limit."""
        given = _read(self._parent / "cgroup.controllers").split()
        if missing := [each for each in self._wanted() if each not in given]:
            raise OSError(errno.ENOENT, f"{self._parent} is not given {' and '.join(missing)}")
        control = self._parent / "cgroup.subtree_control"
        enabled = _read(control).split()
        wanted = [each for each in self._wanted() if each not in enabled]
        if wanted:
            try:
                _write(control, _plus(wanted))
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                # A group that has processes itself can't pass controllers on.
                self._move_into_leaf()
                _write(control, _plus(wanted))
            self._enabled = wanted
        _write(self.own / "cgroup.subtree_control", _plus(self._wanted()))

    def _move_into_leaf(self) -> None:
        (self.own / _LEAF).mkdir()
        _write(self.own / _LEAF / "cgroup.procs", str(os.getpid()))
        self._moved = True
        if others := _read(self._parent / "cgroup.procs").split():
            raise OSError(
                errno.EBUSY,
                f"{self._parent} has other processes than the server ({', '.join(others[:5])}): "
                "give the server a control group of its own",
            )


class ControlGroup:
    """The group of one cell: of one context, and all interpreters that it has one after the other."""

    def __init__(self, trees: Iterable[Tree], name: str) -> None:
        """Makes it.

        Args:
            trees: The server's groups.
            name: Its name, the same in all of them.

        Raises:
            OSError: The kernel refused.
        """
        self._folders = {tree.own / name: tree for tree in trees}
        self._by_controller = {
            controller: (folder, tree.version)
            for folder, tree in self._folders.items()
            for controller in tree.controllers
        }
        self._limits = (0, 0.0)
        self._kills_noted = 0
        made: list[Path] = []
        try:
            for folder in self._folders:
                folder.mkdir()
                made.append(folder)
        except BaseException:
            for folder in made:
                folder.rmdir()
            raise

    @property
    def limits_memory(self) -> bool:
        """Whether it can limit memory."""
        return MEMORY in self._by_controller

    def open_entries(self) -> list[int]:
        """Opens what a process has to write `0` to, to be in the group with all that it starts.

        Returns:
            Descriptors, which are the caller's to close.

        Raises:
            OSError: The group is gone.
        """
        with contextlib.ExitStack() as opened:
            entries = []
            for folder, tree in self._folders.items():
                entry = os.open(folder / _ENTRIES[tree.version], os.O_WRONLY | os.O_CLOEXEC)
                opened.callback(os.close, entry)
                entries.append(entry)
            opened.pop_all()
        return entries

    def limit(self, *, memory_bytes: int, cpus: float) -> None:
        """Limits what its processes may use together.

        Args:
            memory_bytes: Memory and swap together (version 2: memory, and no swap); 0 means no limit.
            cpus: Processors, 0.01 or more; 0 means no limit.

        Raises:
            OSError: The kernel refused, or the group has no such controller.
        """
        had_memory_bytes, had_cpus = self._limits
        if memory_bytes != had_memory_bytes:
            self._limit_memory(memory_bytes)
        if cpus != had_cpus:
            self._limit_cpus(cpus)
        self._limits = (memory_bytes, cpus)

    def _limit_memory(self, memory_bytes: int) -> None:
        folder, version = self._find(MEMORY)
        none = _NO_LIMIT[version]
        swap = folder / _SWAP_LIMITS[version]
        has_swap = swap.exists()  # a kernel without swap has no such file
        if has_swap and self._limits[0]:
            _write(swap, none)  # version 1 wants it to be the larger one at all times
        _write(folder / _MEMORY_LIMITS[version], str(memory_bytes) if memory_bytes else none)
        if has_swap and memory_bytes:
            _write(swap, str(memory_bytes) if version == 1 else "0")

    def _limit_cpus(self, cpus: float) -> None:
        folder, version = self._find(CPU)
        quota = str(max(_MIN_QUOTA_US, round(cpus * _PERIOD_US))) if cpus else _NO_LIMIT[version]
        if version == 1:
            _write(folder / "cpu.cfs_period_us", str(_PERIOD_US))
            _write(folder / "cpu.cfs_quota_us", quota)
        else:
            _write(folder / "cpu.max", f"{quota} {_PERIOD_US}")

    def note_oom_kills(self) -> None:
        """Takes note of how many of its processes were killed for want of memory by now."""
        self._kills_noted = self._oom_kills()

    @property
    def oom_killed(self) -> bool:
        """Whether any of its processes was killed for want of memory since that was last noted."""
        return self._oom_kills() > self._kills_noted

    def _oom_kills(self) -> int:
        if not self.limits_memory:
            return 0
        folder, version = self._find(MEMORY)
        with contextlib.suppress(OSError):  # it is being removed
            return _field(_read(folder / _OOM_COUNTS[version]), "oom_kill")
        return 0

    def cpu_time_s(self) -> float | None:
        """Returns the CPU time of all processes that were ever in it, in seconds; None if nobody counts it.

        Raises:
            OSError: The group is gone.
        """
        if CPU_TIME not in self._by_controller:
            return None
        folder, version = self._find(CPU_TIME)
        if version == 1:
            return int(_read(folder / "cpuacct.usage")) / 1e9
        return _field(_read(folder / "cpu.stat"), "usage_usec") / 1e6

    async def remove(self) -> None:
        """Removes it, and returns once it is gone; its processes must be, or be about to be."""
        for attempt in itertools.count():
            try:
                # In a thread: whoever moves a process anywhere on the machine may keep all groups locked.
                await asyncio.to_thread(self._remove)
                return
            except OSError as error:
                if attempt == _PATIENCE:
                    logger.warning("a control group can't be removed yet: %s", error)
            await asyncio.sleep(min(_RETRY_S * 2**attempt, _MAX_RETRY_S))

    def _remove(self) -> None:
        for folder in self._folders:
            with contextlib.suppress(FileNotFoundError):
                folder.rmdir()

    def _find(self, controller: str) -> tuple[Path, int]:
        try:
            return self._by_controller[controller]
        except KeyError:
            raise OSError(errno.ENOENT, f"no control group limits {controller}") from None


class ControlGroups:
    """All control groups of a server."""

    def __init__(self, parents: Mapping[str, tuple[str, int]]) -> None:
        """Makes the server's own.

        Args:
            parents: For each controller the group that the server runs in, and its version.

        Raises:
            OSError: One can't be used; the text says why.
        """
        hierarchies: dict[tuple[str, int], list[str]] = {}
        for controller, parent in parents.items():
            hierarchies.setdefault(parent, []).append(controller)
        self._trees: list[Tree] = []
        self._made = 0
        self._removing: set[asyncio.Task[None]] = set()
        try:
            for (folder, version), controllers in hierarchies.items():
                self._trees.append(Tree(Path(folder), version, controllers))
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls) -> ControlGroups:
        """Makes those of this process, and tries whether they work. Takes some 50 ms.

        Raises:
            OSError: They don't: no memory can be limited. The text says why.
        """
        parents = {MEMORY: own_group(MEMORY)}
        for controller in (CPU, CPU_TIME):
            with contextlib.suppress(OSError):
                parents[controller] = own_group(controller)
        try:
            return cls._open(parents)
        except OSError:
            if len(parents) == 1:
                raise
            return cls._open({MEMORY: parents[MEMORY]})

    @classmethod
    def _open(cls, parents: Mapping[str, tuple[str, int]]) -> ControlGroups:
        groups = cls(parents)
        try:
            groups._try()
        except BaseException:
            groups.close()
            raise
        return groups

    @property
    def controllers(self) -> frozenset[str]:
        """What they limit and count."""
        return frozenset(each for tree in self._trees for each in tree.controllers)

    async def make(self) -> ControlGroup:
        """Makes a group.

        Raises:
            OSError: The kernel refused.
        """
        # In a thread, as above.
        making = asyncio.get_running_loop().run_in_executor(None, self._make)
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            making.add_done_callback(self._on_unwanted)
            raise

    def discard(self, group: ControlGroup) -> None:
        """Removes a group that nobody has used."""
        removing = asyncio.ensure_future(group.remove())
        self._removing.add(removing)
        removing.add_done_callback(self._removing.discard)

    def close(self) -> None:
        """Removes all of them; their processes must be gone. Blocks, and may be repeated."""
        trees, self._trees = self._trees, []
        for tree in trees:
            tree.close()

    def _make(self) -> ControlGroup:
        self._made += 1
        return ControlGroup(self._trees, str(self._made))

    def _on_unwanted(self, making: asyncio.Future[ControlGroup]) -> None:
        if not making.cancelled() and not making.exception():
            self.discard(making.result())

    def _try(self) -> None:
        group = self._make()
        entries = group.open_entries()
        try:
            group.limit(memory_bytes=_TRIAL_BYTES, cpus=0.0)
            tried = subprocess.run(
                [sys.executable, "-I", "-S", "-c", _TRIAL, *map(str, entries)],
                pass_fds=entries,
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            if tried.returncode or any(tree.own.name not in tried.stdout for tree in self._trees):
                why = tried.stderr.strip().rpartition("\n")[2] or "it is not there afterwards"
                raise OSError(errno.EINVAL, f"a process can't enter a control group: {why}")
        except subprocess.TimeoutExpired as error:
            raise OSError(errno.ETIMEDOUT, "a process can't enter a control group") from error
        finally:
            for entry in entries:
                os.close(entry)
            group._remove()


def _remove_leftovers(parent: Path) -> None:
    """Removes the groups of servers that live no more."""
    for group in parent.glob(f"{_PREFIX}*"):
        try:
            held = lock(group, wait_s=0.0)
        except OSError:
            continue  # it lives, or somebody else was faster
        try:
            _remove(group)
            logger.info("removed a dead server's control group", extra={"group": group.name})
        except OSError as error:
            logger.warning("a dead server's control group is left: %s", error)
        finally:
            os.close(held)


def _remove(group: Path, spare: Iterable[Path] = ()) -> None:
    """Removes a group with all below it; waits a while for processes that are about to end."""
    deadline = time.monotonic() + _LEFTOVERS_WAIT_S
    for folder, _, _ in os.walk(group, topdown=False):
        if Path(folder) in spare:
            continue
        while True:
            try:
                os.rmdir(folder)  # noqa: PTH106  # as os.walk names it
                break
            except FileNotFoundError:
                break
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


def _field(text: str, name: str) -> int:
    """Returns the number after a name in lines of names and numbers; 0 if it is not there."""
    return next(
        (int(line.split()[1]) for line in text.splitlines() if line.split()[:1] == [name]), 0
    )


def _plus(controllers: Iterable[str]) -> str:
    return " ".join(f"+{each}" for each in controllers)


def _minus(controllers: Iterable[str]) -> str:
    return " ".join(f"-{each}" for each in controllers)


def _read(path: Path) -> str:
    return path.read_text()


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise OSError(error.errno, f"{path}: {os.strerror(error.errno or 0)}") from None
