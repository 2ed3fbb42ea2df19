"""Packages that code installs: into its sandbox, and never into the environment that it runs in."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import sysconfig
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.machine import skip, why_no_landlock
from support.servers import ServerProcess
from support.users import as_nobody, home_of_nobody

from codecontext import CodeContext, CodeContextClient, Execution, Outcome

NAME = "codecontext_test_tiny"
WHEEL = f"{NAME}-1.0-py3-none-any.whl"
CODE = f"import {NAME}; print({NAME}.answer, {NAME}.__file__)"


def write_wheel(folder: Path) -> Path:
    """Writes a wheel with one module and one program."""
    info = f"{NAME}-1.0.dist-info"
    files = {
        f"{NAME}.py": "answer = 42\ndef main(): print('program', answer)\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\ntiny-program = {NAME}:main\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        for name, content in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(name, content)
    return folder / WHEEL


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a package index on the machine's loopback."""
    folder = tmp_path_factory.mktemp("index")
    (folder / NAME.replace("_", "-")).mkdir()
    write_wheel(folder / NAME.replace("_", "-"))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


WAYS = {
    "own": (),
    "nobody": (),
    "landlock": ("--isolation", "landlock"),
    "none": ("--isolation", "none"),
}


@pytest.fixture(scope="module", params=list(WAYS))
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CodeContextClient]:
    """A client of a server that allows the machine's network: as this user and as an ordinary one."""
    prefix: list[str] = []
    with contextlib.ExitStack() as stack:
        folder = tmp_path_factory.mktemp("packages")
        if request.param == "nobody":
            if os.geteuid() != 0:
                pytest.skip("an ordinary user runs the others")
            folder = stack.enter_context(home_of_nobody())
            prefix = as_nobody(folder / "interpreter")
        flags = ["--listen", f"unix:{folder}/socket", "--allow-host-network", "--pool-size", "1"]
        try:
            server = ServerProcess(folder / "state", *flags, *WAYS[request.param], prefix=prefix)
        except RuntimeError as error:
            if "this machine does not allow the tier" not in str(error):
                raise
            skip("there is no Landlock", proof=why_no_landlock())
        stack.enter_context(server)
        yield stack.enter_context(CodeContextClient(server.target))


def installed() -> list[str]:
    """The names of what this environment has, which is the server's too."""
    return sorted(each.name for each in Path(sysconfig.get_path("purelib")).iterdir())


def pip(client: CodeContextClient, context: CodeContext, line: str) -> Execution:
    """Runs pip in a context, and then code that needs what it is to install."""
    code = f"%pip install -q {line}\nassert not _exit_code, _exit_code\n{CODE}"
    return client.run_code(code, context=context, timeout=100)


def test_pip_installs_into_the_sandbox(client: CodeContextClient, index: str) -> None:
    """With HOST what pip installs is there at once, in child processes too, and after a restart."""
    before = installed()
    context = client.create_code_context(network_policy="HOST")
    other = client.create_code_context(network_policy="HOST")
    done = pip(client, context, f"-i {index} {NAME}")
    assert done.outcome is Outcome.SUCCEEDED, (done.error, done.stderr)
    answer, path = done.stdout.split()[-2:]
    assert answer == "42"
    assert path.startswith(f"{context.cwd}/.local/")
    assert client.run_code("!tiny-program", context=context).stdout == "program 42\n"
    child = f"import sys, subprocess; subprocess.run([sys.executable, '-c', {CODE!r}], check=True)"
    client.restart_code_context(context)
    assert client.run_code(child, context=context).stdout == f"42 {path}\n"
    assert client.run_code(CODE, context=context).stdout == f"42 {path}\n"
    assert client.run_code(CODE, context=other).error.name == "ModuleNotFoundError"  # type: ignore[union-attr]
    assert installed() == before
    for each in (context, other):
        client.delete_code_context(each)


def test_without_a_network_pip_says_so_at_once(client: CodeContextClient, tmp_path: Path) -> None:
    """Without HOST pip says plainly why it finds nothing; what it is given as files it installs."""
    if client.get_server_info().isolation.tier == "none":
        pytest.skip("every context has the machine's network here")
    before = installed()
    context = client.create_code_context()
    failed = client.run_code(f"%pip install {NAME}\n_exit_code", context=context, timeout=100)
    assert failed.text == "1"
    assert "This context has no network" in failed.stderr
    assert "HOST" in failed.stderr
    client.files.write(context, WHEEL, write_wheel(tmp_path).read_bytes())
    done = pip(client, context, f"./{WHEEL}")
    assert done.outcome is Outcome.SUCCEEDED, (done.error, done.stderr)
    assert done.stdout.split()[-2] == "42"
    assert installed() == before
    client.delete_code_context(context)
