"""A process of the server's user that has nothing to do with any context, and everything to lose.

Its first line of standard input has its secrets; it answers with one line of facts. Then each line
is a question: `signals` (which have come since), `ping`, and `memory` (what lies in
its memory now, which is as before afterwards).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import signal
import socket
import struct
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

WATCHED = {signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGIO, signal.SIGURG}
SHM_KEY, QUEUE_NAME, SHM_NAME = 0x5EC2E7, b"planted", "planted"
MODE = 0o600
EVERYWHERE = ("0.0.0.0", 0)  # noqa: S104  # of the arena, which has nothing but loopback
_IPC_CREAT, _IPC_PRIVATE, _SETVAL = 0o1000, 0, 16
_PR_SET_PTRACER, _ANY = 0x59616D61, ctypes.c_ulong(-1)

_libc = ctypes.CDLL(None, use_errno=True)


def _serve_stream(listener: socket.socket, secret: bytes) -> None:
    while True:
        end, _ = listener.accept()
        with end, contextlib.suppress(OSError):
            end.sendall(secret)


def _serve_datagrams(end: socket.socket, secret: bytes) -> None:
    while True:
        _, sender = end.recvfrom(4096)
        with contextlib.suppress(OSError):
            end.sendto(secret, sender)


def _listen(family: int, address: Any, secret: str, kind: int = socket.SOCK_STREAM) -> Any:
    """Serves a secret to whoever asks, and returns the address."""
    end = socket.socket(family, kind)
    if family == socket.AF_INET6:
        end.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if kind == socket.SOCK_STREAM and family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 5)
    end.bind(address)
    if kind == socket.SOCK_STREAM:
        end.listen()
    serve = _serve_stream if kind == socket.SOCK_STREAM else _serve_datagrams
    threading.Thread(target=serve, args=(end, secret.encode()), daemon=True).start()
    return end.getsockname()


def _listen_mptcp(secret: str) -> int | None:
    try:
        end = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_MPTCP)
        end.bind(("127.0.0.1", 0))
        end.listen()
    except OSError:
        return None
    threading.Thread(target=_serve_stream, args=(end, secret.encode()), daemon=True).start()
    port: int = end.getsockname()[1]
    return port


def _plant_ipc(secrets: dict[str, str]) -> dict[str, Any]:
    """Puts secrets into shared memory and message queues."""
    shm = _libc.shmget(SHM_KEY, 4096, _IPC_CREAT | MODE)
    _libc.shmat.restype = ctypes.c_void_p
    address = _libc.shmat(shm, None, 0)
    ctypes.memmove(address, secrets["shm"].encode(), len(secrets["shm"]))
    queue = _libc.msgget(_IPC_PRIVATE, MODE)
    message = struct.pack("l", 1) + secrets["queue"].encode()
    _libc.msgsnd(queue, message, len(message) - struct.calcsize("l"), 0)
    semaphore = _libc.semget(_IPC_PRIVATE, 1, MODE)
    Path(f"/dev/shm/{SHM_NAME}").write_text(secrets["posix_shm"])
    return {"shm_id": shm, "queue_id": queue, "semaphore_id": semaphore}


def _say(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Is the neighbour."""
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)  # they stay pending until asked for
    given = json.loads(sys.stdin.readline())
    secrets, folder = given["secrets"], given["folder"]
    _libc.prctl(_PR_SET_PTRACER, _ANY, 0, 0, 0)  # as if no Yama were there, where one is
    memory = mmap.mmap(-1, 4096)
    memory.write(secrets["neighbour_memory"].encode())
    where = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    held = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # for ever
    held.write(secrets["neighbour_file"].encode())
    held.flush()
    facts = {
        "neighbour_pid": os.getpid(),
        "memory_address": where,
        "memory_length": len(secrets["neighbour_memory"]),
        "open_fd": held.fileno(),
        "tcp_port": _listen(socket.AF_INET, EVERYWHERE, secrets["tcp"])[1],
        "tcp6_port": _listen(socket.AF_INET6, ("::1", 0), secrets["tcp"])[1],
        "mptcp_port": _listen_mptcp(secrets["tcp"]),
        "udp_port": _listen(
            socket.AF_INET,
            EVERYWHERE,
            secrets["udp"],
            socket.SOCK_DGRAM,
        )[1],
        "neighbour_socket": _listen(socket.AF_UNIX, f"{folder}/neighbour.socket", secrets["unix"]),
        "abstract_name": "planted-name",
    }
    _listen(socket.AF_UNIX, "\0planted-name", secrets["abstract"])
    facts |= {"shm_key": SHM_KEY, "shm_name": SHM_NAME, **_plant_ipc(secrets)}
    _say(facts)
    for question in sys.stdin:
        answer: Any = "here"
        if question == "signals\n":
            answer = []
            while signal.sigpending() & WATCHED:
                answer.append(signal.Signals(signal.sigwaitinfo(WATCHED).si_signo).name)
        elif question == "memory\n":
            answer = memory[:4096].rstrip(b"\0").decode(errors="replace")
            memory.seek(0)
            memory.write(secrets["neighbour_memory"].encode())
        _say(answer)


if __name__ == "__main__":
    main()
