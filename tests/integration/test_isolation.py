"""Isolation where there are no cells: chosen by what works, tried at start, and never weaker unasked."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.denying import LANDLOCK, NAMESPACES, prefix
from support.machine import skip, why_no_landlock, why_no_namespaces
from support.servers import ServerProcess, serve_command
from support.users import AS_NOBODY, as_nobody

from codecontext import CodeContext, CodeContextClient, UnavailableError

TESTS = str(Path(__file__).parents[1])
ENV = {**os.environ, "PYTHONPATH": TESTS}


def refusal(
    folder: Path, *flags: str, without: tuple[str, ...] = (), run_by: Sequence[str] = ()
) -> str:
    """What a server says that does not start."""
    command = [each for each in serve_command(folder, *flags) if each != "--accept-no-isolation"]
    done = subprocess.run(
        [*run_by, *(prefix(*without) if without else []), *command],
        env=ENV,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    return done.stderr


def doctor(*flags: str, run_by: Sequence[str] = ()) -> dict[str, Any]:
    """What `codecontext doctor` says."""
    command = [*run_by, sys.executable, "-m", "codecontext_service.cli", "doctor", "--json", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (1 if found["missing"] or found["refusal"] else 0), done.stderr
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server where nobody may make namespaces, as in an ordinary container."""
    folder = tmp_path_factory.mktemp("pod")
    with ServerProcess(folder, env=ENV, prefix=prefix(*NAMESPACES)) as each:
        with CodeContextClient(each.target) as client:
            if client.get_server_info().isolation.tier == "none":
                skip("there is no tier without namespaces", proof=why_no_landlock())
        yield each


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[CodeContextClient]:
    """A client of it."""
    with CodeContextClient(server.target) as each:
        yield each


def commands(server: ServerProcess) -> set[str]:
    """The names of all processes below a server."""
    found = set()
    for each in server.descendants():
        with contextlib.suppress(psutil.NoSuchProcess):
            found.add(each.name())
    return found


def told(client: CodeContextClient, context: CodeContext, code: str) -> str:
    """What an expression is, or the name of its error."""
    run = client.run_code(code, context=context, timeout=60)
    return run.error.name if run.error is not None else (run.text or "").strip("'")


@pytest.mark.parametrize("who", ["this user", "an ordinary user"])
def test_where_namespaces_can_be_made_there_are_cells(home: Path, who: str) -> None:
    """The server takes the tier `cell` by itself wherever the machine lets its user make namespaces."""
    other = who != "this user" and os.geteuid() == 0
    if proof := why_no_namespaces(AS_NOBODY if other else ()):
        skip("there are no cells", proof)
    command = as_nobody(home / "interpreter") if other else []
    with (
        ServerProcess(home / "state", prefix=command) as each,
        CodeContextClient(each.target) as asking,
    ):
        isolation = asking.get_server_info().isolation
    assert isolation.tier == "cell"
    assert {"no_foreign_files", "no_foreign_processes", "disk_limit"} <= {*isolation.guarantees}


def test_without_namespaces_a_weaker_tier_is_taken_and_said(
    server: ServerProcess, client: CodeContextClient
) -> None:
    """`auto` takes a tier that works there, with a warning that names each guarantee that is missing."""
    isolation = client.get_server_info().isolation
    assert isolation.tier in ("uid", "landlock")
    assert {"no_network", "no_foreign_files", "no_foreign_signals"} <= set(isolation.guarantees)
    warning = server.wait_for_log("contexts are not fully contained", tier=isolation.tier)
    assert "disk_limit" in warning["missing"]
    assert "no_network" not in warning["missing"]
    assert tuple(warning["guarantees"].split(",")) == isolation.guarantees
    context = client.create_code_context()
    assert context.isolation == isolation
    client.delete_code_context(context)


