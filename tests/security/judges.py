"""What looks from outside whether an attempt has succeeded."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from support.processes import Watch

from .attempt import Judge, Report
from .stage import living

if TYPE_CHECKING:
    from .stage import Stage

_END_S = 10.0
"""How long processes may take to end after their server was killed."""


_USUAL_PRIORITY = os.getpriority(os.PRIO_PROCESS, 0)
"""That of all processes in the arena, before anyone has changed it."""

_MOMENT_S = 1.5
"""How long something is looked for that may show itself only now and then."""


def reveals(name: str) -> Judge:
    """The code knows a secret: it is in what it says."""

    def judge(stage: Stage, report: Report) -> Report:
        return Report(stage.secrets[name] in report.detail, report.detail)

    return judge


def got_signal(name: str) -> Judge:
    """The neighbour has got a signal."""

    def judge(stage: Stage, report: Report) -> Report:
        got = stage.neighbour.ask("signals")
        return Report(name in got, f"the neighbour got {got}; {report.detail}")

    return judge


def neighbour_is_stopped(stage: Stage, report: Report) -> Report:
    """The neighbour is stopped; it goes on now."""
    end = time.monotonic() + _MOMENT_S
    while not (stopped := stage.neighbour.state == "T") and time.monotonic() < end:
        time.sleep(0.01)  # nothing tells of it
    stage.neighbour.process.send_signal(signal.SIGCONT)
    return Report(stopped, report.detail)


def neighbour_has_ended(stage: Stage, report: Report) -> Report:
    """The neighbour has ended, or does so at once."""
    with Watch([psutil.Process(stage.neighbour.process.pid)]) as watch:
        return Report(not watch.living(_MOMENT_S), report.detail)


def neighbour_is_nicer(stage: Stage, report: Report) -> Report:
    """The neighbour has a lower priority than at first; all get the usual one back."""
    priority = os.getpriority(os.PRIO_PROCESS, stage.neighbour.process.pid)
    for process in psutil.process_iter():
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, _USUAL_PRIORITY)
    return Report(priority > _USUAL_PRIORITY, f"its priority is {priority}; {report.detail}")


def neighbour_has_other_memory(stage: Stage, report: Report) -> Report:
    """The neighbour's memory is not what it wrote there."""
    memory = stage.neighbour.ask("memory")
    return Report(memory != stage.secrets["neighbour_memory"], f"{memory}; {report.detail}")


def appears(folder: str, name: str) -> Judge:
    """A file has appeared in a folder of the machine; it is removed."""

    def judge(stage: Stage, report: Report) -> Report:
        path = Path(stage.facts[folder]) / name
        there = path.exists()
        path.unlink(missing_ok=True)
        return Report(there, report.detail)

    return judge


def appears_to_the_victim(stage: Stage, report: Report) -> Report:
    """The other context finds a file that it has not written."""
    code = "import os; found = 'planted' in os.listdir()\nif found: os.unlink('planted')\nfound"
    execution = stage.client.run_code(code, context=stage.victim)
    return Report(execution.text == "True", f"{execution.text}; {report.detail}")


def key_is_gone(stage: Stage, report: Report) -> Report:
    """The server's key is not what it was."""
    before = (stage.secrets["server_key"], 0o600, 0o700)
    now = (
        (
            stage.key.read_text(),
            stage.key.stat().st_mode & 0o777,
            stage.key.parent.stat().st_mode & 0o777,
        )
        if stage.key.exists()
        else None
    )
    if now != before:
        stage.key.parent.mkdir(exist_ok=True)
        stage.key.parent.chmod(0o700)
        stage.key.write_text(stage.secrets["server_key"])
        stage.key.chmod(0o600)
    return Report(now != before, f"it was {before}, and is {now}")


def machine_is_renamed(stage: Stage, report: Report) -> Report:
    """The machine has another name; it gets its own back."""
    name = os.uname().nodename
    socket.sethostname("arena")
    return Report(name != "arena", name)


def can_be_reached(stage: Stage, report: Report) -> Report:
    """What the code has opened is reached from outside: it says the port, and who connects is greeted."""
    if not report.escaped:
        return report
    try:
        with socket.create_connection(("127.0.0.1", int(report.detail)), 5) as end:
            end.settimeout(5)
            greeting = end.recv(100).decode(errors="replace")
    except OSError as error:
        return Report(False, f"port {report.detail}: {error}")
    return Report(greeting == "planted", greeting)


def _end(stage: Stage) -> int:
    """Ends the processes that an attempt has left, and returns how many there were."""
    left = living(stage.facts["tag"])
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(left)


def leaves_processes(stage: Stage, report: Report) -> Report:
    """Processes of the code live on; they are ended now."""
    left = _end(stage)
    return Report(left > 0, f"{left} live on; {report.detail}")


def _seen(stage: Stage) -> int:
    """Looks for a moment, and returns how often a process of the code was seen."""
    end = time.monotonic() + _MOMENT_S
    seen = 0
    while time.monotonic() < end:
        seen += len(living(stage.facts["tag"]))
    return seen


def leaves_runaways(stage: Stage, report: Report) -> Report:
    """As `leaves_processes`, where each process is too short to be seen, but there is another after it."""
    return _left(stage, report, _seen(stage))  # by the end of which they have come to rest


def leaves_processes_for_long(stage: Stage, report: Report) -> Report:
    """Processes of the code outlive the server, and not only for a moment; they are ended now."""
    end = time.monotonic() + (_END_S if stage.server.process.poll() is not None else 0.0)
    while (seen := _seen(stage)) and time.monotonic() < end:
        pass
    return _left(stage, report, seen)


def _left(stage: Stage, report: Report, seen: int) -> Report:
    left = leaves_processes(stage, report)  # those that no look has caught are there all the same
    return Report(seen > 0 or left.escaped, f"{seen} times one was seen; {left.detail}")


def server_is_hurt(stage: Stage, report: Report) -> Report:
    """The server or the other context does not answer any more."""
    damage = stage.damage()
    return Report(bool(damage), damage or f"all answer; {report.detail}")


def shared_memory_is_left(stage: Stage, report: Report) -> Report:
    """A segment of shared memory is there that the code has made, by the key that it says."""
    rows = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    left = [row for row in rows if report.escaped and int(row.split()[0]) == int(report.detail)]
    return Report(bool(left), f"{len(rows)} segments; {report.detail}")
