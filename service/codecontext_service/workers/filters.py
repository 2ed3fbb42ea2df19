"""Which system calls confined code may not make: seccomp filters, as data.

They are a second wall behind namespaces, uids and Landlock (parts of the kernel that ordinary code has
no use for), and the first where those say nothing: families of sockets, System V IPC and signals.
"""

from __future__ import annotations

import ctypes
import functools
import os
from dataclasses import dataclass
from enum import Enum
from errno import EACCES, EAFNOSUPPORT, EINVAL, ENOSYS, EOPNOTSUPP, EPERM

from .architecture import Architecture, this_machine
from .bpf import Rule, assemble, has_any_bit, has_exactly, is_none_of, is_one_of
from .prepared import Call, Preparable, in_turn
from .syscalls import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWTIME,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    ready_system_call,
)

RLIMIT_LOCKS = 10
"""A limit without effect, which tells members of a keeper apart: see `marks`."""

_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_TIOCSTI, _TIOCLINUX, _TIOCSETD = 0x5412, 0x541C, 0x5423
_FIOSETOWN, _SIOCSPGRP, _F_SETOWN, _F_SETOWN_EX = 0x8901, 0x8902, 8, 15
_PRIO_USER, _IOPRIO_WHO_USER = 2, 3
_O_ACCMODE, _O_TRUNC = 0o3, 0o1000
_DEVICE_NODE = 0o020000
"""A bit of a mode that character and block devices have, and no other file that mknod can make."""

_SECCOMP_SET_MODE_FILTER = 1

_NEW_NAMESPACES = (
    CLONE_NEWNS
    | CLONE_NEWCGROUP
    | CLONE_NEWUTS
    | CLONE_NEWIPC
    | CLONE_NEWUSER
    | CLONE_NEWPID
    | CLONE_NEWNET
)


class Sockets(Enum):
    """Which sockets a process may make."""

    INTERNET = "internet"
    """Unix sockets, IPv4 and IPv6: for a network namespace of its own."""
    HOST = "host"
    """IPv4 and IPv6, and pairs: for the machine's own network. Nothing else than the filter keeps code from
    the Unix sockets of others."""
    PAIRS = "pairs"
    """Pairs of Unix sockets, which are connected to each other and to nothing else."""


@dataclass(frozen=True)
class Policy:
    """What a process and all that it starts may do; see `policy_for` for that of a tier."""

    sockets: Sockets
    sysv_ipc: bool
    """System V IPC and POSIX message queues: for an IPC namespace of its own."""
    watches: bool
    """inotify(7), which Landlock does not restrict: it tells the names of others' files."""
    memfds: bool
    """memfd_create(2): its memory counts for nobody where there is no memory control group."""
    sessions: bool = True
    """setsid(2) and setpgid(2); False where a process group has to hold all that is started."""
    truncation: bool = True
    """Truncating without a descriptor to write with; False where Landlock doesn't check that (ABI 1 and 2)."""
    foreign_pids: bool = True
    """Limits and scheduling of other processes; False where others have the same user."""
    marks: bool = False
    """Setting the limit that tells members of a keeper apart, see `marks`: for the keeper alone."""
    foreign_signals: bool = True
    """Signals to other processes; False where neither users nor Landlock keep them apart (ABI 1 to 5).

    Then a process can't signal its own children either: it can end them only by their pipes.
    """


def policy_for(
    tier: str, *, landlock_abi: int, memory_group: bool, hold_process_group: bool = False
) -> Policy:
    """Returns the policy of a tier.

    Args:
        tier: `cell`, `uid` or `landlock`.
        landlock_abi: What `landlock.abi()` says of this machine; 0: there is no Landlock.
        memory_group: Whether a control group limits the memory of the process.
        hold_process_group: Whether all that the process starts must stay in its process group.

    Raises:
        ValueError: There is no policy for such a tier.
    """
    if tier == "cell":
        return Policy(
            sockets=Sockets.INTERNET,
            sysv_ipc=True,
            watches=True,
            memfds=memory_group,
            sessions=not hold_process_group,
        )
    if tier in ("uid", "landlock"):
        shared_uid = tier == "landlock"
        return Policy(
            sockets=Sockets.PAIRS,
            sysv_ipc=False,
            watches=not shared_uid,
            memfds=memory_group,
            sessions=not hold_process_group,
            truncation=not shared_uid or landlock_abi >= 3,
            foreign_pids=not shared_uid,
            foreign_signals=not shared_uid or landlock_abi >= 6,
        )
    raise ValueError(f"no filter is made for the tier {tier!r}")


