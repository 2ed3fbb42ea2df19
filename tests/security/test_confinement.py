"""What a process has left once it is confined, and that a failure of a layer is never silent."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest
from support import attempts, rights, uses
from support.confined import NOBODY, run

from codecontext_service.workers import syscalls
from codecontext_service.workers.confinement import Confinement, Limits, User, prepare
from codecontext_service.workers.filters import policy_for
from codecontext_service.workers.landlock import Access, PathRule, Ruleset

MIB = 1024 * 1024
AS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not AS_ROOT, reason="needs root")
OWN_UID = 3_000_000 + os.getpid()  # tests side by side must not share it: processes count for it
CAP_SYS_RESOURCE = 24
NO_CAPABILITIES = {"CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapAmb": 0}

WAYS = [
    pytest.param({"confinement": Confinement()}, id="self"),
    pytest.param(
        {"confinement": Confinement(user=User(OWN_UID, OWN_UID))}, id="own uid", marks=needs_root
    ),
    pytest.param({"confinement": Confinement(), "uid": NOBODY}, id="user", marks=needs_root),
    pytest.param(
        {"confinement": Confinement(), "uid": NOBODY, "user_namespace": True},
        id="user namespace",
        marks=needs_root,
    ),
    pytest.param({"confinement": Confinement(), "user_namespace": True}, id="own user namespace"),
]


@pytest.mark.parametrize("way", WAYS)
def test_no_capability_is_left_and_none_comes_back(way: dict) -> None:
    """Whoever it was before: no capability in any set, no_new_privs, and /proc/self can be read."""
    status = run(rights.status, **way).value
    assert {name: int(status[name], 16) for name in NO_CAPABILITIES} == NO_CAPABILITIES
    assert status["NoNewPrivs"] == "1"


@pytest.mark.parametrize("way", WAYS)
def test_limits_hold_and_can_not_be_raised(way: dict) -> None:
    """Each limit is the hard one too, and nobody gets more files than that."""
    limits = Limits(
        address_space_bytes=900 * MIB,
        data_bytes=800 * MIB,
        processes=4000,
        open_files=100,
        file_size_bytes=10 * MIB,
        cpu_time_s=30,
    )
    confinement = Confinement(limits=limits, user=way["confinement"].user)
    way = way | {"confinement": confinement}
    got = run(rights.limits, **way).value
    assert got["RLIMIT_AS"] == (900 * MIB,) * 2
    assert got["RLIMIT_DATA"] == (800 * MIB,) * 2
    assert got["RLIMIT_NPROC"] == (4000, 4000)
    assert got["RLIMIT_NOFILE"] == (100, 100)
    assert got["RLIMIT_FSIZE"] == (10 * MIB,) * 2
    assert got["RLIMIT_CPU"] == (30, 31)
    assert got["RLIMIT_CORE"] == (0, 0)
    assert run(rights.raise_open_files, **way).outcome == "EPERM"
    if int(run(rights.status).value["CapEff"], 16) >> CAP_SYS_RESOURCE & 1:
        assert run(rights.raise_open_files).outcome == "ok"


def test_a_limit_is_never_raised() -> None:
    """A lower hard limit of the server's own stays, and None leaves everything as it is."""
    before = run(rights.limits).value
    after = run(rights.limits, confinement=Confinement(limits=Limits(core_bytes=None))).value
    assert after == before
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    more = Confinement(limits=Limits(open_files=hard + 1000))
    assert run(rights.limits, confinement=more).value["RLIMIT_NOFILE"] == (hard, hard)


def test_limits_are_enforced() -> None:
    """Memory, files and CPU time end where the limits say; a catchable signal comes first."""
    data = Confinement(limits=Limits(data_bytes=60 * MIB))
    assert run(rights.allocate, 100 * MIB, confinement=data).outcome == "ENOMEM"
    assert run(rights.allocate, 100 * MIB).outcome == "ok"
    cpu = Confinement(limits=Limits(cpu_time_s=1))
    assert run(rights.spin_for_ever, confinement=cpu).outcome == "SIGXCPU"


def test_file_sizes_are_limited(tmp_path: Path) -> None:
    """A file can't grow past the limit, which Python reports as an error."""
    sizes = Confinement(limits=Limits(file_size_bytes=1000))
    path = str(tmp_path / "file")
    assert run(rights.write_bytes, path, 2000, confinement=sizes).outcome == "EFBIG"
    assert run(rights.write_bytes, path, 2000).outcome == "ok"


@needs_root
def test_processes_are_limited_for_each_user_and_user_namespace() -> None:
    """Processes count for a uid of its own, and for a user namespace of an ordinary user."""
    own = Confinement(limits=Limits(processes=5), user=User(OWN_UID, OWN_UID))
    assert run(rights.fork_many, 4, confinement=own).outcome == "ok"
    assert run(rights.fork_many, 5, confinement=own).outcome == "EAGAIN"
    nested = {"uid": NOBODY, "user_namespace": True}
    limited = Confinement(limits=Limits(processes=5))
    assert run(rights.fork_many, 5, **nested, confinement=limited).outcome == "EAGAIN"
    assert run(rights.fork_many, 5, **nested).outcome == "ok"


