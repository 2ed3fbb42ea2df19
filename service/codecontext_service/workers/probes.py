"""Functional probes: what each layer of confinement does on this machine, tried in a child process.

A version or a sysctl tells little: containers, security modules and their policies refuse what the
kernel has. So each probe does the thing, and looks whether it holds. It leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import filters, landlock, mounts, syscalls

PROBE_TIMEOUT_S = 10
"""How long a probe may take before it counts as failed."""

_MIB = 1024 * 1024


@dataclass(frozen=True)
class Layer:
    """What a probe found."""

    name: str
    works: bool
    reason: str = ""
    """Why it doesn't work, in words; empty if it does."""
    version: int = 0
    """Of Landlock: the ABI."""


class _DoesNotHoldError(Exception):
    """What was tried was accepted, and then had no effect."""


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _DoesNotHoldError(otherwise)


@contextlib.contextmanager
def _refused(what: str, *errors: int) -> Iterator[None]:
    """Expects that something fails with one of these errors."""
    try:
        yield
    except OSError as error:
        if error.errno in errors:
            return
        raise
    raise _DoesNotHoldError(f"{what} was not denied")


def _in_child(action: Callable[[], None]) -> None:
    """Runs something in a child of this process.

    Raises:
        _DoesNotHoldError: It failed; what is said is why.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _report(action, write)
    os.close(write)
    with open(read, "rb") as end:
        said = end.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status or said:
        raise _DoesNotHoldError(said.decode(errors="replace") or f"the probe ended with {status}")


def _report(action: Callable[[], None], write: int) -> None:
    """Is the child: writes why an action fails, and exits."""
    reason = "the probe did not end"
    try:
        signal.signal(signal.SIGALRM, _give_up)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        signal.alarm(PROBE_TIMEOUT_S)
        action()
        reason = ""
    except BaseException as error:
        reason = _in_words(error)
    finally:
        with contextlib.suppress(OSError):
            os.write(write, reason.encode(errors="replace")[:4096])
        os._exit(1 if reason else 0)


def _in_words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _give_up(number: int, frame: object) -> None:
    raise TimeoutError(f"it took longer than {PROBE_TIMEOUT_S} s")


def _user_namespace() -> None:
    uid = os.geteuid()
    syscalls.new_user_namespace()
    _expect(os.geteuid() == uid, "the user was not mapped into the new user namespace")
    # Some systems let anybody have one, and its capabilities do nothing.
    syscalls.unshare(syscalls.CLONE_NEWUTS)
    syscalls.set_hostname("probe")


def _process_limit_in_user_namespace() -> None:
    """A limit of two counts the processes of the namespace, not all of the user's."""
    syscalls.new_user_namespace()
    syscalls.clear_capabilities()
    resource.setrlimit(resource.RLIMIT_NPROC, (2, 2))
    _expect_process_limit(others=1)


def _expect_process_limit(others: int) -> None:
    read, write = os.pipe()
    children = []
    try:
        for _ in range(others):
            pid = os.fork()
            if pid == 0:
                os.close(write)
                os.read(read, 1)  # until the parent has closed its end
                os._exit(0)
            children.append(pid)
        with _refused("a process past the limit", errno.EAGAIN):
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            children.append(pid)
    finally:
        os.close(write)
        for pid in children:
            os.waitpid(pid, 0)


def _mounts() -> None:
    import tempfile  # not above: the launcher loads this module, see `processes.bootstrap`

    place = tempfile.gettempdir()
    syscalls.unshare(syscalls.CLONE_NEWNS)
    mounts.make_private()
    mounts.mount_tmpfs(place, size_bytes=_MIB, inodes=16)
    jail, shown, old = f"{place}/jail", f"{place}/jail/shown", f"{place}/jail/old"
    os.mkdir(jail)
    mounts.mount_tmpfs(jail, size_bytes=_MIB, inodes=16)
    os.mkdir(shown)
    os.mkdir(old)
    mounts.bind("/", shown)
    with (
        _refused("a file past the size of a tmpfs", errno.ENOSPC),
        open(f"{jail}/big", "wb") as big,
    ):
        big.write(bytes(2 * _MIB))
    os.unlink(f"{jail}/big")
    mounts.restrict_mount(jail, read_only=True)
    with _refused("a write to a read-only mount", errno.EROFS):
        os.mkdir(f"{jail}/written")
    mounts.change_root(jail, old)
    _expect(sorted(os.listdir("/")) == ["old", "shown"], "the root did not change")
    _expect(not os.listdir("/old"), "the former root is still there")


def _own_proc() -> None:
    syscalls.unshare(syscalls.CLONE_NEWPID)
    _in_child(_see_only_self)


def _see_only_self() -> None:
    syscalls.unshare(syscalls.CLONE_NEWNS)
    mounts.make_private()
    mounts.mount_proc()
    seen = [name for name in os.listdir("/proc") if name.isdigit()]
    _expect(seen == ["1"], f"the new /proc shows other processes: {seen[:5]}")


def _namespaces() -> None:
    syscalls.unshare(syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWCGROUP)
    syscalls.set_hostname("probe")