def _deny(error: int, *calls: str) -> tuple[Rule, ...]:
    return tuple(Rule(call, error) for call in calls)


_ALWAYS = (
    # Namespaces and mounts: nobody leaves a cell, or builds another in it.
    Rule("clone", EPERM, has_any_bit(0, _NEW_NAMESPACES)),
    Rule("unshare", EPERM, has_any_bit(0, _NEW_NAMESPACES | CLONE_NEWTIME)),
    *_deny(
        ENOSYS, "clone3"
    ),  # its flags are out of a filter's sight; the C library falls back to clone
    *_deny(EPERM, "setns", "mount", "umount2", "pivot_root", "chroot", "mount_setattr"),
    *_deny(EPERM, "open_tree", "open_tree_attr", "move_mount"),
    *_deny(EPERM, "fsopen", "fsconfig", "fsmount", "fspick"),
    *_deny(ENOSYS, "statmount", "listmount"),
    # Other processes' memory and descriptors.
    *_deny(EPERM, "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise"),
    *_deny(EPERM, "process_mrelease", "kcmp", "pidfd_getfd"),
    # Files past their paths.
    *_deny(EPERM, "open_by_handle_at", "name_to_handle_at", "fanotify_init"),
    Rule("mknod", EPERM, has_any_bit(1, _DEVICE_NODE)),
    Rule("mknodat", EPERM, has_any_bit(2, _DEVICE_NODE)),
    # Parts of the kernel with many holes and no use here.
    *_deny(ENOSYS, "io_uring_setup", "io_uring_enter", "io_uring_register"),
    *_deny(EPERM, "bpf", "perf_event_open", "userfaultfd", "vmsplice", "memfd_secret"),
    *_deny(EPERM, "add_key", "keyctl", "request_key", "lsm_set_self_attr"),
    *_deny(EPERM, "mbind", "set_mempolicy", "set_mempolicy_home_node"),
    *_deny(EPERM, "migrate_pages", "move_pages"),
    Rule("ioctl", EPERM, is_one_of(1, _TIOCSTI, _TIOCLINUX, _TIOCSETD)),
    Rule("personality", EPERM, is_none_of(0, 0, 0xFFFFFFFF)),
    *_deny(
        EPERM, "iopl", "ioperm", "modify_ldt", "uselib", "vhangup", "lookup_dcookie", "nfsservctl"
    ),
    # The machine's administration.
    *_deny(EPERM, "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load"),
    *_deny(EPERM, "reboot", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "syslog"),
    *_deny(EPERM, "settimeofday", "clock_settime", "clock_adjtime", "adjtimex"),
    *_deny(EPERM, "sethostname", "setdomainname"),
    # Other families can be reached by pairs too.
    Rule("socketpair", EAFNOSUPPORT, is_none_of(0, _AF_UNIX)),
)

_SOCKETS = {
    Sockets.INTERNET: (
        # What lists the interfaces does without them at this error, ZeroMQ too; at others that aborts.
        Rule("socket", EOPNOTSUPP, is_one_of(0, _AF_NETLINK)),
        Rule("socket", EAFNOSUPPORT, is_none_of(0, _AF_UNIX, _AF_INET, _AF_INET6)),
    ),
    Sockets.HOST: (Rule("socket", EACCES, is_none_of(0, _AF_INET, _AF_INET6)),),
    Sockets.PAIRS: _deny(EACCES, "socket"),
}

_SYSV_IPC = (
    *_deny(EPERM, "shmget", "shmat", "shmctl", "shmdt"),
    *_deny(EPERM, "semget", "semop", "semtimedop", "semctl"),
    *_deny(EPERM, "msgget", "msgsnd", "msgrcv", "msgctl", "mq_open", "mq_unlink"),
)

