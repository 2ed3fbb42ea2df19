"""What the system call filters deny in a real process, and what goes on as ever."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from support import attempts, rights, uses
from support.confined import NOBODY, run

from codecontext_service.workers import syscalls
from codecontext_service.workers.architecture import this_machine
from codecontext_service.workers.confinement import Confinement
from codecontext_service.workers.filters import Policy, pid_rules, policy_for, rules

CELL = policy_for("cell", landlock_abi=7, memory_group=True)
UID = policy_for("uid", landlock_abi=7, memory_group=False)
LANDLOCK = policy_for("landlock", landlock_abi=7, memory_group=False)
OLD_LANDLOCK = policy_for("landlock", landlock_abi=1, memory_group=False)
HELD = policy_for("landlock", landlock_abi=7, memory_group=True, hold_process_group=True)
POLICIES = {"cell": CELL, "uid": UID, "landlock": LANDLOCK, "old": OLD_LANDLOCK, "held": HELD}

AS_ROOT = os.geteuid() == 0
USERS = [NOBODY, None] if AS_ROOT else [None]
by_user = pytest.mark.parametrize("uid", USERS, ids=lambda uid: "user" if uid else "self")
by_policy = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
needs_root = pytest.mark.skipif(not AS_ROOT, reason="needs root")


def confined(policy: Policy) -> Confinement:
    return Confinement(filter=policy)


@by_policy
@by_user
def test_every_denied_call_fails_as_the_rule_says(policy: Policy, uid: int | None) -> None:
    """Each unconditional rule gives its error, which a root without the filter never gets."""
    wanted = {rule.call: rule.error for rule in rules(policy) if rule.when is None}
    names = sorted(name for name in wanted if _exists_here(name))
    got = run(attempts.errors_of, names, confinement=confined(policy), uid=uid).value
    assert got == {name: _name(wanted[name]) for name in names}


@by_policy
@needs_root
def test_without_the_filter_none_of_these_errors_comes(policy: Policy) -> None:
    """The same calls by root are not denied, so it is the filter that denies them."""
    wanted = {rule.call: rule.error for rule in rules(policy) if rule.when is None}
    wanted.pop("setsid", None)  # the process leads its session already, for which this is the error
    has = int(run(rights.status).value["CapEff"], 16)
    lacks = [each for each in ADMINISTRATION if not has >> each & 1]
    if lacks:
        pytest.skip(
            f"this root lacks the capabilities {lacks}, so the kernel may deny what the filter does"
        )
    names = sorted(name for name in wanted if _exists_here(name))
    got = run(attempts.errors_in_namespaces, names).value
    assert not [name for name in names if got[name] == _name(wanted[name])]


def _exists_here(name: str) -> bool:
    return this_machine().number(name) is not None


def _name(error: int) -> str:
    return errno.errorcode[error]


ADMINISTRATION = (*range(16, 23), 25, 26, 34, 38, 39)
"""CAP_SYS_MODULE to CAP_SYS_BOOT, CAP_SYS_TIME, _TTY_CONFIG, CAP_SYSLOG, CAP_PERFMON, CAP_BPF."""

ALL = tuple(POLICIES.values())
FLAGS = {
    "user": syscalls.CLONE_NEWUSER,
    "mount": syscalls.CLONE_NEWNS,
    "net": syscalls.CLONE_NEWNET,
}

DENIED = [
    # name, attempt, arguments, policies, error
    ("unix socket", attempts.open_socket, (socket.AF_UNIX,), (UID, LANDLOCK), "EACCES"),
    ("tcp socket", attempts.open_socket, (socket.AF_INET,), (UID, LANDLOCK), "EACCES"),
    (
        "netlink",
        attempts.open_socket,
        (socket.AF_NETLINK, socket.SOCK_RAW),
        (CELL,),
        "ENOTSUP",
    ),
    ("netlink", attempts.open_socket, (socket.AF_NETLINK, socket.SOCK_RAW), (UID,), "EACCES"),
    ("memfd", attempts.make_memfd, (), (UID, LANDLOCK), "EPERM"),
    ("sysv memory", attempts.make_sysv_segment, (), (UID, LANDLOCK), "EPERM"),
    ("inotify", attempts.watch, ("/etc",), (LANDLOCK, OLD_LANDLOCK), "ENOSYS"),
    ("trace a child", attempts.trace_child, (), ALL, "EPERM"),
    ("read a child's memory", attempts.read_memory_of_child, (), ALL, "EPERM"),
    ("clone a user namespace", attempts.clone_with, (syscalls.CLONE_NEWUSER,), ALL, "EPERM"),
    ("unshare a user namespace", attempts.unshare, (syscalls.CLONE_NEWUSER,), ALL, "EPERM"),
    ("line discipline", attempts.set_line_discipline, (), ALL, "EPERM"),
    ("personality", attempts.set_personality, (0x0040000,), ALL, "EPERM"),
    ("new session", attempts.leave_session, (), (HELD,), "EPERM"),
    ("signal a child", attempts.signal_child, (), (OLD_LANDLOCK,), "EPERM"),
    (
        "owner of a descriptor",
        attempts.signal_by_descriptor,
        (os.getpid(),),
        (OLD_LANDLOCK,),
        "EPERM",
    ),
]


@pytest.mark.parametrize(
    ("attempt", "arguments", "policies", "error"),
    [case[1:] for case in DENIED],
    ids=[case[0] for case in DENIED],
)
@by_user
def test_an_attempt_is_denied_and_works_without_the_filter(
    attempt, arguments, policies, error, uid: int | None
) -> None:
    """The attempt does what it says it does, but not under the filter."""
    assert run(attempt, *arguments, uid=uid).outcome == "ok"
    for policy in policies:
        got = run(attempt, *arguments, uid=uid, confinement=confined(policy))
        assert got.outcome == error


@needs_root
@pytest.mark.parametrize(
    ("attempt", "arguments", "policies", "error"),
    [
        pytest.param(attempts.unshare, (flag,), ALL, "EPERM", id=f"unshare {name}")
        for name, flag in FLAGS.items()
    ]
    + [
        pytest.param(attempts.clone_with, (flag,), ALL, "EPERM", id=f"clone {name}")
        for name, flag in FLAGS.items()
    ]
    + [
        pytest.param(
            attempts.open_socket, (socket.AF_PACKET, socket.SOCK_RAW), (CELL,), "EAFNOSUPPORT",
            id="packet socket",
        ),
        pytest.param(attempts.make_node, (0o020644, os.makedev(1, 3)), ALL, "EPERM", id="device node"),
    ],
)  # fmt: skip
def test_what_root_could_do_is_denied(attempt, arguments, policies, error) -> None:
    """Rights that a root process has end at the filter, while its capabilities are still there."""
    assert run(attempt, *arguments).outcome == "ok"
    for policy in policies:
        assert run(attempts.with_filter_alone, policy, attempt, arguments).outcome == error


@by_user
@pytest.mark.parametrize("policy", [CELL, UID, LANDLOCK], ids=["cell", "uid", "landlock"])
def test_terminals_can_not_be_typed_into(policy: Policy, uid: int | None) -> None:
    """TIOCSTI is denied; the size of a terminal can be asked for."""
    tiocsti = 0x5412
    # Without the filter the kernel decides: a sysctl may have it refuse, with another error.
    assert run(attempts.type_into_terminal, tiocsti, uid=uid).outcome in ("ok", "EIO")
    got = run(attempts.type_into_terminal, tiocsti, uid=uid, confinement=confined(policy))
    assert got.outcome == "EPERM"
    assert run(attempts.terminal_size, uid=uid, confinement=confined(policy)).outcome == "ok"


@pytest.mark.parametrize("policy", [LANDLOCK, OLD_LANDLOCK], ids=["landlock", "old"])
def test_limits_and_scheduling_of_others_are_denied(policy: Policy) -> None:
    """A process of the same user can't be slowed down or starved; the own one can."""
    with attempts.child() as other:
        for attempt, arguments in (
            (attempts.limit_other, (other,)),
            (attempts.pin_other, (other,)),
            (attempts.renice, (os.PRIO_PROCESS, other)),
        ):
            assert run(attempt, *arguments).outcome == "ok"
            assert run(attempt, *arguments, confinement=confined(policy)).outcome == "EPERM"
    # All that the user has: not tried without the filter, since that could be more than this test's.
    got = run(attempts.renice, os.PRIO_USER, 0, confinement=confined(policy))
    assert got.outcome == "EPERM"
    assert run(attempts.schedule_self, confinement=confined(policy)).outcome == "ok"


