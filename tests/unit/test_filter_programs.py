"""What the filters' programs decide, for both machines: run by an interpreter of BPF."""

from __future__ import annotations

import re
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from support.bpf import verdict

from codecontext_service.workers import syscalls
from codecontext_service.workers.architecture import (
    AARCH64,
    ARCHITECTURES,
    NEWEST_NUMBER,
    X86_64,
    Architecture,
    this_machine,
)
from codecontext_service.workers.bpf import Rule, assemble, is_none_of, is_one_of
from codecontext_service.workers.filters import (
    Policy,
    pid_rules,
    policy_for,
    program,
    rules,
)

I386, ARM = 0x40000003, 0x40000028
X32 = 0x40000000
OWN, OTHER = 4321, 1234

CELL = policy_for("cell", landlock_abi=7, memory_group=True)
UID = policy_for("uid", landlock_abi=7, memory_group=False)
LANDLOCK = policy_for("landlock", landlock_abi=7, memory_group=False)
OLD_LANDLOCK = policy_for("landlock", landlock_abi=1, memory_group=False)
HELD = policy_for("landlock", landlock_abi=7, memory_group=True, hold_process_group=True)
KEEPER = replace(CELL, marks=True)
POLICIES = {
    "cell": CELL,
    "uid": UID,
    "landlock": LANDLOCK,
    "old": OLD_LANDLOCK,
    "held": HELD,
    "keeper": KEEPER,
}

THREAD = 0x3D0F00  # what the C library passes to clone for a thread
FORK = 0x1200011
NEG = -OWN & 0xFFFFFFFF

CASES: list[tuple[str, str, tuple[int, ...], str]] = [
    # policies, call, arguments, verdict
    ("cell uid landlock old", "clone", (THREAD,), "allow"),
    ("cell uid landlock old", "clone", (FORK,), "allow"),
    ("cell uid landlock old", "clone", (syscalls.CLONE_NEWUSER | 17,), "EPERM"),
    ("cell uid landlock old", "clone", (syscalls.CLONE_NEWNET | 17,), "EPERM"),
    ("cell uid landlock old", "clone3", (0, 88), "ENOSYS"),
    ("cell uid landlock old", "unshare", (0x400,), "allow"),  # CLONE_FILES
    ("cell uid landlock old", "unshare", (syscalls.CLONE_NEWTIME,), "EPERM"),
    ("cell uid landlock old", "unshare", (syscalls.CLONE_NEWNS | 0x400,), "EPERM"),
    ("cell uid landlock old", "io_uring_setup", (), "ENOSYS"),
    ("cell uid landlock old", "mount", (), "EPERM"),
    ("cell uid landlock old", "ptrace", (0,), "EPERM"),
    ("cell uid landlock old", "prlimit64", (0, 7), "allow"),
    ("cell uid landlock old", "prlimit64", (0, 10), "EINVAL"),
    ("cell uid landlock old", "setrlimit", (7,), "allow"),
    ("cell uid landlock old", "setrlimit", (10,), "EINVAL"),
    ("keeper", "prlimit64", (OTHER, 10), "allow"),
    ("cell", "socket", (socket.AF_UNIX,), "allow"),
    ("cell", "socket", (socket.AF_INET,), "allow"),
    ("cell", "socket", (socket.AF_INET6,), "allow"),
    ("cell", "socket", (socket.AF_NETLINK,), "ENOTSUP"),
    ("cell", "socket", (socket.AF_PACKET,), "EAFNOSUPPORT"),
    ("cell", "socket", (socket.AF_VSOCK,), "EAFNOSUPPORT"),
    ("cell", "socket", (socket.AF_VSOCK | 1 << 32,), "EAFNOSUPPORT"),
    ("uid landlock old", "socket", (socket.AF_UNIX,), "EACCES"),
    ("uid landlock old", "socket", (socket.AF_INET,), "EACCES"),
    ("cell uid landlock old", "socketpair", (socket.AF_UNIX,), "allow"),
    ("cell uid landlock old", "socketpair", (30,), "EAFNOSUPPORT"),  # AF_TIPC
    ("cell uid landlock old", "ioctl", (0, 0x5412), "EPERM"),  # TIOCSTI
    ("cell uid landlock old", "ioctl", (0, 0x5412 | 1 << 32), "EPERM"),  # as the kernel reads it
    ("cell uid landlock old", "ioctl", (0, 0x541C), "EPERM"),  # TIOCLINUX
    ("cell uid landlock old", "ioctl", (0, 0x5413), "allow"),  # TIOCGWINSZ
    ("cell uid landlock old", "personality", (0xFFFFFFFF,), "allow"),
    ("cell uid landlock old", "personality", (-1,), "allow"),
    ("cell uid landlock old", "personality", (0x0400000,), "EPERM"),
    ("cell uid landlock old", "mknodat", (0, 0, 0o010644), "allow"),  # a FIFO
    ("cell uid landlock old", "mknodat", (0, 0, 0o140644), "allow"),  # a socket
    ("cell uid landlock old", "mknodat", (0, 0, 0o100644), "allow"),  # a file
    ("cell uid landlock old", "mknodat", (0, 0, 0o020644), "EPERM"),  # a character device
    ("cell uid landlock old", "mknodat", (0, 0, 0o060644), "EPERM"),  # a block device
    ("cell", "shmget", (), "allow"),
    ("uid landlock old", "shmget", (), "EPERM"),
    ("cell uid landlock old", "pidfd_open", (OTHER,), "allow"),
    ("cell uid", "inotify_init1", (), "allow"),
    ("landlock old", "inotify_init1", (), "ENOSYS"),
    ("cell held", "memfd_create", (), "allow"),
    ("uid landlock old", "memfd_create", (), "EPERM"),
    ("cell uid landlock old", "setsid", (), "allow"),
    ("held", "setsid", (), "EPERM"),
    ("held", "setpgid", (), "EPERM"),
    ("cell uid landlock", "truncate", (), "allow"),
    ("cell uid landlock", "openat", (0, 0, 0o1000), "allow"),
    ("cell uid landlock", "openat2", (), "allow"),
    ("old", "truncate", (), "EPERM"),
    ("old", "openat", (0, 0, 0o1000), "EPERM"),  # O_RDONLY | O_TRUNC
    ("old", "openat", (0, 0, 0o2001000), "EPERM"),  # O_CLOEXEC too
    ("old", "openat", (0, 0, 0o1001), "allow"),  # O_WRONLY | O_TRUNC: Landlock looks at that
    ("old", "openat", (0, 0, 0o1102), "allow"),
    ("old", "openat", (0, 0, 0), "allow"),
    ("old", "openat2", (), "ENOSYS"),
]

