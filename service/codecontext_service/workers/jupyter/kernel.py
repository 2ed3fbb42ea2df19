"""A Jupyter kernel: started from its kernelspec, and the sockets that lead to it."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zmq
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import KernelManager

from .messages import plain

_RECONNECT_MS = 5
_CHUNK = 64 * 1024
_MAX_SAID = 4000
"""How much is read of what a kernel that does not start says; of that its last line is told."""

_MAX_COMPLAINT = 200

_PYTHON_KERNEL = Path(__file__).with_name("python_kernel.py")

Message = dict[str, Any]


class KernelError(Exception):
    """The kernel could not be started; the text says why."""


class _OneKernelspec(KernelSpecManager):  # type: ignore[misc]  # see pyproject.toml
    """Knows one kernelspec, whatever name it is asked for."""

    folder = ""

    def get_kernel_spec(self, kernel_name: str) -> Any:
        spec = KernelSpec.from_resource_dir(self.folder)
        python, *words = spec.argv
        options = list(
            itertools.takewhile(lambda word: word.startswith("-") and word != "-m", words)
        )
        match words[len(options) :]:
            case ["-m", module, *rest] if _is_python(python):
                text = _PYTHON_KERNEL.read_text(encoding="utf-8")
                spec.argv = [python, *options, "-c", text, module, *rest]
        return spec


def _is_python(program: str) -> bool:
    return re.fullmatch(r"python(\d(\.\d+)?)?", Path(program).name) is not None


def transport_of(folder: str) -> str:
    """Returns how a kernel is best spoken to: `ipc` where it runs under Python, since few others can."""
    return "ipc" if _is_python(KernelSpec.from_resource_dir(folder).argv[0]) else "tcp"


def _shorter(path: str) -> str:
    """Returns a path, or the same one from the directory of both processes: a socket's has few bytes."""
    return min(path, os.path.relpath(path), key=len)


