"""Random interleavings of runs, watches, cuts and stops: every reader's journal against a model."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.processes import at_rest
from support.proxy import CuttableProxy
from support.runs import until
from support.servers import ServerProcess

from codecontext import AsyncCodeContextClient, CodeContextClient, CodeContextError
from codecontext.v1 import execution_pb2
from codecontext.v1.execution_pb2 import ExecutionEvent

EXAMPLES = int(os.environ.get("CODECONTEXT_PROPERTY_EXAMPLES", "10"))
"""How many lists of operations are tried; more of them find more."""

CONTEXTS = 2
POOL = 2
LINES = 300
CODES = {
    "quick": "1",
    "write": (
        "import sys\n"
        f"for n in range({LINES // 2}):\n"
        "    sys.stdout.write(f'{n} ')\n    sys.stderr.write(f'{n} ')"
    ),
    "raise": "1 / 0",
    "wait": "import time\nprint('begun\\n', end='')\nwhile True: time.sleep(1000)",
    "crash": "import os; os._exit(1)",
}
WRITTEN = "".join(f"{n} " for n in range(LINES // 2))
ENDS = {
    "quick": {"SUCCEEDED"},
    "write": {"SUCCEEDED"},
    "raise": {"RAISED"},
    "wait": set[str](),
    "crash": {"CRASHED"},
}
"""How each code ends where nobody stops it."""

STOPS = {
    "interrupt": {"INTERRUPTED"},
    "interrupt queued": {"INTERRUPTED"},
    "leave": {"INTERRUPTED"},
    "restart": {"CONTEXT_RESTARTED", "NOT_STARTED"},
    "force": {"CONTEXT_DELETED", "NOT_STARTED"},
    "delete": set[str](),
    "run crash": {"NOT_STARTED"},
}
"""How a run may end because of what goes on beside it, in its context."""

RUNS = [f"run {code}" for code in CODES]
OPERATIONS = st.sampled_from(
    [
        *RUNS,
        "run write",
        "run twice",
        "run detached",
        "leave",
        "watch",
        "watch a part",
        "cut",
        "interrupt",
        "interrupt queued",
        "restart",
        "delete",
        "force",
    ]
)
REFUSALS = {"CONTEXT_DELETED", "CONTEXT_NOT_FOUND", "CONTEXT_FAILED"}


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server for this module alone, whose journals hold less than some runs write, and which must end
    without a task that is left."""
    flags = ("--pool-size", str(POOL), "--journal-events", "100")
    with ServerProcess(tmp_path_factory.mktemp("state"), *flags) as each:
        yield each
        assert each.stop() == 0
        assert each.wait_for_log("stopped")["tasks"] == 0


@pytest.fixture(scope="module")
def rest(own_server: ServerProcess) -> tuple[int, int]:
    """What the server has when it has nothing to do."""
    with CodeContextClient(own_server.target) as client:  # what the first context leaves open
        client.delete_code_context(client.create_code_context())
    return at_rest(own_server)


@dataclass
class Deed:
    """Something that may end runs in a context, and when it went on."""

    context: str
    operation: str
    begin: int
    end: float = float("inf")


@dataclass
class Reading:
    """What one reader has seen of a run."""

    after: int = 0
    events: list[ExecutionEvent] = field(default_factory=list)
    attached: bool = False
    """Whether the run waited for it, on a connection that nobody cut: it misses nothing."""

    def check(self) -> None:
        """Every sequence is there once, or counted by a gap, and nothing follows `completed`."""
        last = self.after
        for event in self.events:
            missed = 1
            if event.gap.reason == execution_pb2.GAP_REASON_JOURNAL_BOUND:
                assert not self.attached, "a reader that the run waits for missed events"
                missed = event.gap.events
            assert event.sequence == last + missed, (last, event)
            last = event.sequence
        ends = [event.HasField("completed") for event in self.events]
        assert not any(ends[:-1]), "an event after the last one"

    @property
    def complete(self) -> bool:
        """Whether it has seen the end."""
        return bool(self.events) and self.events[-1].HasField("completed")


@dataclass
class Run:
    """A run that was asked for."""

    context: str
    code: str
    begin: int
    end: float = float("inf")
    left: bool = False
    """Whether a caller of it went away."""
    readings: list[Reading] = field(default_factory=list)
    execution_id: str = ""
    known: asyncio.Event = field(default_factory=asyncio.Event)


