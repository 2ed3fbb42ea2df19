"""A resident Bash, driven over a socket that is its standard input.

Bash runs as an interactive shell without a terminal: an interrupt, or an error that would end a script,
brings it back to where it reads its next command, with all its state. Each run is a file that it sources,
so lines have the numbers that they have in the code, and what ends a run early is a `return`. While it does,
the code's standard input is an empty pipe. The socket is then on a descriptor that Bash closes in every
program that it starts.

What Bash says on the socket ends with a NUL: `C` once it is configured, `B <run>` when a run begins,
`D <run> <status> <options>` when it has ended (perhaps twice), `I <password> <prompt>` when `read` wants a
line, `Q` when it is quiet. Anything else is a breach.

An interrupt throws away what Bash is about to do: the rest of a run, but also a line that it has read in part,
or the word that a run has ended. So the word is said wherever a run may end: at the end of its line, by
`PROMPT_COMMAND` when Bash is back where it reads its next command, and, if the code has set that, by the lines
that `interrupt` sends. Those are so short that any part of one does no harm. Before an interrupted run counts
as ended the shell is asked for quiet: its answer is to what was sent after the last interrupt, so none is left
that could hit the next run. What throws the question away has it say `D` once more (without a run, and with a
status that is not 0), and it is asked again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import shlex
import signal
import socket
import struct
import termios
from collections.abc import Iterable, Mapping
from typing import NoReturn

from codecontext_service.workers import syscalls
from codecontext_service.workers.descriptors import close_all_but

_ASK, _NOTHING, _CODE, _INPUT = 60, 61, 62, 59
_ERRORS = 58  # until it has begun: it complains of the terminal that it has not
_MAX_MESSAGE = 64 * 1024

_OPTIONS = ("--noprofile", "--norc", "--noediting", "-i")

_PROMPT_COMMAND = r'{ \= "$?"; } 2>/dev/null'
"""Says that a run has ended, if one has, or that the shell has been thrown back."""

# The functions have names that nobody uses, are parsed before there are aliases, and can't be replaced. What
# they call is a builtin, unless the code has a function `builtin`. It is unset, in POSIX mode,
# where nothing hides `unset`. The signal that comes past the limit on the size of a file would end the shell:
# with a trap the builtin fails. That holds for the shell alone: programs have the usual signal.
_BEGIN = f"""\
set +H +m +o history
{{ exec {_ASK}>&10; }} </dev/null 2>/dev/null
exec 2>&{_ERRORS} {_ERRORS}>&-
unset -v HISTFILE MAILCHECK
declare +x PS1 PS2
trap : XFSZ
=() {{
  __codecontext_status=${{1-$?}}
  if [[ $__codecontext_status != 0 || ${{__codecontext_run-}} ]]; then
    __codecontext_works=
    builtin printf -v __codecontext_works 1
    if [[ ! $__codecontext_works ]]; then
      POSIXLY_CORRECT=1
      unset -f builtin
      unset -v POSIXLY_CORRECT
    fi
    builtin printf 'D %d %d %s\\0' "${{__codecontext_run:-0}}" "$__codecontext_status" "$-" >&0
    __codecontext_run=
    builtin set +xv
  fi
  PS1= PS2=
  builtin unset -v PROMPT_COMMAND
  PROMPT_COMMAND={shlex.quote(_PROMPT_COMMAND)}
}}
^() {{
  builtin printf 'Q\\0' >&0
}}
readonly -f = ^
read() {{
  if [[ ! /dev/fd/0 -ef /dev/fd/{_NOTHING} ]]; then builtin read "$@"; return; fi
  if ! builtin read -t 0 -u {_INPUT}; then
    local __option __prompt= __password=0 OPTIND=1 OPTARG
    while builtin getopts :a:d:ei:n:N:p:rst:u: __option; do
      case $__option in
        p) __prompt=$OPTARG ;;
        s) __password=1 ;;
        u) builtin read "$@"; return ;;
      esac
    done
    builtin printf 'I %d %s\\0' "$__password" "$__prompt" >&{_ASK} || return
    builtin read -r -N 1 -u {_INPUT} __option
    case $__option in
      A) ;;
      E) return 1 ;;
      *) builtin printf 'bash: read: this run was started without allow_input: nobody can be asked\\n' >&2
         return 1 ;;
    esac
    builtin unset -v __option __prompt __password OPTIND OPTARG
  fi
  builtin read "$@" <&{_INPUT}
}}
"""


class Breach(Exception):
    """Something else than Bash wrote to its socket."""


class Shell:
    """A Bash that waits for what it is to do."""

    def __init__(self, executable: str) -> None:
        """Starts it.

        Args:
            executable: Its path.

        Raises:
            OSError: The kernel refused.
        """
        self.socket, theirs = socket.socketpair()
        self._said = b""
        self._code = _open_memory()
        nothing, closed = os.pipe()
        os.close(closed)
        self._input, self.input_end = os.pipe()
        os.set_blocking(self.input_end, False)
        self._environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "PS1": "", "PS2": ""}
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            self._exec(executable, theirs.fileno(), nothing, parent)
        theirs.close()
        os.close(nothing)
        self.pidfd = os.pidfd_open(self.pid)
        self._send(_BEGIN)

    def _exec(self, executable: str, control: int, nothing: int, parent: int) -> NoReturn:
        try:
            syscalls.die_with_parent(parent)
            os.setsid()
            for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):  # ignored here
                signal.signal(number, signal.SIG_DFL)
            # First out of the way, so that none covers another.
            sources = (control, nothing, self._code, self._input, 2)
            moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in sources]
            for fd, target in zip(moved, (0, _NOTHING, _CODE, _INPUT, _ERRORS), strict=True):
                os.dup2(fd, target)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            close_all_but([_NOTHING, _CODE, _INPUT, _ERRORS])
            os.execve(executable, ["bash", *_OPTIONS], self._environment)
        except BaseException as error:
            os.write(_ERRORS, f"codecontext: {executable} can't be started: {error}\n".encode())
        finally:
            os._exit(1)

    def configure(self, cwd: str, env: Mapping[str, str], limits: Mapping[str, int]) -> None:
        """Gives it a directory, an environment and limits; it says `C` then."""
        gone = [name for name in self._environment if name not in env and not name.startswith("PS")]
        parts = [f"builtin unset -v {' '.join(gone)}"] if gone else []
        parts += [f"builtin export {name}={quote(value)}" for name, value in env.items()]
        parts.append(f"builtin cd -- {quote(cwd)}")
        for kind, name, option, unit in (
            (resource.RLIMIT_NOFILE, "open_files", "-n", 1),
            (resource.RLIMIT_FSIZE, "file_size", "-f", 1024),
            (resource.RLIMIT_NPROC, "processes", "-u", 1),
        ):
            if limits[name]:
                try:
                    resource.prlimit(self.pid, kind, (limits[name], limits[name]))
                except PermissionError:  # where others have the same user a filter denies it
                    parts.append(f"builtin ulimit {option} {limits[name] // unit}")
        parts.append("builtin printf 'C\\0' >&0")
        self._send("; ".join(parts) + "\n")

    def run(self, run: int, code: bytes, env: Mapping[str, str], options: str, status: int) -> None:
        """Has it run code.

        Args:
            run: The number of the run, which it says back.
            code: The code, without a NUL.
            env: Variables of this run alone.
            options: Options of one letter to set first.
            status: What `$?` is at the beginning.
        """
        content = b"".join(b"set -%c; " % ord(option) for option in options) + code
        os.ftruncate(self._code, 0)
        os.pwrite(self._code, content, 0)
        variables = "".join(f"{name}={quote(value)} " for name, value in env.items())
        self._send(
            f"__codecontext_run={run}; {{ \\builtin printf 'B {run}\\0' >&0; }} 2>/dev/null; "
            + (f"(exit {status}); " if status else "")
            + f"{variables}\\builtin source /dev/fd/{_CODE} <&{_NOTHING}; {_PROMPT_COMMAND}\n"
        )

    def interrupt(self, *, again: bool) -> None:
        """Interrupts what it runs, with its children in the foreground.

        Args:
            again: Whether an interrupt has not stopped it. Then it may wait for a program in a process group of
                its own, as all have under `set -m`; of several that is the one that it has started last.
        """
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGINT)
            if again and (group := self._last_group()):
                os.killpg(group, signal.SIGINT)
        self._send("=\n=\n")  # the interrupt may throw one away

    def _last_group(self) -> int:
        """Returns the process group of its youngest child, if that is in its session; else 0."""
        with (
            contextlib.suppress(OSError),
            open(f"/proc/{self.pid}/task/{self.pid}/children") as file,
        ):
            for child in map(int, file.read().split()[-1:]):
                if os.getsid(child) == self.pid:
                    return os.getpgid(child)
        return 0

    def ask_for_quiet(self) -> None:
        """Asks it to say `Q`, or `D` if an interrupt hits it before."""
        self._send("^\n")

    def hear(self) -> list[bytes]:
        """Returns what it has said by now.

        Raises:
            Breach: It is too much.
        """
        with contextlib.suppress(BlockingIOError):
            self._said += self.socket.recv(_MAX_MESSAGE, socket.MSG_DONTWAIT)
        *messages, self._said = self._said.split(b"\0")
        if len(self._said) >= _MAX_MESSAGE:
            raise Breach
        return messages

    def answer(self, content: bytes) -> bytes:
        """Gives what `read` waits for.

        Args:
            content: `A` and a line, `E` (there is none) or `N` (nobody can be asked).

        Returns:
            What there is no room for yet.
        """
        with contextlib.suppress(BlockingIOError):
            content = content[os.write(self.input_end, content) :]
        return content

    def forget_input(self) -> None:
        """Drops what nobody has read of a line."""
        waiting = struct.unpack("i", fcntl.ioctl(self._input, termios.FIONREAD, b"\0" * 4))[0]
        if waiting:
            os.read(self._input, waiting)

    @property
    def intact(self) -> bool:
        """Whether it still has what runs are made with."""
        return all(
            _same(f"/proc/{self.pid}/fd/{fd}", own)
            for fd, own in ((_CODE, self._code), (_INPUT, self._input))
        )

    def _send(self, text: str) -> None:
        self.socket.sendall(text.encode("utf-8", "surrogateescape"))


def quote(text: str) -> str:
    """Returns a text as a word for Bash, on one line."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"$'{escaped}'"


def check_syntax(executable: str, code: bytes, options: Iterable[str] = ()) -> str:
    """Returns what Bash says of code that it can't parse; empty if it can."""
    reading, writing = os.pipe()
    source = _open_memory()
    os.pwrite(source, code, 0)
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(source, 0)
            os.lseek(0, 0, os.SEEK_SET)
            os.dup2(writing, 2)
            close_all_but([])
            os.execve(executable, ["bash", "-n", *options], {"LANG": "C.UTF-8"})
        finally:
            os._exit(0)
    os.close(writing)
    os.close(source)
    with open(reading, "rb") as complaint:
        text = complaint.read(_MAX_MESSAGE).decode(errors="replace").strip()
    return text if os.waitpid(pid, 0)[1] else ""


def _open_memory() -> int:
    try:
        return os.memfd_create("code")
    except OSError:  # denied where its memory would count for nobody
        folder = os.environ.get("TMPDIR", "/dev/shm")  # noqa: S108  # its own, one way or the other
        # Without `tempfile`: that loads `random`, which has something to do in all that the launcher forks.
        path = f"{folder}/code-{os.urandom(8).hex()}"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.unlink(path)
        return file


def _same(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except OSError:
        return False
