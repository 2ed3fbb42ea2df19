"""Descriptors that a context has been given, and the channel between it and the server."""

from __future__ import annotations

import os
import socket
import stat

from security.attempt import ALWAYS, attempt
from security.attempts.inside import Stopped, own_sockets
from security.judges import reveals, server_is_hurt


def _kill_the_server(stage: object) -> None:
    """Does from outside what these attempts would do to the server."""
    process = stage.server.process  # type: ignore[attr-defined]
    process.kill()
    process.wait()


@attempt(ALWAYS, judge=reveals("server_key"))
def reads_what_it_has_inherited() -> str:
    """Reads every file that is open in it without its doing."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and stat.S_ISREG(os.fstat(int(name)).st_mode):
                found.append(os.pread(int(name), 200, 0).decode(errors="replace"))
        except OSError:
            continue
    return " ".join(found)


@attempt(ALWAYS)
def inherits_what_is_not_its_own() -> str:
    """Looks for descriptors other than its standard ones and its channel."""
    channel = own_sockets()[:1]
    extra = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if int(name) > 2 and int(name) not in channel and "/proc/" not in target:
            extra.append(f"{name}: {target}")
    if not extra:
        raise Stopped("none")
    return str(extra)


@attempt(ALWAYS, judge=server_is_hurt, proof=_kill_the_server)
def says_garbage_on_its_channel() -> str:
    """Sends packets that are no messages over its own channel to the server."""
    for fd in own_sockets():
        with socket.socket(fileno=os.dup(fd)) as end:
            for packet in (b"\xff" * 100, b"R.[[[", b"D." + b"\xff" * 60_000, b"F.null"):
                end.send(packet)
    return "said"


@attempt(ALWAYS, judge=server_is_hurt, proof=_kill_the_server)
def says_too_much_on_its_channel() -> str:
    """Sends parts of messages that never end over its own channel, for the server to keep."""
    for fd in own_sockets():
        with socket.socket(fileno=os.dup(fd)) as end:
            for number in range(6000):
                end.send(b"O+" + number.to_bytes(4, "big") + b"x" * 60_000)
    return "said"


@attempt(ALWAYS, judge=server_is_hurt, proof=_kill_the_server)
def hands_descriptors_to_the_server() -> str:
    """Sends thousands of descriptors over its own channel, for the server to have none left."""
    null = os.open(os.devnull, os.O_RDONLY)
    for fd in own_sockets():
        with socket.socket(fileno=os.dup(fd)) as end:
            for _ in range(200):
                socket.send_fds(end, [b"O.x"], [null] * 200)
    return "sent"


@attempt(ALWAYS, judge=server_is_hurt, proof=_kill_the_server)
def closes_its_channel() -> str:
    """Closes its channel while the server waits for an answer."""
    for fd in own_sockets():
        os.close(fd)
    return "closed"
