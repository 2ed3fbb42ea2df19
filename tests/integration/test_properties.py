"""Random concurrent operations against a model of what each of them may answer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.servers import ServerProcess

from codecontext import (
    AsyncCodeContextClient,
    CodeContextError,
    ContextState,
    Outcome,
)

EXAMPLES = int(os.environ.get("CODECONTEXT_PROPERTY_EXAMPLES", "15"))

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
    with ServerProcess(tmp_path_factory.mktemp("state"), "--pool-size", "2") as each:
        yield each


class World:
    """What several clients do, and what they have seen."""

    def __init__(self, client: AsyncCodeContextClient) -> None:
        self.client = client
        self.ids: list[str] = []
        self.gone: set[str] = set()

    async def operate(self, operation: str, which: int) -> None:
        """Does one operation, and checks its answer."""
        if operation == "create" or not self.ids:
            self.ids.append((await self.client.create_code_context()).id)
            return
        context = self.ids[which % len(self.ids)]
        try:
            if operation in CODES:
                await self.run(operation, context)
            elif operation == "interrupt":
                await self.client.interrupt_code_context(context)
            elif operation == "restart":
                await self.client.restart_code_context(context)
            elif operation == "list":
                gone = set(self.gone)
                assert not gone & {each.id async for each in self.client.list_code_contexts()}
            else:
                await self.client.delete_code_context(context, force=operation == "force")
                assert context not in self.gone, "two deletes had an OK"
                self.gone.add(context)
        except CodeContextError as error:
            allowed = REFUSALS | ({"CONTEXT_EXECUTING"} if operation == "delete" else set())
            if error.reason not in allowed:
                raise

    async def run(self, operation: str, context: str) -> None:
        """Runs code, and checks its journal."""
        sequences: list[int] = []
        outcomes: list[Outcome] = []
        stream = self.client.run_code_stream(CODES[operation], context=context, timeout=0.3)
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
    async with AsyncCodeContextClient(target) as client, asyncio.timeout(60):
        world = World(client)
        for at in range(0, len(operations), 8):
            batch = operations[at : at + 8]
            await asyncio.gather(*(world.operate(*operation) for operation in batch))
        await world.clean_up()


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(operations=st.lists(st.tuples(OPERATIONS, st.integers(0, 3)), min_size=8, max_size=32))
def test_every_answer_is_allowed(
    own_server: ServerProcess, operations: list[tuple[str, int]]
) -> None:
    """Whatever is done at once, every answer is allowed, every run ends once, and nothing is left."""
    asyncio.run(play(own_server.target, operations))
    (host,) = [path for path in Path(state_folder(own_server)).iterdir() if path.is_dir()]
    assert not list((host / "sandboxes").iterdir())


def state_folder(server: ServerProcess) -> str:
    """Returns where a server keeps its state."""
    command = psutil.Process(server.pid).cmdline()
    return command[command.index("--state-dir") + 1]