def _network() -> None:
    syscalls.unshare(syscalls.CLONE_NEWNET)
    syscalls.bring_up_loopback()
    # Not create_connection: it loads a codec, for which there may be no file any more.
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.settimeout(PROBE_TIMEOUT_S)
        client.connect(server.getsockname())
    with (
        _refused("a way out of the network namespace", errno.ENETUNREACH),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside,
    ):
        outside.connect(("192.0.2.1", 9))  # no packet is sent for this


def _own_uid(uid: int) -> None:
    parent = os.getppid()
    os.kill(parent, 0)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    syscalls.clear_capabilities()
    with _refused("a way back to root", errno.EPERM):
        os.setuid(0)
    with _refused("a signal to another user's process", errno.EPERM):
        os.kill(parent, 0)
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    _expect_process_limit(others=0)


def _own_uid_joined(uid: int) -> None:
    """The namespaces of another user's process can be joined, as those of a cell are."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        try:
            syscalls.unshare(syscalls.CLONE_NEWIPC)
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            theirs.send(b"1")
            theirs.recv(1)  # until the parent has closed its end
        finally:
            os._exit(0)
    theirs.close()
    try:
        _expect(bool(ours.recv(1)), "its user can't have namespaces")
        pidfd = os.pidfd_open(child)
        try:
            syscalls.setns(pidfd, syscalls.CLONE_NEWIPC)
        finally:
            os.close(pidfd)
    finally:
        ours.close()
        os.waitpid(child, 0)


def _own_uid_folder(uid: int) -> None:
    """A folder can be given to another user, whose processes can be ended."""
    import tempfile  # as above

    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o711)  # noqa: S103  # the other user must get through
        own = f"{folder}/own"
        os.mkdir(own, 0o700)
        os.chown(own, uid, uid)
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            ours.close()
            _work_as(uid, own, theirs)
        theirs.close()
        worked = ours.recv(1)
        try:
            os.kill(child, signal.SIGKILL)
        finally:
            ours.close()  # with which it ends by itself too
            os.waitpid(child, 0)
        _expect(bool(worked), "its user can't use a folder that it was given")
        os.rmdir(f"{own}/made")


def _work_as(uid: int, folder: str, end: socket.socket) -> None:
    try:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        os.mkdir(f"{folder}/made")
        end.send(b"1")
        end.recv(1)
    finally:
        os._exit(0)


def _seccomp() -> None:
    policy = filters.policy_for("landlock", landlock_abi=landlock.abi(), memory_group=False)
    socket.socket(socket.AF_UNIX).close()
    syscalls.set_no_new_privs()
    filters.install(policy)
    with _refused("a denied system call", errno.EACCES):
        socket.socket(socket.AF_UNIX).close()
    for end in socket.socketpair():
        end.close()


def _landlock() -> None:
    allowed = os.path.dirname(os.path.abspath(__file__))
    os.listdir("/")
    os.listdir(allowed)
    syscalls.set_no_new_privs()
    rule = landlock.PathRule(allowed, landlock.Access.READ)
    landlock.restrict(landlock.Ruleset(paths=(rule,)))
    os.listdir(allowed)
    with _refused("a directory that no rule allows", errno.EACCES):
        os.listdir("/")


def _landlock_signals() -> None:
    parent = os.getppid()
    os.kill(parent, 0)
    syscalls.set_no_new_privs()
    landlock.restrict(landlock.Ruleset(paths=()))
    with _refused("a signal out of the domain", errno.EPERM):
        os.kill(parent, 0)


def _in_user_namespace(action: Callable[[], None]) -> Callable[[], None]:
    def nested() -> None:
        syscalls.new_user_namespace()
        action()

    return nested


def probe_layers(own_uid: int = 60001) -> tuple[Layer, ...]:
    """Tries every layer on this machine, each in a child process; nothing is left behind.

    Call it in a process with one thread, since it forks. It takes some 200 ms.

    Args:
        own_uid: A uid that contexts would get; nothing may run under it.

    Returns:
        What was found, each with the reason if it doesn't work.
    """
    probes: tuple[tuple[str, Callable[[], None]], ...] = (
        ("seccomp", _seccomp),
        ("landlock", _landlock),
        ("landlock_signals", _landlock_signals),
        ("mounts", _mounts),
        ("own_proc", _own_proc),
        ("namespaces", _namespaces),
        ("network", _network),
        ("own_uid", lambda: _own_uid(own_uid)),
        ("own_uid_joined", lambda: _own_uid_joined(own_uid)),
        ("own_uid_folder", lambda: _own_uid_folder(own_uid)),
        ("user_namespace", _user_namespace),
        ("user_namespace_mounts", _in_user_namespace(_mounts)),
        ("user_namespace_own_proc", _in_user_namespace(_own_proc)),
        ("user_namespace_namespaces", _in_user_namespace(_namespaces)),
        ("user_namespace_network", _in_user_namespace(_network)),
        ("user_namespace_process_limit", _process_limit_in_user_namespace),
    )
    return tuple(probe(name, action) for name, action in probes)


def probe(name: str, action: Callable[[], None]) -> Layer:
    """Tries something in a child process, which ends after it.

    Args:
        name: What the layer is called.
        action: Raises an error where the layer doesn't work.
    """
    try:
        _in_child(action)
    except (OSError, _DoesNotHoldError) as error:
        return Layer(name, works=False, reason=_in_words(error))
    return Layer(name, works=True, version=landlock.abi() if name == "landlock" else 0)
