"""What Landlock lets a process reach, in each of its versions."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path

import pytest
from support import attempts, rights
from support.confined import NOBODY, run
from support.machine import why_no_landlock

from codecontext_service.workers import landlock
from codecontext_service.workers.confinement import Confinement
from codecontext_service.workers.landlock import NEWEST_ABI, Access, PathRule, Ruleset

pytestmark = pytest.mark.skipif(bool(why_no_landlock()), reason=why_no_landlock())

USERS = [NOBODY, None] if os.geteuid() == 0 else [None]
by_user = pytest.mark.parametrize("uid", USERS, ids=lambda uid: "user" if uid else "self")
VERSIONS = range(1, landlock.abi() + 1)


@pytest.fixture
def folder(open_path: Path) -> Path:
    """A folder that every user may do anything in, with a `mine` and an `others` in it."""
    for name in ("mine", "others"):
        (open_path / name).mkdir()
        (open_path / name).chmod(0o777)
        (open_path / name / "file").write_bytes(b"content")
        (open_path / name / "file").chmod(0o666)
    return open_path


def confined(*paths: PathRule, **rest: bool) -> Confinement:
    return Confinement(landlock=Ruleset(paths=paths, **rest))


def allowed(path: Path | str, access: Access) -> PathRule:
    return PathRule(str(path), access)


@by_user
def test_what_no_rule_allows_is_denied(folder: Path, uid: int | None) -> None:
    """Other files can't be read, written, listed, truncated, removed or run; without rules they can."""
    mine = confined(allowed(folder / "mine", Access.READ_WRITE))
    others = folder / "others"
    for attempt, arguments in (
        (attempts.read_file, (f"{others}/file",)),
        (attempts.list_folder, (str(others),)),
        (attempts.write_file, (f"{others}/new",)),
        (attempts.truncate_by_path, (f"{others}/file",)),
        (attempts.truncate_by_open, (f"{others}/file",)),
        (attempts.run_program, ("/bin/true",)),
        (attempts.read_file, ("/proc/1/status",)),
        (attempts.read_file, (f"{folder}/mine/../others/file",)),
        (attempts.rename, (f"{others}/file", f"{folder}/mine/stolen")),
    ):
        assert run(attempt, *arguments, uid=uid, confinement=mine).outcome in ("EACCES", "EXDEV")
        assert run(attempt, *arguments, uid=uid).outcome == "ok", attempt


@by_user
def test_links_lead_nowhere_else(folder: Path, uid: int | None) -> None:
    """A symbolic link out of what is allowed does not help."""
    (folder / "mine" / "link").symlink_to(folder / "others" / "file")
    mine = confined(allowed(folder / "mine", Access.READ_WRITE))
    assert run(attempts.read_file, f"{folder}/mine/link", uid=uid).outcome == "ok"
    got = run(attempts.read_file, f"{folder}/mine/link", uid=uid, confinement=mine)
    assert got.outcome == "EACCES"


@by_user
def test_read_write_is_all_that_files_are_for(folder: Path, uid: int | None) -> None:
    """Files, folders, links, FIFOs, renames from one folder to another; but no device nodes."""
    mine = confined(allowed(folder / "mine", Access.READ_WRITE))
    got = run(attempts.use_folder, f"{folder}/mine/sub", uid=uid, confinement=mine)
    assert got.value == ["a", "fifo"]
    assert not Access.READ_WRITE & (Access.MAKE_CHAR | Access.MAKE_BLOCK | Access.IOCTL_DEV)


@by_user
def test_read_is_no_write(folder: Path, uid: int | None) -> None:
    """What may be read may be listed and run, and not changed."""
    rules = confined(allowed(folder / "mine", Access.READ), allowed("/", Access.READ))
    assert run(attempts.list_folder, f"{folder}/mine", uid=uid, confinement=rules).value == ["file"]
    assert run(attempts.run_program, "/bin/true", uid=uid, confinement=rules).value == 0
    for attempt in (attempts.write_file, attempts.truncate_by_path, attempts.truncate_by_open):
        got = run(attempt, f"{folder}/mine/file", uid=uid, confinement=rules)
        assert got.outcome == "EACCES"
        assert (folder / "mine" / "file").read_bytes() == b"content"
    assert (
        run(attempts.write_file, f"{folder}/mine/new", uid=uid, confinement=rules).outcome
        == "EACCES"
    )