class World:
    """What several clients do, what they see, and what may come of it."""

    def __init__(
        self,
        clients: list[AsyncCodeContextClient],
        cut: AsyncCodeContextClient,
        proxy: CuttableProxy,
    ) -> None:
        self._clients = itertools.cycle(clients)
        self._cut = cut
        self._proxy = proxy
        self._clock = itertools.count()
        self.contexts: list[str] = []
        self.runs: list[Run] = []
        self.deeds: list[Deed] = []

    @property
    def client(self) -> AsyncCodeContextClient:
        """The client whose turn it is."""
        return next(self._clients)

    async def operate(self, operation: str, which: int) -> None:
        """Does one operation; a refusal must be one that a context may give."""
        context = self.contexts[which % len(self.contexts)]
        try:
            if operation == "cut":
                self._proxy.cut()
            elif operation.startswith("watch"):
                await self._watch(which, part=operation.endswith("part"))
            elif operation in STOPS and operation not in ("leave", "run crash"):
                with self._doing(context, operation):
                    await self._stop(context, operation, which)
            else:
                code = operation.removeprefix("run ")
                await self._run(context, operation, code if code in CODES else "write")
        except CodeContextError as error:
            allowed = REFUSALS | ({"CONTEXT_EXECUTING"} if operation == "delete" else set())
            allowed |= {"EXECUTION_NOT_FOUND"} if "queued" in operation else set()
            if error.reason not in allowed:
                raise

    @contextlib.contextmanager
    def _doing(self, context: str, operation: str) -> Iterator[None]:
        deed = Deed(context, operation, next(self._clock))
        self.deeds.append(deed)
        try:
            yield
        finally:
            deed.end = next(self._clock)

    async def _stop(self, context: str, operation: str, which: int) -> None:
        if operation == "restart":
            await self.client.restart_code_context(context)
        elif operation == "interrupt":
            await self.client.interrupt_code_context(context)
        elif operation == "interrupt queued":
            mine = [run for run in self.runs if run.context == context and run.execution_id]
            if mine:
                run = mine[which % len(mine)]
                stopped = await self.client.interrupt_code_context(
                    context, execution_id=run.execution_id
                )
                assert stopped.execution_id in (None, run.execution_id)
        else:
            await self.client.delete_code_context(context, force=operation == "force")

    async def _run(self, context: str, operation: str, code: str) -> None:
        run = Run(context, code, next(self._clock))
        self.runs.append(run)
        request_id = str(uuid.uuid4())
        reading = [self._read_run(run, request_id, operation, self.client)]
        if operation == "run twice":
            reading.append(self._read_run(run, request_id, operation, self._cut))
        if operation == "run crash":
            with self._doing(context, operation):
                await asyncio.gather(*reading)
        else:
            await asyncio.gather(*reading)

    async def _read_run(
        self, run: Run, request_id: str, operation: str, client: AsyncCodeContextClient
    ) -> None:
        reading = Reading(attached=client is not self._cut and operation != "run twice")
        leaves = operation in ("leave", "run detached")
        run.left |= operation == "leave"
        async with contextlib.aclosing(
            client.run_code_stream(
                CODES[run.code],
                context=run.context,
                request_id=request_id,
                detach=operation == "run detached",
            )
        ) as stream:
            try:
                await self._collect(run, reading, stream, limit=3 if leaves else None)
            finally:
                reading.check()

    async def _collect(
        self,
        run: Run,
        reading: Reading,
        stream: AsyncIterator[ExecutionEvent],
        limit: int | None = None,
    ) -> None:
        async for event in stream:
            if not run.execution_id:
                run.execution_id = event.execution_id
                run.readings.append(reading)
                run.known.set()
            elif reading not in run.readings:
                run.readings.append(reading)
            assert event.execution_id == run.execution_id, "the code ran twice"
            reading.events.append(event)
            if event.HasField("completed"):
                run.end = min(run.end, next(self._clock))
            if limit is not None and len(reading.events) >= limit:
                return
        assert reading.complete, "a stream ended before its run"

    async def _watch(self, which: int, *, part: bool) -> None:
        known = [run for run in self.runs if run.execution_id]
        if not known:
            return
        run = known[which % len(known)]
        after = which * 7 if part else 0
        seen = max((each.events[-1].sequence for each in run.readings), default=0)
        reading = Reading(after=min(after, seen))
        client = self._cut if which % 2 else self.client
        async with contextlib.aclosing(
            client.watch_execution(run.execution_id, after_sequence=reading.after)
        ) as stream:
            try:
                await self._collect(run, reading, stream, limit=which + 1 if part else None)
            except AssertionError:
                assert not reading.events
                assert seen
            finally:
                reading.check()

    async def end(self) -> None:
        """Ends what goes on, which ends every run."""
        for context in self.contexts:
            with self._doing(context, "force"), contextlib.suppress(CodeContextError):
                await self.client.delete_code_context(context, force=True)

    async def check(self) -> None:
        """Looks at every run as a watcher that comes late, and at what the others have seen."""
        for run in self.runs:
            if not run.execution_id:
                continue  # it was refused
            late = Reading()
            events = self.client.watch_execution(run.execution_id)
            async with contextlib.aclosing(events):
                late.events = [event async for event in events]
            late.check()
            assert late.complete
            run.end = min(run.end, next(self._clock))
            self._check_agreement(run, late)
            self._check_outcome(run, late)
            self._check_output(run)

    def _check_agreement(self, run: Run, late: Reading) -> None:
        kept = {event.sequence: event for event in late.events if not _is_bound(event)}
        for reading in run.readings:
            for event in reading.events:
                if event.sequence in kept and not _is_bound(event):
                    assert event == kept[event.sequence], "two readers saw different events"

    def _check_outcome(self, run: Run, late: Reading) -> None:
        completed = late.events[-1].completed
        outcome = execution_pb2.ExecutionOutcome.Name(completed.outcome)
        allowed = set(ENDS[run.code]) | ({"INTERRUPTED"} if run.left else set())
        for deed in self.deeds:
            beside = deed.context == run.context and deed.begin < run.end and deed.end > run.begin
            if beside and not (deed.operation == "run crash" and run.code == "crash"):
                allowed |= STOPS[deed.operation]
        if run.code == "crash":
            allowed.add("NOT_STARTED")  # behind another one
        assert outcome.removeprefix("EXECUTION_OUTCOME_") in allowed, (run, outcome, self.deeds)
        first = [reading.events[0] for reading in run.readings if not reading.after]
        begun = any(event.HasField("started") for event in first)
        if outcome.endswith("NOT_STARTED"):
            assert not begun
        if outcome.endswith(("SUCCEEDED", "RAISED", "CRASHED")):
            assert begun

    def _check_output(self, run: Run) -> None:
        for reading in run.readings:
            if not reading.attached or not reading.complete or run.code != "write":
                continue
            succeeded = execution_pb2.EXECUTION_OUTCOME_SUCCEEDED
            if reading.events[-1].completed.outcome != succeeded:
                continue
            stdout = b"".join(event.stdout for event in reading.events).decode()
            stderr = b"".join(event.stderr for event in reading.events).decode()
            # One that was asked to stop waits for no reader, even if it comes to its end.
            dropped = sum(event.gap.bytes for event in reading.events)
            assert len(stdout) + len(stderr) + dropped == 2 * len(WRITTEN)
            if not dropped:
                assert stdout == stderr == WRITTEN


