"""Kernels that wait in a pool: started ahead, and started anew for what they were not started with."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from support.kernels import NEEDS_KERNELS, write_kernelspecs
from support.languages import PYTHON
from support.runs import until
from support.servers import ServerProcess

from codecontext import (
    CodeContext,
    CodeContextClient,
    CodeContextError,
    InvalidArgumentError,
    ResourceLimits,
)

pytestmark = NEEDS_KERNELS

CONFIG = """\
jupyter_kernels = false
[runtimes.kernel]
kernelspec = "python3"
pool_size = 1
[runtimes.deno]
kernelspec = "deno"
pool_size = 1
[runtimes.broken]
kernelspec = "broken"
pool_size = 1
"""

AGE = "import os; int(open('/proc/self/stat').read().rpartition(')')[2].split()[19]) / os.sysconf('SC_CLK_TCK')"
"""When the kernel was started, in seconds since the machine was."""

KERNELS = """\
import glob, os
sum('ipykernel' in open(path, errors='replace').read() for path in glob.glob('/proc/[0-9]*/cmdline'))"""

LEFT = "import glob; glob.glob('/tmp/jupyter-*')"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CodeContextClient]:
    """A client of a server that has a pool of each kernel."""
    folder = tmp_path_factory.mktemp("pools")
    config = folder / "config.toml"
    config.write_text(CONFIG)
    flags = ("--config", str(config), "--jupyter-paths", str(write_kernelspecs(folder)))
    with (
        ServerProcess(folder / "state", *flags) as server,
        CodeContextClient(server.target) as each,
    ):
        yield each
        assert server.stop() == 0


def wait_for_pool(client: CodeContextClient, runtime: str) -> None:
    """Waits until the runtime has a kernel ready."""

    def ready() -> bool:
        runtimes = {each.name: each for each in client.get_server_info().runtimes}
        return runtimes[runtime].pool_ready == 1

    until(ready)


def begin(client: CodeContextClient, context: CodeContext) -> float:
    """Returns when the context's kernel was started, as `time.CLOCK_BOOTTIME` has it."""
    return float(client.run_code(AGE, context=context).text)


def contained(client: CodeContextClient) -> bool:
    """Whether contexts live in cells: only then is a kernel started before its workspace is known."""
    return client.get_server_info().isolation.tier == "cell"


@pytest.mark.parametrize("runtime", ["kernel", "deno"])
def test_a_context_finds_its_kernel_ready(client: CodeContextClient, runtime: str) -> None:
    """A context that asks for nothing of its own takes a kernel that is there, and the pool is filled again."""
    for _ in range(2):
        wait_for_pool(client, runtime)
        before = time.clock_gettime(time.CLOCK_BOOTTIME)
        context = client.create_code_context(runtime=runtime)
        if runtime == "kernel" and contained(client):
            assert begin(client, context) <= before
        say = PYTHON.say("on") if runtime == "kernel" else "console.log('on')"
        assert client.run_code(say, context=context).stdout == "on\n"
        client.delete_code_context(context)


def test_other_variables_a_directory_and_limits(client: CodeContextClient) -> None:
    """A context that asks for more has a kernel with just that, and nothing is left of the one before it."""
    wait_for_pool(client, "kernel")
    context = client.create_code_context(
        runtime="kernel",
        cwd="/usr",
        env_vars={"COLOUR": "it's green"},
        resource_limits=ResourceLimits(open_files=100, file_size_bytes=4096),
    )
    code = (
        "import os, resource\n"
        "(os.getcwd(), os.environ['COLOUR'], resource.getrlimit(resource.RLIMIT_NOFILE)[1], "
        "resource.getrlimit(resource.RLIMIT_FSIZE)[1])"
    )
    said = client.run_code(code, context=context).text
    assert said == "('/usr', \"it's green\", 100, 4096)"
    assert client.run_code(KERNELS, context=context).text == "1"
    assert client.run_code(LEFT, context=context).text == "[]"
    assert (
        client.run_code("input('? ')", context=context, on_input=lambda *_: "yes").text == "'yes'"
    )
    assert client.run_code(PYTHON.endless, context=context, timeout=0.2).outcome == "TIMED_OUT"
    assert client.run_code("COLOUR = 1; COLOUR", context=context).text == "1"
    client.delete_code_context(context)


def test_other_variables_of_another_kernel(client: CodeContextClient) -> None:
    """A kernel that is spoken to by ports is started anew too, and its first runs find it."""
    wait_for_pool(client, "deno")
    context = client.create_code_context(runtime="deno", cwd="/usr", env_vars={"COLOUR": "green"})
    said = client.run_code("Deno.cwd() + Deno.env.get('COLOUR')", context=context)
    assert said.text == '"/usrgreen"'
    client.delete_code_context(context)


def test_wider_limits(client: CodeContextClient) -> None:
    """A context that may have more than those in the pool gets it."""
    wait_for_pool(client, "kernel")
    context = client.create_code_context(
        runtime="kernel", resource_limits=ResourceLimits(open_files=2000)
    )
    code = "import resource; resource.getrlimit(resource.RLIMIT_NOFILE)[1]"
    assert client.run_code(code, context=context).text == "2000"
    client.delete_code_context(context)


def test_a_missing_directory(client: CodeContextClient) -> None:
    """A directory that is not there is refused, and costs the pool one kernel at most."""
    wait_for_pool(client, "kernel")
    with pytest.raises(InvalidArgumentError, match="cwd"):
        client.create_code_context(runtime="kernel", cwd="/no such directory")
    context = client.create_code_context(runtime="kernel")
    assert client.run_code("6 * 7", context=context).text == "42"
    client.delete_code_context(context)


def test_a_restart(client: CodeContextClient) -> None:
    """A restart gives a fresh kernel with the same variables, though none of the pool can move in."""
    context = client.create_code_context(runtime="kernel", env_vars={"COLOUR": "green"})
    client.run_code("kept = 1; open('kept.txt', 'w').close()", context=context)
    client.restart_code_context(context)
    code = "import os; ('kept' in globals(), os.path.exists('kept.txt'), os.environ['COLOUR'])"
    assert client.run_code(code, context=context).text == "(False, True, 'green')"
    client.delete_code_context(context)


def test_a_pool_that_cannot_be_filled(client: CodeContextClient) -> None:
    """A kernel that never starts fails its creates with its own words, and the server goes on."""
    with pytest.raises(CodeContextError, match=r"exited with 7 .* no such luck"):
        client.create_code_context(runtime="broken")
    context = client.create_code_context()
    assert client.run_code("6 * 7", context=context).text == "42"
    client.delete_code_context(context)