@by_user
def test_signals_reach_the_own_process_alone(uid: int | None) -> None:
    """Without Landlock's scopes the filter lets a process signal itself in every way, and nobody else."""
    held = confined(OLD_LANDLOCK)
    got = run(attempts.signal_self, uid=uid, confinement=held).value
    assert got == ["kill", "group", "own group", "raise", "thread"]
    with attempts.child() as other:
        outcome = "EPERM" if uid else "ok"
        assert run(attempts.signal_pid, other, uid=uid).outcome == outcome
        assert run(attempts.signal_pid, other, uid=uid, confinement=held).outcome == "EPERM"
        assert run(attempts.signal_by_pidfd, other, uid=uid).outcome == outcome
        assert run(attempts.signal_by_pidfd, other, uid=uid, confinement=held).outcome == "EPERM"


@by_user
@pytest.mark.parametrize("policy", [CELL, UID, LANDLOCK], ids=["cell", "uid", "landlock"])
def test_own_children_can_be_ended(policy: Policy, uid: int | None) -> None:
    """Where users or Landlock keep signals apart, the filter does not."""
    got = run(attempts.own_child_by_signal, signal.SIGTERM, uid=uid, confinement=confined(policy))
    assert got.value == signal.SIGTERM


@by_user
def test_files_are_not_truncated_past_an_old_landlock(open_path: Path, uid: int | None) -> None:
    """Before ABI 3 Landlock doesn't look at truncation, so the filter does."""
    file = open_path / "file"
    for attempt in (attempts.truncate_by_path, attempts.truncate_by_open):
        for policy, outcome in ((None, "ok"), (LANDLOCK, "ok"), (OLD_LANDLOCK, "EPERM")):
            file.write_bytes(b"content")
            file.chmod(0o666)
            got = run(attempt, str(file), uid=uid, confinement=policy and confined(policy))
            assert got.outcome == outcome
            assert (len(file.read_bytes()) == 7) == (outcome == "EPERM")