@by_user
def test_single_files_and_devices_can_be_allowed(folder: Path, uid: int | None) -> None:
    """A rule for a file holds for it alone, and devices can be used."""
    rules = confined(
        allowed(folder / "mine" / "file", Access.READ_WRITE), allowed("/dev/null", Access.DEVICE)
    )
    one, other = f"{folder}/mine/file", f"{folder}/others/file"
    assert run(attempts.read_file, one, uid=uid, confinement=rules).value == b"content"
    assert run(attempts.write_file, one, uid=uid, confinement=rules).outcome == "ok"
    assert run(attempts.read_file, other, uid=uid, confinement=rules).outcome == "EACCES"
    assert run(attempts.use_device, "/dev/null", uid=uid, confinement=rules).outcome == "ok"
    assert run(attempts.use_device, "/dev/zero", uid=uid, confinement=rules).outcome == "EACCES"
    assert run(attempts.use_device, "/dev/zero", uid=uid).outcome == "ok"


@by_user
def test_listing_alone_can_be_allowed(folder: Path, uid: int | None) -> None:
    """The names may be seen, the contents not."""
    rules = confined(allowed(folder, Access.LIST))
    got = run(attempts.list_folder, str(folder), uid=uid, confinement=rules)
    assert got.value == ["mine", "others"]
    got = run(attempts.read_file, f"{folder}/mine/file", uid=uid, confinement=rules)
    assert got.outcome == "EACCES"


def test_tcp_is_denied_unless_allowed() -> None:
    """From version 4 on no TCP port can be reached, unless the rules say so."""
    if landlock.abi() < 4:
        pytest.skip("needs Landlock's version 4")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert run(attempts.connect_tcp, port).outcome == "ok"
        assert run(attempts.connect_tcp, port, confinement=confined(tcp=True)).outcome == "ok"
        assert run(attempts.connect_tcp, port, confinement=confined()).outcome == "EACCES"
        assert run(attempts.talk_over_loopback, confinement=confined()).outcome == "EACCES"


def test_signals_and_abstract_sockets_stay_within_the_domain() -> None:
    """From version 6 on a process of the same user outside can't be signalled, nor its socket reached."""
    if landlock.abi() < 6:
        pytest.skip("needs Landlock's version 6")
    name = "codecontext-test-" + secrets.token_hex(8)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0" + name)
        server.listen()
        for attempt, arguments in (
            (attempts.signal_parent, ()),
            (attempts.connect_abstract, (name,)),
        ):
            assert run(attempt, *arguments).outcome == "ok"
            assert run(attempt, *arguments, confinement=confined(scoped=False)).outcome == "ok"
            assert run(attempt, *arguments, confinement=confined()).outcome == "EPERM"
    assert run(attempts.own_child_by_signal, 15, confinement=confined()).value == 15


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_restricts_as_far_as_it_goes(folder: Path, version: int) -> None:
    """With an older version's rights files are as closed; what it can't express stays open."""
    rules = Ruleset(
        paths=(allowed(folder / "mine", Access.READ_WRITE), allowed("/usr", Access.READ))
    )
    others = f"{folder}/others/file"

    def under(attempt, *arguments) -> str:
        return run(attempts.with_landlock, rules, version, attempt, arguments).outcome

    assert under(attempts.read_file, others) == "EACCES"
    assert under(attempts.write_file, others) == "EACCES"
    assert under(attempts.read_file, f"{folder}/mine/file") == "ok"
    (folder / "mine" / "sub").mkdir()
    moved = under(attempts.rename, f"{folder}/mine/file", f"{folder}/mine/sub/file")
    assert moved == ("EXDEV" if version < 2 else "ok")
    assert under(attempts.truncate_by_path, others) == ("ok" if version < 3 else "EACCES")
    assert under(attempts.talk_over_loopback) == ("ok" if version < 4 else "EACCES")
    assert under(attempts.signal_parent) == ("ok" if version < 6 else "EPERM")


def test_missing_paths_are_errors_unless_they_may_be_missing(folder: Path) -> None:
    """A rule for nothing is said by name; one that may be missing allows nothing."""
    missing = str(folder / "missing")
    layer, message = run(rights.fail_to_confine, confined(PathRule(missing, Access.READ))).value
    assert layer == "landlock"
    assert missing in message
    may_be = confined(PathRule(missing, Access.READ, missing_ok=True))
    assert run(attempts.read_file, f"{folder}/mine/file", confinement=may_be).outcome == "EACCES"


def test_it_needs_no_new_privs_of_an_ordinary_user(folder: Path) -> None:
    """Without it a set-user-id program could be led astray, so the kernel refuses."""
    got = run(attempts.landlock_without_no_new_privs, uid=USERS[0])
    assert got.outcome == ("EPERM" if USERS[0] or os.geteuid() else "ok")


def test_the_version_is_within_what_is_known() -> None:
    """A later kernel counts as the newest that is known."""
    assert 1 <= landlock.abi() <= NEWEST_ABI
    assert run(attempts.landlock_abi).value == landlock.abi()