def _ignore_excess() -> None:
    """Has a write past the limit on the size of a file fail, rather than end the kernel."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


class Kernel:
    """A kernel's process, the four sockets to it, and the pipes of its descriptors 1 and 2."""

    def __init__(self, folder: str, transport: str, env: Mapping[str, str]) -> None:
        """Starts the process, in this one's directory; it is not ready yet.

        Args:
            folder: The kernelspec's.
            transport: `ipc` or `tcp`. Sockets of `ipc` and the file with the key are removed once the kernel
                is ready, so that nobody else can reach it any more.
            env: Its environment.

        Raises:
            KernelError: It can't be started.
        """
        self._files = tempfile.mkdtemp(prefix="jupyter-")  # this user's alone
        context = self._context = zmq.Context()
        # What this process has no room for the kernel would drop, and nobody would know.
        context.setsockopt(zmq.RCVHWM, 0)
        context.setsockopt(zmq.SNDHWM, 0)
        context.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        # A socket takes messages once it is connected, and so tells that; one that is not never blocks.
        context.setsockopt(zmq.IMMEDIATE, 1)
        context.setsockopt(zmq.SNDTIMEO, 0)
        specs = _OneKernelspec()
        specs.folder = folder
        self._manager = KernelManager(
            context=context,
            kernel_name="kernel",
            kernel_spec_manager=specs,
            connection_file=f"{self._files}/connection.json",
            transport=transport,
            ip=_shorter(f"{self._files}/socket") if transport == "ipc" else "127.0.0.1",
            cache_ports=transport == "tcp",
        )
        if self._manager.has_trait("transport_encryption"):  # since 8.9
            self._manager.transport_encryption = "auto"
        self.pipes: dict[int, bool] = {}
        """The read ends of its descriptors 1 and 2, and whether it is that of standard error."""
        stdout, stderr = self._pipe(is_stderr=False), self._pipe(is_stderr=True)
        try:
            self._manager.start_kernel(
                env=dict(env),
                cwd=os.getcwd(),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                preexec_fn=_ignore_excess,
            )
        except Exception as error:  # whatever jupyter_client and provisioners raise
            self._remove_files()
            raise KernelError(f"{type(error).__name__}: {error}") from error
        finally:
            os.close(stdout)
            os.close(stderr)
        self.pid: int = self._manager.provisioner.pid
        self.pidfd = os.pidfd_open(self.pid)
        self.orderly = _is_python(self._manager.kernel_spec.argv[0])
        """Whether all that a run publishes comes before the word that the kernel is idle, as it should."""
        self.info: Message = {}
        """What it tells of itself, once it is ready."""
        self.echoing: set[int] = set()
        """Those of the pipes that repeat what it publishes as well, since it reads its own descriptor."""
        self.session = self._manager.session
        self.shell = self._manager.connect_shell(self.session.bsession)
        self.iopub = self._manager.connect_iopub()
        self.stdin = self._manager.connect_stdin(self.session.bsession)
        self.control = self._manager.connect_control(self.session.bsession)
        self.sockets = (self.iopub, self.shell, self.control, self.stdin)
        self.held = False
        """Whether it is stopped."""

    def _pipe(self, *, is_stderr: bool) -> int:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        self.pipes[reading] = is_stderr
        return writing

    def wait_ready(self, timeout_s: float) -> None:
        """Waits until it answers, and this process hears what it publishes.

        Args:
            timeout_s: How long that may take, in seconds.

        Raises:
            KernelError: It has ended, or does not answer in time. It is gone then.
        """
        deadline = time.monotonic() + timeout_s
        heard = False
        try:
            self._connect(self.shell, deadline)
            self.send(self.shell, "kernel_info_request", {})
            while not (self.info and heard):
                self._await({self.shell: zmq.POLLIN, self.iopub: zmq.POLLIN}, deadline)
                heard = self.receive(self.iopub) is not None or heard
                reply = self.receive(self.shell)
                if reply is not None and reply["msg_type"] == "kernel_info_reply":
                    self.info = reply["content"]
                    if not heard:  # what it published came before it knew of this reader
                        self.send(self.shell, "kernel_info_request", {})
            for each in (self.stdin, self.control):
                self._connect(each, deadline)
        except KernelError:
            self.end()
            raise
        self._read_pipes()  # what it says while it starts is not the code's output
        self.echoing = {fd for fd in self.pipes if self._has_taken_over(fd)}
        self._remove_files()

    def _has_taken_over(self, pipe: int) -> bool:
        try:
            own = os.stat(f"/proc/{self.pid}/fd/{2 if self.pipes[pipe] else 1}")
        except OSError:
            return False
        return own.st_ino != os.fstat(pipe).st_ino

    def _connect(self, kernel_socket: Any, deadline: float) -> None:
        while not kernel_socket.getsockopt(zmq.EVENTS) & zmq.POLLOUT:
            self._await({kernel_socket: zmq.POLLOUT}, deadline)

    def _await(self, sockets: dict[Any, int], deadline: float) -> None:
        poller = zmq.Poller()
        for each, events in sockets.items():
            poller.register(each, events)
        poller.register(self.pidfd, zmq.POLLIN)
        left_s = deadline - time.monotonic()
        ready = dict(poller.poll(max(0.0, left_s) * 1000))
        if self.pidfd in ready:
            status = self.wait()
            how = f"was killed by signal {-status}" if status < 0 else f"exited with {status}"
            raise KernelError(f"it {how} before it was ready{self._complaint()}")
        if not ready:
            raise KernelError(f"it was not ready in time{self._complaint()}")

    def _complaint(self) -> str:
        said = plain(self._read_pipes().decode(errors="replace")).strip()
        return f"; it said: {said.splitlines()[-1][:_MAX_COMPLAINT]}" if said else ""

    def _read_pipes(self) -> bytes:
        said = b""
        for fd in self.pipes:
            with contextlib.suppress(BlockingIOError):
                while piece := os.read(fd, _CHUNK):
                    said = (said + piece)[-_MAX_SAID:]
        return said

    def _remove_files(self) -> None:
        shutil.rmtree(self._files, ignore_errors=True)

    # Messages

    def send(self, to: Any, kind: str, content: Message) -> str:
        """Sends a message, and returns its id. Of a kernel that has closed its socket nothing will come."""
        message = self.session.msg(kind, content)
        with contextlib.suppress(zmq.Again):
            self.session.send(to, message)
        identifier: str = message["header"]["msg_id"]
        return identifier

    @staticmethod
    def has_message(kernel_socket: Any) -> bool:
        """Returns whether something has come on a socket, which may be no message at all."""
        return bool(kernel_socket.getsockopt(zmq.EVENTS) & zmq.POLLIN)

    def receive(self, kernel_socket: Any) -> Message | None:
        """Returns the next message of a socket; None if there is none that the kernel has signed."""
        while self.has_message(kernel_socket):
            try:
                message: Message | None = self.session.recv(kernel_socket)[1]
            except Exception:  # noqa: S112  # not the kernel's: of no key, or no message at all
                continue
            if message is not None:
                return message
        return None

    # Its process

    def interrupt(self) -> str:
        """Asks it to stop what runs, in the way that its kernelspec names.

        Returns:
            The id of the message, which the kernel will answer; empty if it was a signal.
        """
        identifier = ""
        if self._manager.kernel_spec.interrupt_mode == "message":
            identifier = self.send(self.control, "interrupt_request", {})
        else:
            self._signal(signal.SIGINT)
        self.release()
        return identifier

    def hold(self) -> None:
        """Stops it: it makes more than the server takes, and drops what nobody reads."""
        if not self.held:
            self.held = True
            self._signal(signal.SIGSTOP)

    def release(self) -> None:
        """Lets it go on."""
        if self.held:
            self.held = False
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)  # it leads a session of its own

    def cpu_time_s(self) -> float:
        """Returns the CPU time of it and of the children that it waited for; 0 if nobody tells."""
        with contextlib.suppress(OSError), open(f"/proc/{self.pid}/stat", "rb") as stat:
            # pid (name) state ppid …, where the name may hold anything
            ticks = stat.read().rpartition(b")")[2].split()[11:15]
            return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        return 0.0

    def peak_memory_bytes(self) -> int:
        """Returns the most resident memory that it had; 0 if nobody tells."""
        with contextlib.suppress(OSError), open(f"/proc/{self.pid}/status", "rb") as status:
            for line in status:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
        return 0

    def wait(self) -> int:
        """Waits for its end.

        Returns:
            Its exit status, or the negative number of the signal that killed it.
        """
        status: int = self._manager.provisioner.process.wait()
        return status

    def end(self) -> None:
        """Ends it, where it never got ready, or is not the one that is wanted."""
        self._signal(signal.SIGKILL)
        self.wait()
        self._remove_files()
        self._context.destroy(linger=0)
        for fd in (*self.pipes, self.pidfd):
            os.close(fd)
        self.pipes = {}


def start(folder: str, transport: str, env: Mapping[str, str], timeout_s: float) -> Kernel:
    """Starts a kernel and waits until it is ready.

    Args:
        folder: Its kernelspec's.
        transport: `ipc`, `tcp` or `auto`, see `transport_of`.
        env: Its environment.
        timeout_s: How long it may take, in seconds.

    Raises:
        KernelError: It does not start; the text says why.
    """
    try:
        socket.socket(socket.AF_UNIX).close()
    except OSError as error:  # ZeroMQ would abort the process
        raise KernelError(f"code may make no sockets here: {error.strerror}") from error
    try:
        chosen = transport_of(folder) if transport == "auto" else transport
    except (OSError, ValueError) as error:
        raise KernelError(f"its kernelspec can't be read: {error}") from error
    kernel = Kernel(folder, chosen, env)
    kernel.wait_ready(timeout_s)
    return kernel