@pytest.mark.skipif(sys.maxsize < 2**32 or os.uname().machine != "x86_64", reason="for x86_64")
def test_x32_and_unknown_numbers_are_missing() -> None:
    """x32's getpid and a call of a kernel to come give ENOSYS; int 0x80 ends the process."""
    x32_getpid = 0x40000000 + 39
    for number in (x32_getpid, 337, 470, 100000):
        assert run(attempts.raw, number, confinement=confined(CELL)).outcome == "ENOSYS"
    assert run(attempts.raw, 39).outcome == "ok"
    assert run(attempts.call_as_i386).outcome == "ok"
    assert run(attempts.call_as_i386, confinement=confined(CELL)).outcome == "SIGSYS"


USES = [
    ("threads", uses.use_threads, (), 28, ALL),
    ("subprocess", uses.use_subprocess, (), b"began\nended\n", (CELL, UID, LANDLOCK)),
    ("pool", uses.use_multiprocessing, ("fork",), [0, 2, 4, 6], (CELL, UID, LANDLOCK)),
    ("asyncio", uses.use_asyncio, (), b"hello", ALL),
    ("epoll", uses.use_epoll, (), 1, ALL),
    ("memory", uses.use_memory, (), b"hello", ALL),
    ("terminal", uses.use_terminal, (), b"hello\r\n", (CELL, UID, LANDLOCK, OLD_LANDLOCK)),
    ("inotify", attempts.watch, ("/etc",), None, (CELL, UID)),
    ("memfd", attempts.make_memfd, (), None, (CELL, HELD)),
    ("sysv memory", attempts.make_sysv_segment, (), None, (CELL,)),
    ("sockets", attempts.talk_over_loopback, (), b"hello", (CELL,)),
    ("socket pair", attempts.open_socket_pair, (socket.AF_UNIX,), None, ALL),
    ("personality", attempts.set_personality, (0xFFFFFFFF,), 0, ALL),
]


