"""Signals to processes that are not the context's own."""

from __future__ import annotations

import os
import signal
import struct

from security.attempt import attempt
from security.attempts.inside import fcntl, syscall
from security.judges import got_signal, neighbour_has_ended, neighbour_is_stopped


@attempt("no_foreign_signals", judge=got_signal("SIGUSR1"))
def signals_a_foreign_process(neighbour_pid: int) -> str:
    """Sends a signal to another process of the server's user."""
    os.kill(neighbour_pid, signal.SIGUSR1)
    return "sent"


@attempt("no_foreign_signals")
def signals_the_server(server_pid: int) -> str:
    """Sends the server a signal that does nothing."""
    os.kill(server_pid, 0)
    return "sent"


@attempt("no_foreign_signals")
def signals_another_context(victim_pid: int) -> str:
    """Sends another context a signal that does nothing."""
    os.kill(victim_pid, 0)
    return "sent"


@attempt("no_foreign_signals", judge=got_signal("SIGWINCH"))
def signals_everything() -> str:
    """Sends a signal, which most processes ignore, to all processes that it may reach."""
    os.kill(-1, signal.SIGWINCH)
    return "sent"


@attempt("no_foreign_signals", judge=got_signal("SIGURG"))
def signals_a_foreign_group(neighbour_pid: int) -> str:
    """Sends a signal to the process group of another process."""
    os.killpg(neighbour_pid, signal.SIGURG)
    return "sent"


@attempt("no_foreign_signals", judge=got_signal("SIGUSR2"))
def signals_a_foreign_thread(neighbour_pid: int) -> str:
    """Sends a signal to a thread of another process."""
    return str(syscall("tgkill", neighbour_pid, neighbour_pid, signal.SIGUSR2))


@attempt("no_foreign_signals", judge=got_signal("SIGUSR1"))
def queues_a_signal(neighbour_pid: int) -> str:
    """Sends a signal with a value, as if the other process had asked for it."""
    queued = -1
    info = struct.pack("iii", signal.SIGUSR1, 0, queued) + b"\0" * 116
    return str(syscall("rt_sigqueueinfo", neighbour_pid, signal.SIGUSR1, info))


@attempt("no_foreign_signals", judge=got_signal("SIGUSR1"))
def signals_by_pidfd(neighbour_pid: int) -> str:
    """Sends a signal through a descriptor of the other process."""
    signal.pidfd_send_signal(os.pidfd_open(neighbour_pid), signal.SIGUSR1)
    return "sent"


@attempt("no_foreign_signals", judge=got_signal("SIGIO"))
def has_the_kernel_send_a_signal(neighbour_pid: int) -> str:
    """Makes another process the owner of a pipe of its own, so that the kernel tells it of each byte."""
    reader, writer = os.pipe()
    fcntl.fcntl(reader, fcntl.F_SETOWN, neighbour_pid)
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC)
    os.write(writer, b"x")
    return "sent"


@attempt("no_foreign_signals", judge=neighbour_is_stopped)
def stops_a_foreign_process(neighbour_pid: int) -> str:
    """Stops another process of the server's user."""
    os.kill(neighbour_pid, signal.SIGSTOP)
    return "sent"


@attempt("no_foreign_signals", judge=neighbour_has_ended)
def kills_a_foreign_process(neighbour_pid: int) -> str:
    """Kills another process of the server's user."""
    os.kill(neighbour_pid, signal.SIGKILL)
    return "sent"


@attempt("no_foreign_signals", judge=neighbour_has_ended)
def kills_everything() -> str:
    """Kills all processes that it may reach, which has ended whole machines."""
    os.kill(-1, signal.SIGKILL)
    return "sent"