_TRUNCATION = (
    *_deny(EPERM, "truncate"),
    Rule("open", EPERM, has_exactly(1, _O_TRUNC | _O_ACCMODE, _O_TRUNC)),
    Rule("openat", EPERM, has_exactly(2, _O_TRUNC | _O_ACCMODE, _O_TRUNC)),
    *_deny(ENOSYS, "openat2"),  # its flags are out of a filter's sight
)

# As if the kernel had no such limit: what lists all of them goes on with the next.
_MARKS = (
    Rule("setrlimit", EINVAL, is_one_of(0, RLIMIT_LOCKS)),
    Rule("prlimit64", EINVAL, is_one_of(1, RLIMIT_LOCKS)),
)


def rules(policy: Policy) -> tuple[Rule, ...]:
    """Returns what a policy denies, but for what depends on the process's own pid."""
    return (
        *_ALWAYS,
        *_SOCKETS[policy.sockets],
        *(() if policy.sysv_ipc else _SYSV_IPC),
        *(() if policy.watches else _deny(ENOSYS, "inotify_init", "inotify_init1")),
        *(() if policy.memfds else _deny(EPERM, "memfd_create")),
        *(() if policy.sessions else _deny(EPERM, "setsid", "setpgid")),
        *(() if policy.truncation else _TRUNCATION),
        *(() if policy.marks else _MARKS),
    )


def pid_rules(policy: Policy, own_pid: int) -> tuple[Rule, ...]:
    """Returns what a policy denies by the pid of the process that it is for.

    Args:
        policy: The policy.
        own_pid: The pid; the process must lead its process group.
    """
    found: tuple[Rule, ...] = ()
    if not policy.foreign_pids:
        found += (
            *(
                Rule(call, EPERM, is_none_of(0, 0, own_pid))
                for call in ("prlimit64", "sched_setaffinity", "sched_setscheduler")
            ),
            *(
                Rule(call, EPERM, is_none_of(0, 0, own_pid))
                for call in ("sched_setparam", "sched_setattr")
            ),
            Rule("setpriority", EPERM, is_one_of(0, _PRIO_USER)),
            Rule("setpriority", EPERM, is_none_of(1, 0, own_pid)),
            Rule("ioprio_set", EPERM, is_one_of(0, _IOPRIO_WHO_USER)),
            Rule("ioprio_set", EPERM, is_none_of(1, 0, own_pid)),
        )
    if not policy.foreign_signals:
        found += (
            Rule("kill", EPERM, is_none_of(0, 0, own_pid, -own_pid)),
            Rule("tgkill", EPERM, is_none_of(0, own_pid)),
            *_deny(EPERM, "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal"),
            # A descriptor's owner gets a signal when there is something to read.
            Rule("fcntl", EPERM, is_one_of(1, _F_SETOWN, _F_SETOWN_EX)),
            Rule("ioctl", EPERM, is_one_of(1, _FIOSETOWN, _SIOCSPGRP)),
        )
    return found


@functools.cache
def program(policy: Policy, architecture: Architecture) -> bytes:
    """Returns the program of a policy, which is made once: call it before forking."""
    return assemble(rules(policy), architecture)


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


@Preparable
def load(instructions: bytes) -> Call:
    """Has this thread, and all that it starts from now on, obey a program too; there is no way back.

    Args:
        instructions: What `bpf.assemble` made. Of several programs the strictest decides.

    Raises:
        OSError: The kernel refused: EACCES without `set_no_new_privs`, EINVAL for no valid program.
        UnknownMachineError: This machine's system calls are not known.
    """
    whole = _Program(len(instructions) // 8, instructions)
    return ready_system_call("seccomp", _SECCOMP_SET_MODE_FILTER, 0, ctypes.byref(whole))


@Preparable
def install(policy: Policy) -> Call:
    """Has this thread, and all that it starts from now on, obey a policy; there is no way back.

    Args:
        policy: The policy.

    Raises:
        OSError: The kernel refused; `set_no_new_privs` must have been called.
        UnknownMachineError: This machine's system calls are not known.
    """
    machine = this_machine()
    for_all = load.ready(program(policy, machine))
    if not pid_rules(policy, os.getpid()):
        return for_all
    # A program of its own, since it is made anew for each process: the one above is not.
    return in_turn(for_all, lambda: load(assemble(pid_rules(policy, os.getpid()), machine)))