@pytest.mark.parametrize(
    ("use", "arguments", "value", "policies"),
    [case[1:] for case in USES],
    ids=[case[0] for case in USES],
)
@by_user
def test_ordinary_code_works(use, arguments, value, policies, uid: int | None) -> None:
    """What programs do every day goes on under each filter that is meant to let it."""
    for policy in policies:
        got = run(use, *arguments, uid=uid, confinement=confined(policy))
        assert (got.outcome, got.value) == ("ok", value)


@by_policy
@by_user
def test_databases_work(policy: Policy, open_path: Path, uid: int | None) -> None:
    """sqlite with its journal, its locks and its mapped index."""
    got = run(uses.use_sqlite, str(open_path), uid=uid, confinement=confined(policy))
    assert got.value == [(3,)]


@pytest.mark.parametrize("policy", [CELL, UID, LANDLOCK], ids=["cell", "uid", "landlock"])
def test_programs_and_packages_work(policy: Policy, tmp_path: Path) -> None:
    """An exec'd interpreter with numpy, a pool that is spawned, and pip's install of a wheel."""
    threaded = (
        "import numpy; a = numpy.ones((300, 300)); print(int((a @ a).sum()));"
        f"numpy.save(r'{tmp_path}/a.npy', a); print(numpy.load(r'{tmp_path}/a.npy', mmap_mode='r').shape)"
    )
    got = run(uses.run_python, sys.executable, threaded, confinement=confined(policy))
    assert got.value == "27000000\n(300, 300)"
    assert run(uses.use_shared_memory, confinement=confined(policy)).value == b"hello"
    got = run(uses.use_multiprocessing, "spawn", confinement=confined(policy))
    assert got.value == [0, 2, 4, 6]
    wheel = uses.make_wheel(str(tmp_path))
    install = (
        "import runpy, sys; sys.argv[1:] = ['install', '--quiet', '--no-index', '--no-deps',"
        f" '--disable-pip-version-check', '--target', {str(tmp_path / 'site')!r}, {wheel!r}];"
        "runpy.run_module('pip', run_name='__main__')"
    )
    assert (
        run(uses.run_python, sys.executable, install, confinement=confined(policy)).outcome == "ok"
    )
    assert (tmp_path / "site" / "tiny.py").read_text() == "answer = 42\n"


@pytest.mark.parametrize("policy", [CELL, LANDLOCK], ids=["cell", "landlock"])
def test_an_exec_does_not_get_rid_of_a_filter(policy: Policy) -> None:
    """What is exec'd is filtered as well."""
    code = "import socket\ntry: socket.socket(16, 3); print('open')\nexcept OSError as e: print(e.errno)"
    assert run(uses.run_python, sys.executable, code, "-S").value == "open"
    got = run(uses.run_python, sys.executable, code, "-S", confinement=confined(policy))
    assert got.value in ("95", "13")


def test_rules_by_pid_are_only_where_a_user_is_shared() -> None:
    """The second program is loaded where it is needed, and nowhere else."""
    assert not pid_rules(CELL, 1)
    assert not pid_rules(UID, 1)
    assert pid_rules(LANDLOCK, 1)