def _is_bound(event: ExecutionEvent) -> bool:
    return event.gap.reason == execution_pb2.GAP_REASON_JOURNAL_BOUND


async def play(target: str, operations: list[tuple[str, int]]) -> None:
    """Does the operations, a few at a time, within a bounded time."""
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(100):
        clients = [
            await stack.enter_async_context(AsyncCodeContextClient(target)) for _ in range(2)
        ]
        proxy = stack.enter_context(CuttableProxy(target))
        cut = await stack.enter_async_context(AsyncCodeContextClient(proxy.target))
        world = World(clients, cut, proxy)
        world.contexts = [(await clients[0].create_code_context()).id for _ in range(CONTEXTS)]
        stack.push_async_callback(world.end)  # whatever fails, nothing stays for the next one
        async with asyncio.TaskGroup() as group:
            for at in range(0, len(operations), 6):
                batch = [
                    group.create_task(world.operate(*operation))
                    for operation in operations[at : at + 6]
                ]
                # What has no end by itself goes on beside what comes next.
                await asyncio.wait(batch, timeout=0.1)
            await world.end()
        await world.check()


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(operations=st.lists(st.tuples(OPERATIONS, st.integers(0, 7)), min_size=6, max_size=30))
def test_every_reader_sees_the_same_run(
    own_server: ServerProcess, rest: tuple[int, int], operations: list[tuple[str, int]]
) -> None:
    """Whatever is run, watched, cut and stopped at once: no reader misses an event without being told
    or sees one twice, every run ends once and as it may, and nothing is left in the server."""
    asyncio.run(play(own_server.target, operations))
    seen = []

    def rests() -> bool:
        seen.append(at_rest(own_server))
        return seen[-1] == rest

    try:
        until(rests)
    except AssertionError:
        raise AssertionError(f"it has {seen}, and at first had {rest}") from None
