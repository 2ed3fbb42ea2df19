"""After any number of contexts in any order, the machine is as it was."""

from __future__ import annotations

import collections
import contextlib
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from support.processes import at_rest
from support.runs import until
from support.servers import ServerProcess
from support.tiers import server_of

from codecontext import CodeContext, CodeContextClient, CodeContextError
from codecontext_service.workers.control_groups import own_group

CYCLES = int(os.environ.get("CODECONTEXT_TEST_CYCLES", "60"))
"""How many contexts are made in the tier that is taken by default, a third as many in each of the others:
CODECONTEXT_TEST_CYCLES=2000 for a long look."""

LIVING = 8
"""How many there are at most at a time."""

POOL = 2

SEGMENT = f"codecontext-test-{os.getpid()}"
"""The name of the shared memory that contexts make."""

KEY = 0x0CC00000 + os.getpid() % 0x100000
"""The key of the System V shared memory, semaphores and messages that contexts make."""

TABLES = ("shm", "sem", "msg")
"""Where the kernel lists these, in /proc/sysvipc."""

IN_MEMORY = (
    f"from multiprocessing.shared_memory import SharedMemory as S; m = S({SEGMENT!r}, True, 4096)",
    f"import ctypes; c = ctypes.CDLL(None).shmget({KEY}, 4096, 0o1600)",
    f"import ctypes; c = ctypes.CDLL(None).semget({KEY}, 2, 0o1600)",
    f"import ctypes; c = ctypes.CDLL(None); c.msgsnd(c.msgget({KEY}, 0o1600), b'\\1' * 100, 50, 0)",
)
"""What contexts run that outlives every process, and nobody takes away where nothing contains them."""

CODES = (
    "1 + 1",
    "import numpy; numpy.ones(1000).sum()",
    "open('f', 'w').write('x' * 100_000) and None",
    "import subprocess; p = subprocess.Popen(['sleep', '1000'], start_new_session=True)",
    "import os, time\nif os.fork() == 0: (os.setsid(), os.fork(), time.sleep(1000))",
    *IN_MEMORY,
    "raise ValueError",
    "import os; os._exit(3)",
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "import ctypes; ctypes.string_at(0)",
    "import os; os.closerange(3, 1000)",
)
"""What contexts run, the last four of which end their interpreter or lose it."""


@pytest.fixture(params=["auto", "uid", "landlock", "none"])
def server(request: pytest.FixtureRequest, open_path: Path) -> Iterator[ServerProcess]:
    """A server of this test's own, in each tier."""
    flags = ("--pool-size", str(POOL))
    if request.param in ("uid", "landlock"):
        with server_of(request.param, open_path, *flags) as each:
            yield each
    else:
        flags += ("--isolation", request.param)
        with ServerProcess(open_path / "state", *flags) as each:
            yield each


def _kind_of(link: str) -> str:
    return link.split(":", maxsplit=1)[0] if ":" in link else "file"


def _names_below(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*")) if folder.is_dir() else []


def _kinds_of_descriptors(pid: int) -> collections.Counter[str]:
    kinds = collections.Counter[str]()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists them, and what is closed meanwhile
            kinds[_kind_of(str(each.readlink()))] += 1
    return kinds


def _count_of_mounts(pid: int) -> int:
    return len(Path(f"/proc/{pid}/mountinfo").read_text().splitlines())


def _has_our_key(table: Path) -> bool:
    rows = table.read_text().splitlines()[1:]
    return any(int(row.split()[0]) == KEY for row in rows)


class Inventory:
    """What a server and those that make its contexts have, and what the machine has of them."""

    def __init__(self, server: ServerProcess, state: Path) -> None:
        """Counts everything."""
        makers = [each.pid for name in ("launcher", "zygote") for each in server.workers(name)]
        # By their order, not by their pids: which of them has more is seen all the same.
        self.descriptors = [_kinds_of_descriptors(pid) for pid in (server.pid, *makers)]
        self.mounts = [_count_of_mounts(pid) for pid in (server.pid, *makers)]
        commands = collections.Counter[str]()
        for process in server.descendants():
            with contextlib.suppress(psutil.Error):
                commands[process.name()] += 1
        self.processes = commands
        self.state = _names_below(state)
        self.shared_memory = Path("/dev/shm", SEGMENT).exists()
        self.sysv_ipc = [name for name in TABLES if _has_our_key(Path("/proc/sysvipc", name))]
        self.groups = sum(
            len(_names_below(folder)) and sum(1 for path in folder.rglob("*") if path.is_dir())
            for controller in ("memory", "cpu", "cpuacct")
            for folder in self._groups_of(controller, server.pid)
        )

    @staticmethod
    def _groups_of(controller: str, pid: int) -> list[Path]:
        try:
            parent = Path(own_group(controller)[0])
        except OSError:
            return []
        return list(parent.glob(f"codecontext-{pid}-*"))

    def other_than(self, before: Inventory) -> dict[str, tuple[object, object]]:
        """What is not as it was: what it was, and what it is."""
        return {
            name: (was, vars(self)[name])
            for name, was in vars(before).items()
            if vars(self)[name] != was
        }


def _cycle(
    client: CodeContextClient,
    chances: random.Random,
    living: list[CodeContext],
    codes: Sequence[str],
) -> None:
    """Makes a context, and lets it and others meet with something."""
    sandbox = chances.choice(living).sandbox_id if living and chances.random() < 0.3 else None
    with contextlib.suppress(CodeContextError):  # it may have been that sandbox's last one
        living.append(client.create_code_context(sandbox_id=sandbox))
    for _ in range(2):
        context = chances.choice(living)
        with contextlib.suppress(CodeContextError):
            match chances.randrange(6):
                case 0:
                    client.restart_code_context(context)
                case 1:
                    living += client.fork_code_context(context, count=chances.randrange(1, 3))
                case 2:
                    client.files.write(context, f"up/{chances.random()}", "x", parents=True)
                case _:
                    client.run_code(chances.choice(codes), context=context, timeout=20)
    while len(living) > LIVING:
        context = living.pop(chances.randrange(len(living)))
        client.delete_code_context(context, force=True)


@pytest.mark.timeout(120 + CYCLES)
def test_nothing_is_left_of_contexts_in_any_order(server: ServerProcess, open_path: Path) -> None:
    """No process, mount, control group, descriptor, directory or shared memory is more than before."""
    chances, state = random.Random(11), open_path / "state"
    with CodeContextClient(server.target) as client:
        for context in [client.create_code_context() for _ in range(LIVING)]:
            client.run_code("1", context=context)
            client.files.write(context, "opens the connection for files", "")
            client.delete_code_context(context)
        at_rest(server)
        before = Inventory(server, state)
        living: list[CodeContext] = []
        contained = client.get_server_info().isolation.tier != "none"
        codes = [code for code in CODES if contained or code not in IN_MEMORY]
        for _ in range(CYCLES if "auto" in server.flags else CYCLES // 3):
            _cycle(client, chances, living, codes)
        for context in client.list_code_contexts():
            client.delete_code_context(context, force=True)
        at_rest(server)
        with contextlib.suppress(AssertionError):
            until(lambda: not Inventory(server, state).other_than(before))
        assert Inventory(server, state).other_than(before) == {}
    assert server.stop() == 0
    assert server.wait_for_log("stopped")["tasks"] == 0