PID_CASES: list[tuple[str, str, tuple[int, ...], str]] = [
    ("cell uid", "prlimit64", (OTHER,), "allow"),
    ("landlock old", "prlimit64", (0,), "allow"),
    ("landlock old", "prlimit64", (OWN,), "allow"),
    ("landlock old", "prlimit64", (OTHER,), "EPERM"),
    ("landlock old", "sched_setaffinity", (OTHER,), "EPERM"),
    ("landlock old", "sched_setattr", (OTHER,), "EPERM"),
    ("landlock old", "sched_setattr", (0,), "allow"),
    ("landlock old", "setpriority", (0, 0), "allow"),
    ("landlock old", "setpriority", (0, OWN), "allow"),
    ("landlock old", "setpriority", (0, OTHER), "EPERM"),
    ("landlock old", "setpriority", (2, 0), "EPERM"),  # PRIO_USER: all that the user has
    ("landlock old", "ioprio_set", (3, 0), "EPERM"),
    ("landlock old", "ioprio_set", (1, 0), "allow"),
    ("cell uid landlock", "kill", (OTHER,), "allow"),
    ("old", "kill", (OTHER,), "EPERM"),
    ("old", "kill", (-1,), "EPERM"),
    ("old", "kill", (0xFFFFFFFF,), "EPERM"),
    ("old", "kill", (-OTHER,), "EPERM"),
    ("old", "kill", (0,), "allow"),
    ("old", "kill", (OWN,), "allow"),
    ("old", "kill", (-OWN,), "allow"),
    ("old", "kill", (NEG,), "allow"),
    ("old", "tgkill", (OWN, OWN + 1), "allow"),
    ("old", "tgkill", (OTHER, OTHER), "EPERM"),
    ("old", "tkill", (OWN,), "EPERM"),
    ("old", "rt_sigqueueinfo", (OTHER,), "EPERM"),
    ("old", "pidfd_send_signal", (3,), "EPERM"),
    ("old", "fcntl", (0, 8), "EPERM"),  # F_SETOWN
    ("old", "fcntl", (0, 15), "EPERM"),  # F_SETOWN_EX
    ("old", "fcntl", (0, 2), "allow"),  # F_SETFD
    ("old", "ioctl", (0, 0x8901), "EPERM"),  # FIOSETOWN
]


def _decide(code: bytes, machine: Architecture, call: str, arguments: tuple[int, ...]) -> str:
    number = machine.number(call)
    assert number is not None
    return verdict(code, machine.audit_arch, number, arguments)


@pytest.mark.parametrize("machine", ARCHITECTURES, ids=lambda each: each.name)
def test_each_policy_decides_as_the_table_says(machine: Architecture) -> None:
    """Each call in each policy gets its verdict, with the machine's own numbers."""
    wrong = [
        (name, call, arguments, got, wanted)
        for names, call, arguments, wanted in CASES
        for name in names.split()
        if (got := _decide(program(POLICIES[name], machine), machine, call, arguments)) != wanted
    ]
    assert not wrong