@pytest.mark.parametrize("language", ["python", "bash", "javascript", "typescript"])
def test_contexts_have_their_own_files_and_no_others(
    server: ServerProcess, client: CodeContextClient, language: str
) -> None:
    """A context reads and writes its workspace and its temporary folder, and neither another's nor /tmp."""
    script = "require('fs').writeFileSync({!r}, '')"
    write = {"python": "open({!r}, 'w').close()", "bash": ": >{}"}.get(language, script)
    one = client.create_code_context(language)
    two = client.create_code_context()
    try:
        for path, outcome in (
            ("mine.txt", "SUCCEEDED"),
            (told(client, two, "import os; os.environ['TMPDIR']") + "/x", "RAISED"),
            (told(client, two, "os.getcwd()") + "/x", "RAISED"),
            ("/tmp/codecontext-test-denied", "RAISED"),
        ):
            run = client.run_code(write.format(path), context=one)
            assert str(run.outcome.value) == outcome, (path, run)
        assert [each.path for each in client.files.list(one, "")] == ["mine.txt"]
        assert told(client, two, "import tempfile; tempfile.TemporaryFile().close()") == ""
    finally:
        client.delete_code_context(one)
        client.delete_code_context(two)


def test_contexts_of_a_sandbox_share_its_files(client: CodeContextClient) -> None:
    """Contexts of one sandbox, forks and restarts find the same files; what comes from outside is theirs."""
    sandbox = client.sandboxes.create()
    one = client.create_code_context(sandbox_id=sandbox)
    two = client.create_code_context("bash", sandbox_id=sandbox)
    client.files.write(sandbox, "in.txt", "from outside")
    assert client.run_code("cat in.txt; echo more >>in.txt", context=two).stdout == "from outside"
    (copy,) = client.fork_code_context(one)
    client.restart_code_context(one)
    for context in (one, copy):
        assert told(client, context, "open('in.txt').read().strip()") == "from outsidemore"
    client.delete_code_context(copy)
    client.sandboxes.destroy(sandbox)


def test_a_context_without_a_folder_is_refused(tmp_path: Path) -> None:
    """Where a sandbox can't be made the caller is told why, and to come again: it is no bug of the service."""
    with (
        ServerProcess(tmp_path, "--isolation", "none") as server,
        CodeContextClient(server.target) as client,
    ):
        (folder,) = tmp_path.glob("host-*/sandboxes")
        folder.rmdir()
        with pytest.raises(UnavailableError, match="no sandbox could be made"):
            client.create_code_context()
        folder.mkdir()
        client.delete_code_context(client.create_code_context())


def test_nothing_is_left(server: ServerProcess, client: CodeContextClient) -> None:
    """A deleted context leaves no process, and no file, in its temporary folder neither."""
    context = client.create_code_context()
    code = (
        "import os, subprocess\n"
        "open(os.environ['TMPDIR'] + '/x', 'w').close()\n"
        "subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "os.getcwd()"
    )
    workspace = Path(told(client, context, code))
    assert workspace.is_dir()
    assert "sleep" in commands(server)
    client.delete_code_context(context)
    assert not workspace.parent.exists()
    assert "sleep" not in commands(server)


def test_a_tier_that_does_not_hold_is_refused(tmp_path: Path) -> None:
    """A process that is contained tries it at start: what reads the server's files starts no server."""
    said = refusal(tmp_path, "--isolation", "landlock", "--read-only-paths", str(tmp_path))
    if "landlock: landlock:" in said or "landlock: seccomp:" in said:
        skip("there is no Landlock", proof=why_no_landlock())
    assert "it reads a file of the server's (no_foreign_files)" in said


def test_a_tier_starts_where_the_doctor_says_so(open_path: Path) -> None:
    """What `codecontext doctor` says of a tier is what a server then does, and why it does not."""
    tiers = {each["name"]: each for each in doctor()["tiers"]}
    for name in ("uid", "landlock"):
        if tiers[name]["available"]:
            with (
                ServerProcess(open_path, "--isolation", name) as server,
                CodeContextClient(server.target) as client,
            ):
                assert client.get_server_info().isolation.tier == name
        else:
            said = refusal(open_path, "--isolation", name)
            assert tiers[name]["obstacles"]
            assert all(obstacle in said for obstacle in tiers[name]["obstacles"])


