"""The synchronous client."""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self

import grpc

from codecontext import _channel, _context_calls, _execution_calls, _wire
from codecontext._branches import Branch
from codecontext._calls import Stream
from codecontext._defaults import DEFAULT_LANGUAGE, DefaultContexts
from codecontext._gather import Callbacks, Gatherer
from codecontext._sandboxes import Sandboxes
from codecontext._sync import EventStream, Transport, bind, bind_pages, bind_stream
from codecontext._sync_files import Files
from codecontext._wire import HasExecutionId, HasId, Seconds
from codecontext.errors import CodeContextError, ExecutionNotFoundError, InputNotRequestedError
from codecontext.executions import Execution, ExecutionError
from codecontext.results import Result
from codecontext.v1.code_context_service_pb2 import RunCodeStreamRequest
from codecontext.v1.execution_pb2 import ExecutionEvent


class CodeContextClient:
    """Runs code in contexts of a codecontext service.

    Safe to use from many threads at once. A process that forks makes its clients after the fork.
    Wherever a context, a sandbox or an execution is taken, the object or its id will do. Failed
    calls raise a `CodeContextError`; what the code does wrong never does, an `Execution` tells.

    ::

        with CodeContextClient() as client:
            print(client.run_code("1 + 1").text)

    Args:
        target: The server: `host:port`, `unix:/path`, or another name that gRPC resolves.
        credentials: Of the channel (TLS); none means plain text.
        metadata: Sent with each call, for instance `{"authorization": "Bearer …"}`.
        deadline: Of each call but runs, watches and transfers, in seconds or as a timedelta: 30 s
            by default, infinity for none. Calls take a `deadline` of their own.
        reattach_grace: How long a run waits for this client when the connection is cut, and how long
            this client tries to come back, in seconds or as a timedelta; 0 means that a cut
            interrupts the run.
        options: Of the channel, beside those that this client sets.
        channel: A channel to use instead; it stays open when the client closes, and is not given
            retries of reads.
    """

    def __init__(
        self,
        target: str = _channel.DEFAULT_TARGET,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]] | None = None,
        deadline: Seconds | None = None,
        reattach_grace: Seconds = _execution_calls.DEFAULT_REATTACH_GRACE_S,
        options: _channel.ChannelOptions | None = None,
        channel: grpc.Channel | None = None,
    ) -> None:
        self._transport = Transport(
            target,
            credentials=credentials,
            metadata=metadata,
            deadline=deadline,
            options=options,
            channel=channel,
        )
        self._reattach_grace = reattach_grace
        self._defaults = DefaultContexts(self._transport)
        self.sandboxes = Sandboxes(self._transport)
        """Creates, lists and destroys sandboxes."""
        self.files = Files(self._transport)
        """Files in the workspaces of sandboxes."""

    create_code_context = bind(_context_calls.create_code_context)
    """Makes a context and returns it once it is ready to run."""
    get_code_context = bind(_context_calls.get_code_context)
    """Returns a context as it is now, with what it uses."""
    list_code_contexts = bind_pages(_context_calls.list_code_contexts)
    """Lists contexts in the order of their creation."""
    interrupt_code_context = bind(_context_calls.interrupt_code_context)
    """Stops what runs, keeps the state, and returns once it has stopped."""
    restart_code_context = bind(_context_calls.restart_code_context)
    """Gives a context a fresh interpreter under the same id."""
    fork_code_context = bind(_context_calls.fork_code_context)
    """Makes contexts with a copy of all the state of an idle one."""
    delete_code_context = bind(_context_calls.delete_code_context)
    """Deletes a context; once this returns, everything that it held is gone."""
    watch_execution = bind_stream(_execution_calls.watch_execution)
    """Iterates over the events of an execution from its journal, then over those that come."""
    send_input = bind(_execution_calls.send_input)
    """Answers an execution that waits for a line of input."""
    complete_code = bind(_execution_calls.complete_code)
    """Completes a name at a place in the code."""
    inspect_code = bind(_execution_calls.inspect_code)
    """Describes the name at a place in the code."""
    get_server_info = bind(_context_calls.get_server_info)
    """Describes the server."""

    def branch(self, context: str | HasId, **options: Any) -> Branch:
        """Forks a context for the time of a `with` block: to try something, and to drop it again.

        ::

            with client.branch(context) as trial:
                client.run_code("table = table.dropna()", context=trial)
                if good_enough(trial):
                    trial.keep()

        At the end of the block the copy is deleted, with what runs in it, unless `trial.keep()` was called.

        Args:
            context: The context to copy, or its id.
            **options: As in `fork_code_context`, but for `count`.

        Returns:
            What makes the copy where the block begins; it can be given wherever a context can.

        Raises:
            CodeContextError: as with `fork_code_context`, where the block begins; as with
                `delete_code_context`, where it ends.
        """
        return Branch(
            lambda: self.fork_code_context(context, **options)[0],
            lambda context_id: self.delete_code_context(context_id, force=True),
        )

    def run_code(
        self,
        code: str,
        *,
        context: str | HasId | None = None,
        language: str | None = None,
        env_vars: Mapping[str, str] | None = None,
        timeout: Seconds | None = None,
        request_id: str | None = None,
        allow_input: bool = False,
        detach: bool = False,
        max_output_bytes: int = 0,
        max_output_events: int = 0,
        on_stdout: Callable[[str], Any] | None = None,
        on_stderr: Callable[[str], Any] | None = None,
        on_result: Callable[[Result], Any] | None = None,
        on_error: Callable[[ExecutionError], Any] | None = None,
        on_input: Callable[[str, bool], str] | None = None,
    ) -> Execution:
        """Runs code to its end and returns the whole execution, whatever its outcome.

        Without a context it runs in a default one of this client's own, one for each language,
        made with the first such run and deleted when the client closes. When that context turns
        out to be gone, or FAILED, its state is lost: this run raises so, and the next has a new
        one.

        Callbacks are called in this thread while the code runs. One that raises interrupts the
        run, and its exception propagates; so does any other exception, KeyboardInterrupt included.

        Args:
            code: The code.
            context: The context to run in, or its id; a default one by default.
            language: Of the default context; `python` by default.
            env_vars: Environment variables for this run alone.
            timeout: How long the run may take, in seconds or as a timedelta; then it ends as
                TIMED_OUT. The server's default, no limit, by default. This call has no deadline.
            request_id: Makes a retry safe: the same id never runs the code twice. A new one by
                default, with which this client goes on by itself where the connection is cut.
            allow_input: Whether the code may ask for input (`send_input`); `on_input` sets it.
            detach: Whether the run goes on when its callers go away.
            max_output_bytes: Output past this is dropped and counted; 0 means the server's limit.
            max_output_events: As `max_output_bytes`, for the number of events.
            on_stdout: Called with text as it is written to standard output.
            on_stderr: Called with text as it is written to standard error.
            on_result: Called with each result, and with each update of one (`is_update`).
            on_error: Called with the exception that ends the run.
            on_input: Called with a prompt, and whether the answer is a password; returns a line.
                One that raises EOFError ends the input.

        Returns:
            The execution.

        Raises:
            InvalidArgumentError: the code is empty or too large, or a field is not acceptable.
            ContextNotFoundError: there is no such context; nothing was run.
            ContextFailedError: it has no interpreter; nothing was run.
            QuotaExceededError: too many runs are queued; nothing was run.
            UnavailableError: the server can't be reached, or was lost while the code ran and
                could not be reached again within `reattach_grace`: `execution_id` names the
                execution if it had begun to answer, and `request_id` the run.
            ExecutionNotFoundError: the run of this `request_id` has ended so long ago that nothing
                is known of it; it is not run again.
            ValueError: both a context and a language are given.
        """
        gatherer = Gatherer(
            Callbacks(stdout=on_stdout, stderr=on_stderr, result=on_result, error=on_error),
            self.files.fetcher(lambda: request.context_id),
        )
        request = _execution_calls.run_request(
            code,
            env_vars=env_vars,
            timeout=timeout,
            request_id=request_id,
            allow_input=allow_input or on_input is not None,
            detach=detach,
            max_output_bytes=max_output_bytes,
            max_output_events=max_output_events,
            reattach_grace=self._reattach_grace,
        )
        with self._run(request, context, language, gatherer) as events:
            for event in events:
                for callback, value in gatherer.add(event):
                    callback(value)
                if on_input is not None and event.HasField("input_requested"):
                    self._answer(event, on_input)
        return gatherer.finish(request.context_id)

    def get_execution(
        self, execution: str | HasExecutionId, *, deadline: Seconds | None = None
    ) -> Execution:
        """Returns what an execution's journal holds, gathered.

        Args:
            execution: The execution, one of its events, or its id.
            deadline: Of this call, in seconds or as a timedelta; the client's by default.

        Returns:
            The execution; its outcome is UNSPECIFIED while it goes on.

        Raises:
            ExecutionNotFoundError: there is none, or its journal was dropped.
        """
        found = self._transport.call(_execution_calls.get_execution(execution, deadline=deadline))
        return found.fetching(self.files.fetcher(lambda: found.context_id))

    def run_code_stream(
        self,
        code: str,
        *,
        context: str | HasId | None = None,
        language: str | None = None,
        env_vars: Mapping[str, str] | None = None,
        timeout: Seconds | None = None,
        request_id: str | None = None,
        allow_input: bool = False,
        detach: bool = False,
        max_output_bytes: int = 0,
        max_output_events: int = 0,
        after_sequence: int = 0,
    ) -> EventStream[ExecutionEvent]:
        """Runs code and iterates over its events while they happen.

        The run starts with the first step of the iteration. Closing the iterator before its end
        interrupts the run, unless it is detached.

        Args:
            code: The code.
            context: The context to run in, or its id; by default as in `run_code`.
            language: Of the default context; `python` by default.
            env_vars: Environment variables for this run alone.
            timeout: How long the run may take, in seconds or as a timedelta.
            request_id: Makes a retry safe: the same id attaches to the run, or replays it. A new
                one by default, as in `run_code`.
            allow_input: Whether the code may ask for input (`send_input`).
            detach: Whether the run goes on when its callers go away.
            max_output_bytes: Output past this is dropped and counted; 0 means the server's limit.
            max_output_events: As `max_output_bytes`, for the number of events.
            after_sequence: With a `request_id` that came before: only the events after this one.

        Returns:
            An iterator over the events, the last of them `completed`.

        Raises:
            CodeContextError: as with `run_code` (raised when iterated).
            ValueError: both a context and a language are given.
        """
        request = _execution_calls.run_request(
            code,
            env_vars=env_vars,
            timeout=timeout,
            request_id=request_id,
            allow_input=allow_input,
            detach=detach,
            max_output_bytes=max_output_bytes,
            max_output_events=max_output_events,
            reattach_grace=self._reattach_grace,
            after_sequence=after_sequence,
        )
        return self._run(request, context, language)

    def _run(
        self,
        request: RunCodeStreamRequest,
        context: str | HasId | None,
        language: str | None,
        gatherer: Gatherer | None = None,
    ) -> EventStream[ExecutionEvent]:
        if context is not None and language is not None:
            raise ValueError("a run takes a context or a language, not both")

        def describe() -> Stream[ExecutionEvent]:
            request.context_id = (
                self._defaults.get(language or DEFAULT_LANGUAGE)
                if context is None
                else _wire.id_of(context)
            )
            return _execution_calls.run_code_stream(request)

        def failed(error: CodeContextError) -> None:
            if gatherer is not None:
                gatherer.name(error)
            if context is None:
                self._defaults.failed(request.context_id, error)

        return EventStream(self._transport, describe, failed)

    def _answer(self, event: ExecutionEvent, on_input: Callable[[str, bool], str]) -> None:
        asked = event.input_requested
        line, ended = "", False
        try:
            line = on_input(asked.prompt, asked.password)
        except EOFError:
            ended = True
        # Either means that the run ended meanwhile, and its outcome says how.
        with contextlib.suppress(InputNotRequestedError, ExecutionNotFoundError):
            self.send_input(event, line, sequence=event.sequence, end_of_file=ended)

    def close(self) -> None:
        """Deletes this client's default contexts, and closes the channel with what runs on it."""
        if not self._transport.closed:
            self._defaults.close()
            self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
