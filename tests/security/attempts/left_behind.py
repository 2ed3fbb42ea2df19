"""Processes that try to live on when their context, or their server, has ended."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from security.attempt import attempt
from security.attempts.inside import (
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_PARENT,
    LIBC,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_PDEATHSIG,
    PTRACE_SEIZE,
    Stopped,
    name_process,
    start_daemon,
    subprocess,
    syscall,
    threading,
)
from security.judges import leaves_processes, leaves_processes_for_long, leaves_runaways


@attempt("descendants_die", then="delete", judge=leaves_processes)
def leaves_a_child(tag: str) -> str:
    """Leaves a child behind."""
    start_daemon(tag)
    return "left"


@attempt("descendants_die", then="delete", judge=leaves_processes)
def leaves_a_daemon(tag: str) -> str:
    """Leaves a daemon behind, in a session of its own."""
    start_daemon(tag, os.setsid)
    return "left"


@attempt("descendants_die", then="delete", judge=leaves_processes)
def leaves_a_daemon_that_ignores_signals(tag: str) -> str:
    """Leaves a daemon behind that ignores every signal that can be ignored."""

    def prepare() -> None:
        os.setsid()
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            try:
                signal.signal(number, signal.SIG_IGN)
            except OSError:
                continue

    start_daemon(tag, prepare)
    return "left"


@attempt("descendants_die", then="delete", judge=leaves_processes)
def leaves_a_stopped_process(tag: str) -> str:
    """Leaves a stopped process behind, which takes note of nothing."""
    child = os.fork()
    if child == 0:
        os.setsid()
        name_process(tag)
        os.kill(os.getpid(), signal.SIGSTOP)
        signal.pause()
    os.waitpid(child, os.WUNTRACED)
    return "left"


@attempt("descendants_die", then="delete", judge=leaves_processes)
def leaves_a_program(tag: str) -> str:
    """Leaves another program behind, under another name and in a session of its own."""
    os.symlink("/bin/sleep", tag)
    program = subprocess.Popen([f"./{tag}", "60"], start_new_session=True)
    while Path(f"/proc/{program.pid}/comm").read_text() != f"{tag}\n":
        os.sched_yield()  # it is begun, but the kernel gives it its name a moment later
    return "left"


@attempt("descendants_die", then="delete", judge=leaves_processes)
def leaves_the_child_of_a_subreaper(tag: str) -> str:
    """Leaves a daemon behind whose parent has taken it in, in the place of whoever would end it."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        os.setsid()
        name_process(tag)
        start_daemon(tag, os.setsid)
        os.write(writer, b"x")
        signal.pause()
    os.read(reader, 1)
    return "left"


@attempt("descendants_die", then="delete", judge=leaves_processes)
def leaves_a_sibling(tag: str) -> str:
    """Leaves a process behind that is no child of its own, but of its keeper."""
    reader, writer = os.pipe()
    pid = syscall("clone", CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        name_process(tag)
        os.write(writer, b"x")
        time.sleep(60)
        os._exit(0)
    os.read(reader, 1)
    return "left"


@attempt(
    "descendants_die",
    then="delete",
    judge=leaves_processes,
    unless="this machine allows no user namespaces",
)
def leaves_a_process_in_a_namespace(tag: str) -> str:
    """Leaves a process behind in a pid namespace of its own."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            syscall("unshare", CLONE_NEWUSER | CLONE_NEWPID)
            if os.fork() == 0:
                name_process(tag)
                os.write(writer, b"x")
                time.sleep(60)
        finally:
            os._exit(0)
    os.close(writer)
    if not os.read(reader, 1):
        raise Stopped("there is no such namespace")
    return "left"


@attempt("descendants_die", then="delete", judge=leaves_processes)
def leaves_a_traced_process(tag: str) -> str:
    """Leaves a process behind, and a debugger that holds it."""
    start_daemon(tag, os.setsid)

    def trace() -> None:
        for name in os.listdir("/proc"):
            try:
                with open(f"/proc/{name}/comm") as comm:
                    if comm.read() == f"{tag}\n" and int(name) != os.getpid():
                        syscall("ptrace", PTRACE_SEIZE, int(name), 0, 0)
            except (OSError, ValueError):
                continue

    start_daemon(tag, trace)
    return "left"


@attempt("descendants_die", then="delete", judge=leaves_processes)
def leaves_a_thread_without_its_process(tag: str) -> str:
    """Leaves a process behind whose first thread has ended, and looks dead, while another goes on."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        name_process(tag)

        def go_on() -> None:
            name_process(tag)
            os.write(writer, b"x")
            time.sleep(60)

        if os.fork() == 0:
            threading.Thread(target=go_on).start()
            LIBC.pthread_exit(None)
        signal.pause()
    os.read(reader, 1)
    return "left"


@attempt("descendants_die", then="delete", live=True, judge=leaves_runaways)
def runs_away_from_the_delete(tag: str) -> str:
    """Forks for a second, each process going on in its child, while its context is deleted."""
    for _ in range(8):
        if os.fork() == 0:
            os.setsid()
            name_process(tag)
            end = time.monotonic() + 1
            while time.monotonic() < end:
                if os.fork():
                    os._exit(0)
                os.setsid()
            time.sleep(60)
    return "running"


@attempt("descendants_die", then="delete", judge=leaves_processes)
def kills_its_keeper(tag: str) -> str:
    """Leaves a daemon behind, and kills the process that would end it."""
    start_daemon(tag, os.setsid)
    os.kill(os.getppid(), signal.SIGKILL)
    return "killed"


@attempt("dies_with_server", then="kill", judge=leaves_processes_for_long)
def outlives_the_server(tag: str) -> str:
    """Leaves a child behind when the server is killed."""
    start_daemon(tag)
    return "left"


@attempt("dies_with_server", then="kill", judge=leaves_processes_for_long)
def outlives_the_server_as_a_daemon(tag: str) -> str:
    """Leaves a daemon behind when the server is killed, which wants no signal at the end of its parent."""

    def prepare() -> None:
        os.setsid()
        LIBC.prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0)
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    start_daemon(tag, prepare)
    return "left"


@attempt("dies_with_server", then="kill", live=True, judge=leaves_processes_for_long)
def outlives_the_server_by_running_away(tag: str) -> str:
    """Forks for a second, each process going on in its child, while the server is killed."""
    for _ in range(8):
        if os.fork() == 0:
            os.setsid()
            name_process(tag)
            end = time.monotonic() + 1
            while time.monotonic() < end:
                if os.fork():
                    os._exit(0)
                os.setsid()
            time.sleep(60)
    return "running"


@attempt("dies_with_server", then="kill", live=True, judge=leaves_processes_for_long)
def outlives_the_server_in_a_busy_run(tag: str) -> str:
    """Goes on to compute when the server is killed, and looks at nothing."""
    start_daemon(tag, os.setsid)

    def compute() -> None:
        while True:
            pass

    name_process(tag)
    threading.Thread(target=compute).start()
    return "running"