OPTIONS = {
    "a tier": ({"isolation": "none"}, ""),
    "a guarantee": (
        {"isolation": "landlock", "require": ["disk_limit"]},
        "does not give disk_limit here",
    ),
    "what is shown": (
        {"isolation": "landlock", "read_only_paths": ["HERE"]},
        "it reads a file of the server's",
    ),
}
"""Options of a server, and what it says if it does not start with them."""


@pytest.mark.parametrize(("options", "refused"), OPTIONS.values(), ids=OPTIONS)
def test_the_doctor_says_whether_a_server_would_start(
    tmp_path: Path, options: dict[str, Any], refused: str
) -> None:
    """`codecontext doctor` takes the options of `serve`, and says of them what a server then says."""
    if options.get("isolation") == "landlock" and (proof := why_no_landlock()):
        skip("there is no Landlock", proof)
    file = tmp_path / "config.toml"
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in options.items()]
    file.write_text("".join(lines).replace("HERE", str(tmp_path)))
    flags = ("--config", str(file))
    found = doctor(*flags, "--accept-no-isolation", "--state-dir", str(tmp_path / "examined"))
    assert not list(tmp_path.glob("examined/host-*"))
    assert refused in found["refusal"]
    if refused:
        assert found["refusal"] in refusal(tmp_path, *flags)
        return
    assert found["refusal"] == ""
    with (
        ServerProcess(tmp_path, *flags) as each,
        CodeContextClient(each.target) as asking,
    ):
        isolation = asking.get_server_info().isolation
        assert (isolation.tier, list(isolation.guarantees)) == (found["tier"], found["guarantees"])


