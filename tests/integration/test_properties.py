"""Random concurrent operations against a model of what each of them may answer."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.processes import at_rest
from support.runs import until
from support.servers import ServerProcess

from codecontext import (
    AsyncCodeContextClient,
    CodeContextClient,
    CodeContextError,
    ContextState,
    Outcome,
)

EXAMPLES = int(os.environ.get("CODECONTEXT_PROPERTY_EXAMPLES", "15"))
"""How many lists of operations are tried; more of them find more."""

CLIENTS = 3
POOL = 2

OPERATIONS = st.sampled_from(
    [
        "create",
        "run",
        "run slow",
        "run bad",
        "crash",
        "interrupt",
        "restart",
        "delete",
        "force",
        "list",
        "get",
    ]
)
CODES = {
    "run": "1",
    "run slow": "import time\nfor _ in range(1000): time.sleep(0.01)",
    "run bad": "1 / 0",
    "crash": "import os; os._exit(1)",
}
ENDS = {
    "run": {Outcome.SUCCEEDED, Outcome.INTERRUPTED},
    "run slow": {Outcome.INTERRUPTED, Outcome.TIMED_OUT},
    "run bad": {Outcome.RAISED, Outcome.INTERRUPTED},
    "crash": {Outcome.CRASHED, Outcome.INTERRUPTED},
}
"""How each code may end where nobody ends its context."""

ENDED_FROM_OUTSIDE = {
    Outcome.CONTEXT_DELETED,
    Outcome.CONTEXT_RESTARTED,
    Outcome.NOT_STARTED,
    Outcome.CRASHED,
}
REFUSALS = {"CONTEXT_DELETED", "CONTEXT_NOT_FOUND", "CONTEXT_FAILED"}


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server for this module alone, so that what is left on it can be counted."""
    with ServerProcess(tmp_path_factory.mktemp("state"), "--pool-size", str(POOL)) as each:
        yield each
        assert each.stop() == 0
        assert each.wait_for_log("stopped")["tasks"] == 0


@pytest.fixture(scope="module")
def rest(own_server: ServerProcess) -> tuple[int, int]:
    """What the server has when it has nothing to do."""
    with CodeContextClient(own_server.target) as client:  # what the first context leaves open
        client.delete_code_context(client.create_code_context())
    return at_rest(own_server)


class World:
    """What several clients do, and what they have seen."""

    def __init__(self, clients: list[AsyncCodeContextClient]) -> None:
        self._clients = itertools.cycle(clients)
        self.ids: list[str] = []
        self.gone: set[str] = set()

    @property
    def client(self) -> AsyncCodeContextClient:
        """The client whose turn it is."""
        return next(self._clients)

    async def operate(self, operation: str, which: int) -> None:
        """Does one operation, and checks its answer."""
        if operation == "create" or not self.ids:
            self.ids.append((await self.client.create_code_context()).id)
            return
        context = self.ids[which % len(self.ids)]
        was_gone = context in self.gone
        try:
            if operation in CODES:
                await self.run(operation, context)
            elif operation == "interrupt":
                await self.client.interrupt_code_context(context)
            elif operation == "restart":
                await self.client.restart_code_context(context)
            elif operation == "get":
                assert (await self.client.get_code_context(context)).id == context
            elif operation == "list":
                gone = set(self.gone)
                assert not gone & {each.id async for each in self.client.list_code_contexts()}
            else:
                await self.client.delete_code_context(context, force=operation == "force")
                assert context not in self.gone, "two deletes had an OK"
                self.gone.add(context)
            assert not was_gone or operation == "list", "a deleted context answered"
        except CodeContextError as error:
            allowed = REFUSALS | ({"CONTEXT_EXECUTING"} if operation == "delete" else set())
            if error.reason not in allowed:
                raise

    async def run(self, operation: str, context: str) -> None:
        """Runs code, and checks its journal."""
        sequences: list[int] = []
        outcomes: list[Outcome] = []
        timeout = 0.3 if operation == "run slow" else None
        stream = self.client.run_code_stream(CODES[operation], context=context, timeout=timeout)
        async for event in stream:
            assert not outcomes, "an event after the last one"
            sequences.append(event.sequence)
            if event.HasField("completed"):
                execution = await self.client.get_execution(event.execution_id)
                assert execution.outcome is not None
                outcomes.append(execution.outcome)
        assert sequences == list(range(1, len(sequences) + 1))
        (outcome,) = outcomes
        assert outcome in ENDS[operation] | ENDED_FROM_OUTSIDE

    async def clean_up(self) -> None:
        """Deletes what is left."""
        async for context in self.client.list_code_contexts():
            assert context.id not in self.gone
            assert context.state is not ContextState.DELETING
            await self.client.delete_code_context(context, force=True)


async def play(target: str, operations: list[tuple[str, int]]) -> None:
    """Does the operations, a few at a time, within a bounded time."""
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(60):
        clients = [
            await stack.enter_async_context(AsyncCodeContextClient(target)) for _ in range(CLIENTS)
        ]
        world = World(clients)
        for at in range(0, len(operations), 8):
            batch = operations[at : at + 8]
            await asyncio.gather(*(world.operate(*operation) for operation in batch))
        await world.clean_up()
        assert [context.id async for context in clients[0].list_code_contexts()] == []


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(operations=st.lists(st.tuples(OPERATIONS, st.integers(0, 3)), min_size=8, max_size=32))
def test_every_answer_is_allowed(
    own_server: ServerProcess, rest: tuple[int, int], operations: list[tuple[str, int]]
) -> None:
    """Whatever is done at once, every answer is allowed, every run ends once, and nothing is left."""
    asyncio.run(play(own_server.target, operations))
    (host,) = [path for path in Path(state_folder(own_server)).iterdir() if path.is_dir()]
    assert not list((host / "sandboxes").iterdir())
    until(lambda: at_rest(own_server) == rest)


def state_folder(server: ServerProcess) -> str:
    """Returns where a server keeps its state."""
    command = psutil.Process(server.pid).cmdline()
    return command[command.index("--state-dir") + 1]