@pytest.mark.parametrize("machine", ARCHITECTURES, ids=lambda each: each.name)
def test_what_depends_on_the_pid_decides_as_the_table_says(machine: Architecture) -> None:
    """Others' limits and signals are told from the process's own."""
    wrong = [
        (name, call, arguments, got, wanted)
        for names, call, arguments, wanted in PID_CASES
        for name in names.split()
        for code in [assemble(pid_rules(POLICIES[name], OWN), machine)]
        if (got := _decide(code, machine, call, arguments)) != wanted
    ]
    assert not wrong


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("machine", ARCHITECTURES, ids=lambda each: each.name)
def test_another_machines_calls_kill_and_unknown_ones_are_missing(
    machine: Architecture, policy: Policy
) -> None:
    """int 0x80, x32, and calls newer than the filter never get past it."""
    code = program(policy, machine)
    others = {each.audit_arch for each in ARCHITECTURES} - {machine.audit_arch} | {I386, ARM}
    for arch in others:
        for number in (0, 1, 20, NEWEST_NUMBER + 1):
            assert verdict(code, arch, number) == "kill"
    for number in (NEWEST_NUMBER + 1, 512, 547, X32, X32 + 41, 0x7FFFFFFF, -1):
        assert verdict(code, machine.audit_arch, number) == "ENOSYS"
    assert verdict(code, machine.audit_arch, NEWEST_NUMBER) == "allow"


def test_unused_numbers_of_x86_64_are_missing() -> None:
    """A later kernel can't put a call where the filter knows of none."""
    code = program(CELL, X86_64)
    assert verdict(code, X86_64.audit_arch, 334) == "allow"  # rseq
    assert verdict(code, X86_64.audit_arch, 337) == "ENOSYS"
    assert verdict(code, X86_64.audit_arch, 423) == "ENOSYS"
    assert verdict(code, X86_64.audit_arch, 424) == "allow"


@pytest.mark.parametrize("machine", ARCHITECTURES, ids=lambda each: each.name)
def test_every_rule_denies(machine: Architecture) -> None:
    """No rule is lost: each unconditional one is the verdict for its call, whatever the arguments."""
    for policy in POLICIES.values():
        code = program(policy, machine)
        for rule in rules(policy):
            number = machine.number(rule.call)
            if rule.when is None and number is not None:
                assert verdict(code, machine.audit_arch, number, (-1,) * 6) != "allow"
                assert verdict(code, machine.audit_arch, number) != "allow"


def test_a_call_that_a_machine_lacks_has_no_rule_there() -> None:
    """aarch64 has no open(2): its rule must not fall on another call."""
    with_open, without = Rule("open", 1), Rule("openat", 1)
    assert assemble([with_open], AARCH64) == assemble([], AARCH64)
    assert assemble([without], AARCH64) != assemble([], AARCH64)


def test_several_values_and_rules_of_one_call_are_told_apart() -> None:
    """Each rule of a call is tried in its order, and each value of a condition counts."""
    code = assemble(
        [
            Rule("kill", 1, is_one_of(0, 10, 20, 30)),
            Rule("kill", 13, is_none_of(1, 7, 8, 9)),
        ],
        X86_64,
    )
    number = X86_64.number("kill")
    assert number is not None
    for first in (0, 10, 15, 20, 30, 31):
        for second in (6, 7, 8, 9, 10):
            wanted = (
                "EPERM" if first in (10, 20, 30) else "allow" if second in (7, 8, 9) else "EACCES"
            )
            assert verdict(code, X86_64.audit_arch, number, (first, second)) == wanted


def test_too_many_values_are_refused() -> None:
    """A jump that BPF can't express is an error, never a wrong program."""
    with pytest.raises(ValueError, match="too many rules"):
        assemble([Rule("kill", 1, is_one_of(0, *range(300)))], X86_64)
    with pytest.raises(KeyError):
        assemble([Rule("no_such_call", 1)], X86_64)


@pytest.mark.parametrize(
    ("machine", "header"),
    [
        (X86_64, "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        (AARCH64, "/usr/include/asm-generic/unistd.h"),
    ],
    ids=["x86_64", "aarch64"],
)
def test_the_numbers_are_those_of_the_kernels_headers(machine: Architecture, header: str) -> None:
    """Each number that the installed headers know is the same in the table."""
    if not Path(header).exists():
        pytest.skip("the kernel's headers are not installed")
    # aarch64 takes the generic numbers, of which some are named __NR3264_ there.
    found = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\b", Path(header).read_text())
    known = {name: int(number) for name, number in found}
    names = {rule.call for policy in POLICIES.values() for rule in rules(policy)}
    names |= {rule.call for rule in pid_rules(OLD_LANDLOCK, OWN)}
    names |= {"seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"}
    ours = {name: machine.number(name) for name in names}
    wrong = {
        name: (number, known.get(name))
        for name, number in ours.items()
        if known.get(name) != number and (number is None or number <= max(known.values()))
    }
    assert not wrong


def test_this_machine_is_known() -> None:
    """The tests of what is really denied run here."""
    assert this_machine() in ARCHITECTURES