def test_the_doctor_refuses_what_no_server_takes() -> None:
    """Options that can't be used anywhere are refused by their names, before anything is tried."""
    command = [sys.executable, "-m", "codecontext_service.cli", "doctor", "--isolation", "strong"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "isolation: take one of: " in done.stderr


UNCOUNTED = (
    *("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/fs/cgroup; exec "$@"', "sh"),
    *("setpriv", "--inh-caps=-setuid", "--bounding-set=-setuid"),
)
"""Has a command run as root without control groups, and without a user to give to a sandbox."""


@pytest.mark.skipif(os.geteuid() != 0, reason="it takes root to have less than root")
def test_what_a_tier_lacks_is_the_same_wherever_it_is_told(tmp_path: Path) -> None:
    """The doctor's tiers, its guarantees, what keeps `strict` from starting, and a server: all agree."""
    if proof := why_no_namespaces():
        skip("there are no cells", proof)
    found = doctor(run_by=UNCOUNTED)
    lacking = {"process_limit", "memory_limit_hard"}
    assert found["tier"] == "cell"
    assert {*found["missing"]} == lacking
    assert {*found["tiers"][0]["missing"]} == lacking
    layers = {each.partition(":")[0] for each in found["strict_obstacles"]}
    assert layers == {"user_namespace_process_limit", "memory_control_group"}
    said = refusal(tmp_path, "--isolation", "strict", run_by=UNCOUNTED)
    assert all(obstacle in said for obstacle in found["strict_obstacles"])
    with (
        ServerProcess(tmp_path, prefix=UNCOUNTED) as each,
        CodeContextClient(each.target) as asking,
    ):
        assert {*found["guarantees"]} == {*asking.get_server_info().isolation.guarantees}


USUAL = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+mknod,+setfcap,+setgid,+setpcap,+setuid"
USUAL += ",+sys_chroot"
"""What root has in an ordinary container, as far as it matters here."""


@pytest.mark.skipif(os.geteuid() != 0, reason="it takes root to have less than root")
def test_a_root_with_few_rights_gets_what_the_doctor_says(open_path: Path) -> None:
    """Root as in an ordinary container has cells where it may have a user namespace."""
    if proof := why_no_landlock():
        skip("there is no Landlock", proof)
    few = ("setpriv", "--inh-caps=-all", f"--bounding-set={USUAL}")
    found = doctor(run_by=few)
    with ServerProcess(open_path, prefix=few) as each, CodeContextClient(each.target) as asking:
        isolation = asking.get_server_info().isolation
    assert isolation.tier == found["tier"] != "none"
    assert isolation.tier == "cell" or why_no_namespaces(few)
    assert list(isolation.guarantees) == found["guarantees"]


@pytest.mark.skipif(os.geteuid() != 0, reason="it takes root to have less than root")
@pytest.mark.parametrize("more", ["", ",+sys_ptrace"], ids=["by user namespaces", "with users"])
def test_a_root_that_may_make_namespaces_has_cells(open_path: Path, more: str) -> None:
    """Root with the rights for namespaces has cells, and counts their processes if it may join other users'."""
    some = ("setpriv", "--inh-caps=-all", f"--bounding-set={USUAL},+sys_admin,+net_admin{more}")
    if proof := why_no_namespaces(some):
        skip("there are no cells", proof)
    with ServerProcess(open_path, prefix=some) as each, CodeContextClient(each.target) as asking:
        isolation = asking.get_server_info().isolation
        assert isolation.tier == "cell"
        assert ("process_limit" in isolation.guarantees) is bool(more)
        assert asking.run_code("6 * 7").text == "42"


def test_nothing_starts_uncontained_unasked(tmp_path: Path) -> None:
    """Where nothing contains code `auto` starts no server, and names each obstacle and what accepts it."""
    without = (*NAMESPACES, *LANDLOCK)
    said = refusal(tmp_path, without=without)
    assert "--accept-no-isolation" in said
    assert "landlock: landlock:" in said
    accepted = ServerProcess(tmp_path, env=ENV, prefix=prefix(*without))
    with accepted, CodeContextClient(accepted.target) as client:
        assert client.get_server_info().isolation.tier == "none"
        accepted.wait_for_log("contexts are not fully contained", tier="none")


def test_what_is_required_holds_or_nothing_starts(tmp_path: Path) -> None:
    """A server that can't give what `require` names does not start, and says what is missing."""
    assert "'safety' is no guarantee" in refusal(tmp_path, "--require", "safety")
    said = refusal(tmp_path, "--require", "disk_limit", without=NAMESPACES)
    assert "does not give disk_limit here" in said
    # This one is chosen for its pid namespaces, and then has none.
    flags = ("--isolation", "none", "--require", "no_foreign_processes")
    assert "does not give no_foreign_processes here" in refusal(
        tmp_path, *flags, without=NAMESPACES
    )
    with ServerProcess(tmp_path, "--require", "dies_with_server,descendants_die") as server:
        assert server.stop() == 0


def test_uncontained_code_is_for_this_machine_alone(tmp_path: Path) -> None:
    """Whoever accepts that nothing contains code listens on loopback, `--insecure` or not."""
    flags = ("--listen", "0.0.0.0:0", "--insecure")
    assert "listen: with the isolation none" in refusal(tmp_path, "--isolation", "none", *flags)
    said = refusal(
        tmp_path,
        "--isolation=auto",
        *flags,
        "--accept-no-isolation=true",
        without=(*NAMESPACES, *LANDLOCK),
    )
    assert "listen: with the isolation none" in said


def test_the_network_of_the_machine_is_given_to_those_who_may(tmp_path: Path) -> None:
    """With HOST code reaches the machine's ports, but not its Unix sockets; without it, nothing."""
    flags = ("--isolation", "landlock", "--allow-host-network", "--listen", f"unix:{tmp_path}/s")
    try:
        server = ServerProcess(tmp_path, *flags)
    except RuntimeError as error:
        if "this machine does not allow the tier" not in str(error):
            raise
        skip("there is no Landlock", proof=why_no_landlock())
    with (
        server,
        CodeContextClient(server.target) as client,
        socket.create_server(("127.0.0.1", 0)) as port,
    ):
        address = port.getsockname()
        connect = f"import socket; socket.create_connection({address!r}, 30).close()"
        host = client.create_code_context(network_policy="HOST")
        none = client.create_code_context()
        assert told(client, host, connect) == ""
        assert told(client, host, "socket.socket(socket.AF_UNIX)") == "PermissionError"
        assert told(client, none, connect) == "PermissionError"
        assert "no_network" not in host.isolation.guarantees
        assert "no_network" in none.isolation.guarantees
