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
from collections.abc import Iterable, Mapping
from pathlib import Path

from codecontext_service.workers.control_groups import own_group

from .control_trees import CPU, CPU_TIME, MEMORY, Tree, read, write

logger = logging.getLogger(__name__)

_PERIOD_US = 100_000
_MIN_QUOTA_US = 1_000

_ENTRIES = {1: "tasks", 2: "cgroup.procs"}
_NO_LIMIT = {1: "-1", 2: "max"}
_MEMORY_LIMITS = {1: "memory.limit_in_bytes", 2: "memory.max"}
_SWAP_LIMITS = {1: "memory.memsw.limit_in_bytes", 2: "memory.swap.max"}
_OOM_COUNTS = {1: "memory.oom_control", 2: "memory.events"}

_RETRY_S, _MAX_RETRY_S = 0.001, 1.0
_PATIENCE = 8
"""After so many attempts, a quarter of a second, it is worth a warning that a group stays."""

_TRIAL_BYTES = 64 << 20
_TRIAL = (
    "import os, sys\nfor fd in sys.argv[1:]: os.write(int(fd), b'0')\n"
    "print(open('/proc/self/cgroup').read())"
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
        self._vacated = asyncio.Event()
        self._kills_noted = 0
        self._kills_fd = -1
        """What counts its killed processes, which is read at every run; -1 until it is read first."""
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
            write(swap, none)  # version 1 wants it to be the larger one at all times
        write(folder / _MEMORY_LIMITS[version], str(memory_bytes) if memory_bytes else none)
        if has_swap and memory_bytes:
            write(swap, str(memory_bytes) if version == 1 else "0")

    def _limit_cpus(self, cpus: float) -> None:
        folder, version = self._find(CPU)
        quota = str(max(_MIN_QUOTA_US, round(cpus * _PERIOD_US))) if cpus else _NO_LIMIT[version]
        if version == 1:
            write(folder / "cpu.cfs_period_us", str(_PERIOD_US))
            write(folder / "cpu.cfs_quota_us", quota)
        else:
            write(folder / "cpu.max", f"{quota} {_PERIOD_US}")

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
        try:
            if self._kills_fd < 0:
                folder, version = self._find(MEMORY)
                self._kills_fd = os.open(folder / _OOM_COUNTS[version], os.O_RDONLY | os.O_CLOEXEC)
            return _field(os.pread(self._kills_fd, 4096, 0).decode(), "oom_kill")
        except OSError:  # it is being removed
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
            return int(read(folder / "cpuacct.usage")) / 1e9
        return _field(read(folder / "cpu.stat"), "usage_usec") / 1e6

    def on_vacated(self) -> None:
        """Hears that all of its processes have ended, or are about to."""
        self._vacated.set()

    async def remove(self) -> None:
        """Removes it, and returns once it is gone: as soon as no process is left in it, and that was told."""
        self._close()
        for attempt in itertools.count():
            try:
                # In a thread: whoever moves a process anywhere on the machine may keep all groups locked.
                await asyncio.to_thread(self._remove)
                return
            except OSError as error:
                if attempt == _PATIENCE:
                    logger.warning("a control group can't be removed yet: %s", error)
            if self._vacated.is_set():
                await asyncio.sleep(min(_RETRY_S * 2**attempt, _MAX_RETRY_S))
            else:
                await self._vacated.wait()

    def _close(self) -> None:
        if self._kills_fd >= 0:
            os.close(self._kills_fd)
            self._kills_fd = -1
            self._by_controller = {}  # so that nobody opens it again

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
        group.on_vacated()
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


def _field(text: str, name: str) -> int:
    """Returns the number after a name in lines of names and numbers; 0 if it is not there."""
    for line in text.splitlines():
        if line.startswith(f"{name} "):
            return int(line[len(name) :])
    return 0
