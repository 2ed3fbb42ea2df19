"""That the server's memory is bounded whatever is written, whoever reads it, and however slowly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psutil
import pytest
from support.servers import ServerProcess
from support.stubs import connected

from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1 import execution_pb2

JOURNAL_BYTES = 8 << 20
WRITES = 300
MEGABYTE = 1_000_000
CODE = f"import sys\nfor n in range({WRITES}): sys.stdout.write('x' * {MEGABYTE})\n'whole'"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that keeps few journals of runs that have ended."""
    flags = ("--journal-bytes", str(JOURNAL_BYTES), "--journals-bytes", str(2 * JOURNAL_BYTES))
    with ServerProcess(tmp_path_factory.mktemp("bounds"), "--pool-size", "1", *flags) as each:
        yield each


def test_detached_runs_and_idle_watchers_take_no_more_than_their_journals(
    server: ServerProcess,
) -> None:
    """300 MB of a run that nobody reads, though ten watchers are there, pass through at once: the server
    holds no more than its journal, a slow watcher is told how much it missed, and a late one as well."""
    process = psutil.Process(server.pid)
    with connected(server.target) as stub, contextlib.ExitStack() as stack:
        context_id = stub.CreateCodeContext(pb.CreateCodeContextRequest()).context.id
        before, peak = process.memory_info().rss, 0
        for _ in range(3):  # the journals of runs that have ended are bounded together
            stream = stub.RunCodeStream(
                pb.RunCodeStreamRequest(context_id=context_id, code=CODE, detach=True)
            )
            execution_id = next(stream).event.execution_id
            stream.cancel()
            request = pb.WatchExecutionRequest(execution_id=execution_id)
            slow = [stub.WatchExecution(request) for _ in range(10)]
            for watch in slow:
                stack.callback(watch.cancel)
                next(watch)
            while True:  # it waits for none of them
                execution = stub.GetExecution(
                    pb.GetExecutionRequest(execution_id=execution_id)
                ).execution
                peak = max(peak, process.memory_info().rss)
                if execution.outcome:
                    break
            assert execution.outcome == execution_pb2.EXECUTION_OUTCOME_SUCCEEDED
            for late in (slow[0], stub.WatchExecution(request)):
                events = [response.event for response in late]
                peak = max(peak, process.memory_info().rss)
                # Of a slow watcher, the first events have come before the run went ahead.
                seen = sum(len(event.stdout) for event in events)
                missed = sum(event.gap.bytes for event in events)
                assert events[-1].HasField("completed")
                assert missed > (WRITES * MEGABYTE) // 2
                assert WRITES * MEGABYTE - MEGABYTE <= seen + missed <= WRITES * MEGABYTE
        # Two journals of ended runs and one that goes on, and what is on its way to the watchers.
        assert peak - before < 6 * JOURNAL_BYTES + (64 << 20)