@needs_root
def test_a_user_of_its_own_has_nothing_of_roots() -> None:
    """All ids and groups are the new user's, there is no way back, and root's files are closed."""
    own = Confinement(user=User(OWN_UID, OWN_UID))
    status = run(rights.status, confinement=own).value
    assert status["Uid"].split() == [str(OWN_UID)] * 4
    assert status["Gid"].split() == [str(OWN_UID)] * 4
    assert status["Groups"] == ""
    assert int(status["CapBnd"], 16) == 0
    for attempt, arguments in (
        (rights.become_root, ()),
        (attempts.read_file, ("/etc/shadow",)),
        (attempts.signal_parent, ()),
    ):
        assert run(attempt, *arguments).outcome == "ok"
        assert run(attempt, *arguments, confinement=own).outcome in ("EPERM", "EACCES")


@needs_root
def test_it_dies_with_its_parent_though_the_user_changes() -> None:
    """The change of user would take the wish back, so it is expressed after that."""
    assert run(rights.child_dies_with_parent, Confinement(user=User(OWN_UID, OWN_UID))).value


def test_it_dies_with_its_parent() -> None:
    """When the parent's thread ends, so does the child."""
    assert run(rights.child_dies_with_parent, Confinement()).value


def test_dumpable_is_as_asked() -> None:
    """A process that is not dumpable can't be seen into, even by its own user."""
    assert run(rights.dumpable, confinement=Confinement()).value == 1
    assert run(rights.dumpable, confinement=Confinement(dumpable=False)).value == 0


@pytest.mark.parametrize(
    ("confinement", "layer", "said"),
    [
        (Confinement(limits=Limits(open_files=-5)), "limits", "-5"),
        (Confinement(limits=Limits(data_bytes=1 << 70)), "limits", ""),
        (Confinement(user=User(OWN_UID, OWN_UID)), "user", "Operation not permitted"),
        (Confinement(parent_pid=1 << 22), "parent_death", "gone"),
        (
            Confinement(landlock=Ruleset((PathRule("/no/such", Access.READ),))),
            "landlock",
            "/no/such",
        ),
    ],
    ids=["negative limit", "huge limit", "user", "parent", "path"],
)
def test_a_layer_that_fails_is_named(confinement: Confinement, layer: str, said: str) -> None:
    """An error names the layer and the cause: nobody takes a half-confined process for a confined one."""
    uid = NOBODY if AS_ROOT else None
    got, message = run(rights.fail_to_confine, confinement, uid=uid).value
    assert got == layer
    assert said in message


@needs_root
def test_all_layers_together_leave_a_working_interpreter(open_path: Path) -> None:
    """Limits, a user, Landlock and the filter at once: files, threads and children still work."""
    work = open_path / "work"
    work.mkdir()
    os.chown(work, OWN_UID, OWN_UID)
    reads = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache")
    paths = [PathRule(path, Access.READ, missing_ok=True) for path in reads]
    paths += [PathRule("/dev/null", Access.DEVICE), PathRule(str(work), Access.READ_WRITE)]
    for tier in ("uid", "landlock"):
        confinement = Confinement(
            limits=Limits(data_bytes=800 * MIB, processes=64, open_files=256, cpu_time_s=60),
            user=User(OWN_UID, OWN_UID),
            landlock=Ruleset(tuple(paths)),
            filter=policy_for(tier, landlock_abi=7, memory_group=False),
        )
        prepare(confinement)
        folder = work / tier
        assert run(attempts.use_folder, str(folder), confinement=confinement).outcome == "ok"
        assert run(uses.use_threads, confinement=confinement).value == 28
        assert run(uses.use_subprocess, confinement=confinement).value == b"began\nended\n"
        assert run(uses.use_sqlite, str(folder), confinement=confinement).value == [(3,)]
        assert run(attempts.read_file, "/etc/passwd", confinement=confinement).outcome == "EACCES"
        assert run(attempts.open_socket, 2, confinement=confinement).outcome == "EACCES"


def test_an_interpreter_without_site_can_import_all_of_it() -> None:
    """The modules need nothing but the standard library, under `python -I -S`."""
    names = run(rights.imported_from_elsewhere).value
    assert names == []


def test_own_loopback_and_host_name() -> None:
    """A network namespace of its own has a loopback, and nothing outside notices a name."""
    ways = [{"user_namespace": True}] + ([{}] if AS_ROOT else [])
    before = os.uname().nodename
    for way in ways:
        assert run(attempts.talk_over_own_loopback, **way).value == b"hello"
        assert run(rights.own_host_name, "cell", **way).value == "cell"
    assert os.uname().nodename == before


@pytest.mark.parametrize(
    "way",
    [
        pytest.param({}, id="root", marks=needs_root),
        pytest.param({"uid": NOBODY, "user_namespace": True}, id="user", marks=needs_root),
        pytest.param({"user_namespace": True}, id="self"),
    ],
)
def test_a_jail_is_made_of_mounts(way: dict) -> None:
    """A new root with a read-only part, a bounded part and its own /proc; outside nothing changes."""
    mounts = Path("/proc/self/mountinfo").read_text()
    got = run(rights.build_jail, **way).value
    assert got == {
        "root": ["bound", "old", "proc", "small"],
        "old": [],
        "write to bound": "EROFS",
        "fill small": "ENOSPC",
        "many files": "ENOSPC",
        "pids": ["1"],
        "device": "EACCES",
    }
    assert Path("/proc/self/mountinfo").read_text() == mounts


def test_a_signal_number_is_reported_as_such() -> None:
    """The helper of these tests tells a killed process from an error."""
    assert run(rights.kill_self, signal.SIGKILL).outcome == "SIGKILL"
    assert syscalls.last_capability() >= 37
