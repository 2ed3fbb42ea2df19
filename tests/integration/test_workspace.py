"""What becomes of a context's files when its interpreter ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.servers import MODES, ServerProcess

from codecontext import CodeContextClient, Outcome, ResourceLimits

LOSSES = [
    pytest.param("1", Outcome.SUCCEEDED, id="nothing"),
    pytest.param("import os; os._exit(3)", Outcome.CRASHED, id="exit"),
    pytest.param(
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
        Outcome.TIMED_OUT,
        id="deaf",
    ),
    pytest.param(
        "import os, time\nos.closerange(3, 1000); time.sleep(1000)", Outcome.CRASHED, id="channel"
    ),
    pytest.param(
        "kept = []\nwhile True: kept.append(bytearray(b'x') * (1 << 20))",
        Outcome.OUT_OF_MEMORY,
        id="memory",
    ),
]


@pytest.fixture(scope="module", params=MODES)
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CodeContextClient]:
    """A client of a server of its own that is not patient with code that ignores interrupts."""
    flags = ("--interrupt-grace-s", "0.3", *request.param)
    with (
        ServerProcess(tmp_path_factory.mktemp("workspace") / "state", *flags) as server,
        CodeContextClient(server.target) as each,
    ):
        yield each


@pytest.mark.parametrize(("code", "outcome"), LOSSES)
def test_a_restart_keeps_the_files(client: CodeContextClient, code: str, outcome: Outcome) -> None:
    """However an interpreter has ended, the next one under the same id finds the files as they were."""
    limits = ResourceLimits(memory_bytes=300 << 20)
    context = client.create_code_context(resource_limits=limits)
    client.run_code("_ = open('kept', 'w').write('here')", context=context)
    timeout_s = 0.5 if outcome is Outcome.TIMED_OUT else 60
    assert client.run_code(code, context=context, timeout=timeout_s).outcome is outcome
    client.restart_code_context(context)
    assert client.run_code("open('kept').read()", context=context).text == "'here'"
    client.delete_code_context(context)
