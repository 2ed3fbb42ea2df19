"""Interfaces of the kernel that reach past a context, or have been the way in for others."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from pathlib import Path

from security.attempt import attempt
from security.attempts.inside import LIBC, Stopped, syscall
from security.judges import machine_is_renamed


@attempt("no_network", unless="this machine has switched io_uring off")
def opens_a_ring() -> str:
    """Sets up io_uring, through which sockets can be made past a filter of system calls."""
    return str(syscall("io_uring_setup", 4, ctypes.create_string_buffer(256)))


@attempt("no_foreign_files", root_only="only root loads programs into this kernel")
def loads_a_program_into_the_kernel() -> str:
    """Loads a BPF program that does nothing."""
    code = ctypes.create_string_buffer(struct.pack("BBhi", 0xB7, 0, 0, 0) + b"\x95" + b"\0" * 7)
    licence = ctypes.create_string_buffer(b"GPL")
    socket_filter, load = 1, 5
    options = struct.pack(
        "IIQQ", socket_filter, 2, ctypes.addressof(code), ctypes.addressof(licence)
    )
    buffer = ctypes.create_string_buffer(options + b"\0" * 104)
    return str(syscall("bpf", load, buffer, 128))


@attempt(
    "no_foreign_processes",
    root_only="this machine lets root alone measure all processes",
    unless="this machine counts no events",
)
def counts_the_events_of_all_processes() -> str:
    """Has the kernel count the events of every process on a processor."""
    software, size = 1, 112
    options = ctypes.create_string_buffer(struct.pack("IIQ", software, size, 0) + b"\0" * size)
    every_process, first_cpu = -1, 0
    return str(syscall("perf_event_open", options, every_process, first_cpu, -1, 0))


@attempt("no_foreign_files", unless="this kernel has no userfaultfd for users")
def handles_page_faults() -> str:
    """Opens a userfaultfd, which has made many faults of the kernel easy to use."""
    user_mode_only = 1
    return str(syscall("userfaultfd", user_mode_only))


@attempt("no_foreign_files", unless="this kernel has no key store")
def uses_the_kernels_key_store() -> str:
    """Puts a key into the kernel's key store, which knows users and no contexts."""
    process_keyring = -2
    return str(syscall("add_key", b"user", b"planted", b"x", 1, process_keyring))


@attempt(
    "no_foreign_files",
    root_only="this machine lets root alone read the kernel's log",
    unless="the kernel's log can't be read here",
)
def reads_the_kernels_log() -> str:
    """Reads the kernel's log, which tells of every process of the machine."""
    read_all = 3
    return f"{syscall('syslog', read_all, ctypes.create_string_buffer(256), 256)} bytes"


@attempt("no_foreign_files", judge=machine_is_renamed, root_only="only root renames the machine")
def renames_the_machine() -> str:
    """Gives the machine another name."""
    if LIBC.sethostname(b"planted", 7):
        raise OSError(ctypes.get_errno(), "sethostname")
    return "renamed"


@attempt("no_foreign_files", root_only="only root changes the kernel's settings")
def opens_the_kernels_settings() -> str:
    """Opens for writing, without writing, how the kernel hands out memory to everybody."""
    os.close(os.open("/proc/sys/vm/overcommit_memory", os.O_WRONLY))
    return "open"


@attempt("no_foreign_processes", root_only="only root changes the kernel's settings")
def opens_the_program_for_crashes() -> str:
    """Opens for writing, without writing, the name of the program that the kernel runs at a crash, as
    root and outside of every namespace."""
    os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))
    return "open"


@attempt(
    "no_foreign_signals",
    root_only="only root asks the kernel to end everything",
    unless="there is no such file here",
)
def opens_the_kernels_emergency_switch() -> str:
    """Opens for writing, without writing, the file that has the kernel kill every process of the machine."""
    os.close(os.open("/proc/sysrq-trigger", os.O_WRONLY))
    return "open"


@attempt(
    "no_foreign_files",
    root_only="control groups are root's",
    unless="no control group can be written here",
)
def opens_the_machines_control_groups() -> str:
    """Opens for writing, without writing, the list by which processes leave their limits."""
    for folder in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*/")):
        try:
            os.close(os.open(folder / "cgroup.procs", os.O_WRONLY))
        except OSError:
            continue
        return str(folder)
    raise Stopped("none can be written")


@attempt("no_foreign_files", root_only="only root", unless="this kernel loads no modules")
def loads_a_module() -> str:
    """Asks the kernel to load a module that is none, which it looks at only if it may be loaded."""
    try:
        syscall("init_module", b"", 0, b"")
    except OSError as error:
        if error.errno in (errno.ENOEXEC, errno.EFAULT, errno.EINVAL):
            return str(error)
        raise
    return "loaded"


@attempt("no_foreign_files", root_only="only root", unless="this kernel does not swap")
def turns_off_swap() -> str:
    """Asks the kernel to swap no more to a file that is not there, which it looks for only if allowed."""
    try:
        syscall("swapoff", b"/nonexistent")
    except FileNotFoundError as error:
        return str(error)
    return "off"


@attempt("no_foreign_files", root_only="only root starts the machine anew")
def may_restart_the_machine() -> str:
    """Calls reboot with numbers that mean nothing, which the kernel says only to who may."""
    try:
        syscall("reboot", 0, 0, 0, 0)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return str(error)
        raise
    return "done"


@attempt("no_foreign_files", root_only="only root", unless="this processor has no ports")
def talks_to_hardware() -> str:
    """Asks for the right to talk to a port of the machine's hardware."""
    delay_port = 0x80
    return str(syscall("ioperm", delay_port, 1, 1))


@attempt("no_foreign_files", root_only="only root", unless="this kernel has no fanotify")
def watches_every_file() -> str:
    """Opens a watch that gives out descriptors of the files that others open."""
    return str(syscall("fanotify_init", 0, os.O_RDONLY))


@attempt("no_foreign_files", root_only="an ordinary user has none")
def holds_capabilities() -> str:
    """Looks whether it has any of root's capabilities."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff" and int(value, 16):
            return value.strip()
    raise Stopped("none")
