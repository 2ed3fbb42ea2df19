"""What the attempts are made against: a server, its secrets, a neighbour process and another context."""

from __future__ import annotations

import ast
import contextlib
import ctypes
import json
import os
import secrets
import select
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
from support.servers import ServerProcess

from codecontext import CodeContextClient

from .modes import ORDINARY_UID, Mode
from .namespaces import INTERNET, METADATA, programs

SCRATCH = Path("/tmp/arena")
"""Where everything of the stage lies; in the arena alone."""

SECRETS = (
    *("server_env", "server_key", "state_file", "home_key", "shadow"),
    *("victim_env", "victim_file", "victim_memory"),
    *("neighbour_env", "neighbour_memory", "neighbour_file"),
    *("shm", "posix_shm", "queue", "tcp", "udp", "unix", "abstract"),
)
ANSWER_S = 10.0
"""How long the neighbour may take to answer before it counts as dead."""

VICTIM = "victim-context"
"""The name of the victim's process, which is how it is found whatever namespaces it is in."""


def living(name: str) -> list[int]:
    """Returns the pids of the processes of a name in the arena that have not ended."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if (folder / "comm").read_text() == f"{name}\n" and not _has_ended(folder):
                    found.append(int(folder.name))
    return found


def _has_ended(folder: Path) -> bool:
    """Whether no thread of a process lives: the first may have ended long before the others."""
    stats = [each.read_text() for each in folder.glob("task/*/stat")]
    return all(stat.rpartition(")")[2].split()[0] in "ZX" for stat in stats)


class Neighbour:
    """The process of `neighbour.py`."""

    def __init__(self, given: dict[str, Any], env: dict[str, str], user: dict[str, Any]) -> None:
        """Starts it, and waits until it is ready."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "security.neighbour"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
            text=True,
            bufsize=1,
            start_new_session=True,
            **user,
        )
        self.facts: dict[str, Any] = self.ask(json.dumps(given))

    def ask(self, question: str) -> Any:
        """Asks it something.

        Raises:
            OSError: It does not answer.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(question + "\n")
        if not select.select([self.process.stdout], [], [], ANSWER_S)[0]:
            raise TimeoutError(f"the neighbour does not answer {question!r}")
        answer = self.process.stdout.readline()
        if not answer:
            raise BrokenPipeError("the neighbour has ended")
        return json.loads(answer)

    @property
    def state(self) -> str:
        """Its state as in /proc/PID/stat."""
        text = Path(f"/proc/{self.process.pid}/stat").read_text()
        return text.rpartition(")")[2].split()[0]

    def close(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.wait()
        for end in (self.process.stdin, self.process.stdout):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.close()


class Stage:
    """A server with all that attempts are made against."""

    def __init__(self, mode: Mode) -> None:
        """Sets everything up, in an empty folder."""
        self.mode = mode
        self.uid = os.getuid() if mode.root or os.getuid() else ORDINARY_UID
        self.user: dict[str, Any] = (
            {"user": self.uid, "group": self.uid, "extra_groups": []}
            if self.uid != os.getuid()
            else {}
        )
        """What makes a child of this process one of the server's user."""
        self.secrets = {name: f"planted-{name}-{secrets.token_hex(8)}" for name in SECRETS}
        for each in SCRATCH.iterdir():
            if each.name != "shadow":
                shutil.rmtree(each) if each.is_dir() else each.unlink()
        self.folder = self._folder("stage")
        self.folder.chmod(0o711)  # users of sandboxes must get through to their folders
        self.home = self._folder("stage/home")
        self.state = self._folder("stage/state")
        self.key = self._file("stage/keys/server.key", "server_key")
        self._file("stage/home/id_ed25519", "home_key")
        self.programs = programs()
        if self.programs is not None:
            os.chown(self.programs, self.uid, self.uid if self.user else -1)
        with contextlib.suppress(OSError):
            Path("/etc/shadow").write_text(f"root:{self.secrets['shadow']}\n")
        self._start()

    def _own(self, path: Path) -> Path:
        if self.user:
            os.chown(path, self.uid, self.uid)
        return path

    def _folder(self, name: str) -> Path:
        path = SCRATCH / name
        path.mkdir(mode=0o700, parents=True)
        return self._own(path)

    def _file(self, name: str, secret: str) -> Path:
        path = SCRATCH / name
        if not path.parent.exists():
            self._folder(str(path.parent.relative_to(SCRATCH)))
        path.write_text(self.secrets[secret])
        path.chmod(0o600)
        return self._own(path)

    def environment(self, secret: str) -> dict[str, str]:
        """The environment of a process of the server's user, with a secret in it."""
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parent.parent),
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "DEPLOY_TOKEN": self.secrets[secret],
        }

    def _start(self) -> None:
        prefix = (
            ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups"]
            if self.user
            else []
        )
        flags = ["--listen", "127.0.0.1:0", "--listen", f"unix:{self.folder}/server.socket"]
        self.server = ServerProcess(
            self.state, *flags, *self.mode.flags, env=self.environment("server_env"), prefix=prefix
        )
        self.client = CodeContextClient(self.server.target)
        self.guarantees = set(self.client.get_server_info().isolation.guarantees)
        self.tier = self.client.get_server_info().isolation.tier
        (host,) = self.state.glob("host-*")
        state_file = self._file(str((host / "secret").relative_to(SCRATCH)), "state_file")
        given = {"secrets": self.secrets, "folder": str(self.folder)}
        self.neighbour = Neighbour(given, self.environment("neighbour_env"), self.user)
        self.facts: dict[str, Any] = {
            "server_pid": self.server.pid,
            "server_port": int(self.server.target.rpartition(":")[2]),
            "server_socket": f"{self.folder}/server.socket",
            "server_key": str(self.key),
            "key_handle": self._handle_of(self.key),
            "state_file": str(state_file),
            "home": str(self.home),
            "programs": str(self.programs) if self.programs else None,
            "setuid_program": self._setuid_program(),
            "internet": INTERNET,
            "metadata": METADATA,
            "tag": "",
            **self._victim(),
            **self.neighbour.facts,
        }

    def _victim(self) -> dict[str, Any]:
        """Makes a context that the attempts are made against."""
        self.victim = self.client.create_code_context(
            env_vars={"TOKEN": self.secrets["victim_env"]}, idle_timeout=0
        )
        code = (
            "import ctypes, os, pathlib\n"
            "PR_SET_NAME = 15\n"
            f"pathlib.Path('secret.txt').write_text({self.secrets['victim_file']!r})\n"
            f"ctypes.CDLL(None).prctl(PR_SET_NAME, {VICTIM.encode()!r}, 0, 0, 0)\n"
            f"memory = ctypes.create_string_buffer({self.secrets['victim_memory']!r}.encode())\n"
            "ctypes.addressof(memory), os.getcwd()"
        )
        result = self.client.run_code(code, context=self.victim)
        assert result.text is not None, result
        address, folder = ast.literal_eval(result.text)
        (pid,) = living(VICTIM)
        return {
            "victim_pid": pid,
            "victim_sandbox": self.victim.sandbox_id,
            "victim_workspace": folder,
            "victim_address": address,
            "victim_length": len(self.secrets["victim_memory"]),
        }

    def _setuid_program(self) -> str | None:
        """A program that makes whoever runs it root; None where this process can't make one."""
        source = shutil.which("id")
        if os.getuid() or source is None:
            return None
        path = SCRATCH / "setuid"
        shutil.copy(source, path)
        path.chmod(0o4755)
        return str(path)

    def _handle_of(self, path: Path) -> str | None:
        """The kernel's handle of a file, as hex: a type and bytes."""

        class Handle(ctypes.Structure):
            _fields_ = (
                ("size", ctypes.c_uint),
                ("type", ctypes.c_int),
                ("content", ctypes.c_ubyte * 128),
            )

        handle, mount = Handle(size=128), ctypes.c_int()
        libc = ctypes.CDLL(None, use_errno=True)
        fd_cwd = -100
        if libc.name_to_handle_at(
            fd_cwd, str(path).encode(), ctypes.byref(handle), ctypes.byref(mount), 0
        ):
            return None
        return bytes(handle)[: 8 + handle.size].hex()

    def next_tag(self) -> None:
        """Takes another name for the processes that an attempt may leave."""
        self.facts["tag"] = f"left-{secrets.token_hex(4)}"

    def reap_orphans(self) -> None:
        """Reaps what has become a child of this process, the arena's pid 1: it can be thousands."""
        own = {self.server.process.pid, self.neighbour.process.pid}
        for each in psutil.Process().children():
            if each.pid not in own and each.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(each.pid, os.WNOHANG)  # some of its threads may live

    def damage(self) -> str:
        """Says what of the stage is broken; empty if nothing is."""
        if self.server.process.poll() is not None:
            return "the server has ended"
        try:
            self.neighbour.ask("ping")
        except OSError as error:
            return str(error)
        try:
            execution = self.client.run_code("21 * 2", context=self.victim, timeout=ANSWER_S)
        except Exception as error:
            return f"the other context does not answer: {error!r}"
        return "" if execution.text == "42" else f"the other context is broken: {execution}"

    def close(self) -> None:
        """Ends everything."""
        self.client.close()
        if self.server.process.poll() is None:
            self.server.process.kill()
        self.server.wait()
        self.neighbour.close()
