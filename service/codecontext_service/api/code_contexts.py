"""The servicer of `CodeContextService`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.message import Message

from codecontext.v1 import code_context_pb2
from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceServicer
from codecontext_service.config import Config
from codecontext_service.contexts.context import Context
from codecontext_service.contexts.idempotency import RequestKey
from codecontext_service.contexts.manager import ContextManager, CreateRequest
from codecontext_service.domain.errors import (
    ContextUnreachable,
    ExecutionNotFound,
    FieldViolation,
    InvalidArgument,
    NotImplementedHere,
)
from codecontext_service.domain.questions import AnswerT, Completion, Inspection, Question
from codecontext_service.executions.execution import Execution, RunRequest
from codecontext_service.executions.gathering import Gathered
from codecontext_service.executions.journal import Reader
from codecontext_service.runtimes.registry import Runtimes

from . import conversion, paging
from .errors import stream, unary
from .host import HostInfo
from .limits import read_limits
from .once import once, payload_of
from .unimplemented import refuse_missing
from .validation import Checks

_MAX_GATHERED = (3 << 20) - (256 << 10)
"""Bytes of content of a gathered execution: with all else, its message has less than 3 MiB."""

_RUN = "RunCode"
"""The method that a run's `request_id` belongs to, streamed or not."""

_Call = grpc.aio.ServicerContext[Any, Any]


@refuse_missing
class CodeContextServicer(CodeContextServiceServicer):
    """Turns calls into what the manager does, and back; see the proto for what each call promises."""

    def __init__(
        self, config: Config, manager: ContextManager, runtimes: Runtimes, host: HostInfo
    ) -> None:
        """Makes a servicer.

        Args:
            config: The server's options.
            manager: Does it all.
            runtimes: What contexts can be made from.
            host: What is known of the host.
        """
        self._config = config
        self._manager = manager
        self.answers = manager.answers
        """What callers who ask again get."""
        self._runtimes = runtimes
        self._host = host

    def _message(self, context: Context) -> code_context_pb2.CodeContext:
        return conversion.code_context(context, self._host.isolation, self._host.name)

    # Contexts

    @unary
    @once
    async def CreateCodeContext(  # noqa: D102
        self, request: pb.CreateCodeContextRequest, context: _Call
    ) -> pb.CreateCodeContextResponse:
        _refuse_unoffered(request, "network_policy")
        _refuse_unoffered(request.resource_limits, *self._host.unkept_limits)
        checks = Checks()
        limits = read_limits(checks, request.resource_limits, self._config)
        limits = limits.without(self._host.unkept_limits)
        if request.cwd and (not request.cwd.startswith("/") or "\0" in request.cwd):
            checks.wrong("cwd", "is not absolute: give a path that begins with '/'")
        env = checks.env("env_vars", request.env_vars)
        labels = checks.labels(request.labels)
        idle_timeout_s = checks.seconds(request, "idle_timeout", self._config.idle_timeout_s)
        ttl_s = checks.seconds(request, "ttl", self._config.ttl_s)
        try:
            runtime = self._runtimes.resolve(request.language, request.runtime)
        except InvalidArgument as error:
            raise checks.failure(*error.violations) from None
        checks.finish()
        created = await self._manager.create(
            CreateRequest(
                runtime, request.cwd, env, labels, request.sandbox_id, idle_timeout_s, ttl_s, limits
            )
        )
        return pb.CreateCodeContextResponse(context=self._message(created))

    @unary
    async def GetCodeContext(  # noqa: D102
        self, request: pb.GetCodeContextRequest, context: _Call
    ) -> pb.GetCodeContextResponse:
        usage = await self._manager.get(request.context_id).usage()
        message = self._message(self._manager.get(request.context_id))  # it may be gone by now
        if usage is not None:
            message.resource_usage.CopyFrom(conversion.resource_usage(usage))
        return pb.GetCodeContextResponse(context=message)

    @unary
    async def ListCodeContexts(  # noqa: D102
        self, request: pb.ListCodeContextsRequest, context: _Call
    ) -> pb.ListCodeContextsResponse:
        checks = Checks()
        limit = paging.page_size(checks, request.page_size)
        after = paging.read_token(checks, request, request.page_token)
        if request.state not in code_context_pb2.CodeContextState.values():
            checks.wrong("state", "is no known state")
        checks.finish()
        contexts, following = self._manager.list(
            after=after, limit=limit, matches=self._filter(request)
        )
        return pb.ListCodeContextsResponse(
            contexts=[self._message(each) for each in contexts],
            next_page_token=paging.make_token(request, following),
        )

    def _filter(self, request: pb.ListCodeContextsRequest) -> Callable[[Context], bool]:
        runtime = self._runtimes.default_of(request.language) if request.language else None
        language = runtime.config.language if runtime else request.language
        state = code_context_pb2.CodeContextState.Name(request.state) if request.state else ""
        labels = dict(request.labels)

        def matches(context: Context) -> bool:
            return (
                (not language or context.options.runtime.config.language == language)
                and (not state or state == f"CODE_CONTEXT_STATE_{context.state.value}")
                and (not request.sandbox_id or context.sandbox.id == request.sandbox_id)
                and labels.items() <= context.options.labels.items()
            )

        return matches

    @unary
    @once
    async def RestartCodeContext(  # noqa: D102
        self, request: pb.RestartCodeContextRequest, context: _Call
    ) -> pb.RestartCodeContextResponse:
        restarted = await self._manager.restart(request.context_id)
        return pb.RestartCodeContextResponse(context=self._message(restarted))

    @unary
    async def DeleteCodeContext(  # noqa: D102
        self, request: pb.DeleteCodeContextRequest, context: _Call
    ) -> pb.DeleteCodeContextResponse:
        try:
            # A call that is made again waits for the first one, and may have less time than that.
            async with asyncio.timeout(_time_for_answer(context) if request.request_id else None):
                response = await self._delete(request, context)
        except (TimeoutError, asyncio.CancelledError) as error:
            if request.request_id:
                self._manager.owe_ok(request.context_id)
            if not isinstance(error, TimeoutError):
                raise
            raise ContextUnreachable(
                f"context {request.context_id} is not deleted yet; it goes on by itself, retry",
                context_id=request.context_id,
            ) from None
        if request.request_id:
            self._manager.claim_ok(request.context_id)
        return response

    @once
    async def _delete(
        self, request: pb.DeleteCodeContextRequest, context: _Call
    ) -> pb.DeleteCodeContextResponse:
        await self._manager.delete(
            request.context_id, force=request.force, deadline_s=_time_for_answer(context)
        )
        return pb.DeleteCodeContextResponse()

    # Executions

    def _check_size(self, checks: Checks, code: str) -> None:
        size = len(code.encode())
        if size > self._config.max_code_bytes:
            checks.wrong(
                "code", f"has {size} bytes; at most {self._config.max_code_bytes} are allowed"
            )

    def _run(
        self, request: pb.RunCodeRequest | pb.RunCodeStreamRequest, after_sequence: int = 0
    ) -> Execution:
        """Accepts a run, or finds the one that its `request_id` means."""
        key = RequestKey(_RUN, request.request_id)
        payload = payload_of(request) if request.request_id else b""
        if request.request_id and (execution_id := self.answers.repeated(key, payload)):
            return self._run_again(request.request_id, execution_id)
        if after_sequence:  # whoever has seen events of the run does not want it to begin
            raise ExecutionNotFound(
                "no run with this request id is known: it is not run to send what comes after an event",
                request_id=request.request_id,
            )
        run = self._accept(request)
        if request.request_id:
            self.answers.remember(key, payload, run.id, run.done)
        return run

    def _run_again(self, request_id: str, execution_id: str) -> Execution:
        try:
            return self._manager.executions.get(execution_id)
        except ExecutionNotFound:
            raise ExecutionNotFound(
                f"the run with the request id {request_id} has ended, and its journal was dropped; "
                "it is not run again: give a new request id to do so",
                execution_id=execution_id,
                request_id=request_id,
            ) from None

    def _accept(self, request: pb.RunCodeRequest | pb.RunCodeStreamRequest) -> Execution:
        checks = Checks()
        if not request.code:
            checks.wrong("code", "is empty: give code to run")
        self._check_size(checks, request.code)
        checks.request_id(request.request_id)
        budget = request.output_budget
        max_bytes = checks.not_negative("output_budget.max_bytes", budget.max_bytes)
        max_events = checks.not_negative("output_budget.max_events", budget.max_events)
        run = RunRequest(
            request.code,
            env=checks.env("env_vars", request.env_vars) if request.env_vars else {},
            timeout_s=checks.seconds(request, "timeout") or self._config.run_timeout_s,
            allow_input=request.allow_input,
            detach=request.detach,
            reattach_grace_s=checks.seconds(request, "reattach_grace"),
            max_bytes=min(
                max_bytes or self._config.max_output_bytes, self._config.max_output_bytes
            ),
            max_events=max_events or 1 << 62,
        )
        self._manager.get(request.context_id)
        checks.finish()
        return self._manager.run(request.context_id, run)

    @unary
    async def RunCode(self, request: pb.RunCodeRequest, context: _Call) -> pb.RunCodeResponse:  # noqa: D102
        run = self._run(request)
        run.attach()
        try:
            gathered = await _gather(run)
            with run.journal.passing_on(gathered.add):
                await asyncio.shield(run.done)  # a caller that goes must not cancel it for others
        finally:
            run.detach()
        return pb.RunCodeResponse(execution=conversion.execution(run, gathered))

    @stream
    async def RunCodeStream(  # noqa: D102
        self, request: pb.RunCodeStreamRequest, context: _Call
    ) -> AsyncIterator[pb.RunCodeStreamResponse]:
        checks = Checks()
        after = checks.not_negative("after_sequence", request.after_sequence)
        if after and not request.request_id:
            checks.wrong("after_sequence", "says where a run goes on: give its request_id too")
        checks.finish()
        run = self._run(request, after)
        reader = run.reader(min(after, run.journal.last_sequence), attached=True)
        run.attach()
        try:
            async for event in _events(run, reader):
                yield pb.RunCodeStreamResponse(event=event)
        finally:
            run.detach(reader)

    @stream
    async def WatchExecution(  # noqa: D102
        self, request: pb.WatchExecutionRequest, context: _Call
    ) -> AsyncIterator[pb.WatchExecutionResponse]:
        checks = Checks()
        after = checks.not_negative("after_sequence", request.after_sequence)
        checks.finish()
        run = self._execution(request.execution_id)
        reader = run.reader(min(after, run.journal.last_sequence), attached=False)
        try:
            async for event in _events(run, reader):
                yield pb.WatchExecutionResponse(event=event)
        finally:
            reader.close()

    @unary
    async def GetExecution(  # noqa: D102
        self, request: pb.GetExecutionRequest, context: _Call
    ) -> pb.GetExecutionResponse:
        run = self._execution(request.execution_id)
        gathered = await _gather(run)
        return pb.GetExecutionResponse(execution=conversion.execution(run, gathered))

    def _execution(self, execution_id: str) -> Execution:
        if not execution_id:
            raise InvalidArgument(
                FieldViolation("execution_id", "is empty: give the id of an execution")
            )
        return self._manager.executions.get(execution_id)

    @unary
    async def SendInput(  # noqa: D102
        self, request: pb.SendInputRequest, context: _Call
    ) -> pb.SendInputResponse:
        self._execution(request.execution_id)
        self._manager.send_input(
            request.execution_id, request.sequence, request.text, end_of_file=request.end_of_file
        )
        return pb.SendInputResponse()

    @unary
    async def InterruptCodeContext(  # noqa: D102
        self, request: pb.InterruptCodeContextRequest, context: _Call
    ) -> pb.InterruptCodeContextResponse:
        execution_id = request.execution_id
        if request.run_request_id:
            if execution_id:
                raise InvalidArgument(
                    FieldViolation(
                        "run_request_id", "goes without an execution_id: give one of them"
                    )
                )
            self._manager.get(request.context_id)
            execution_id = self.answers.answer_of(RequestKey(_RUN, request.run_request_id))
            if execution_id is None:
                return pb.InterruptCodeContextResponse(state_kept=True)
        run = await self._manager.interrupt(request.context_id, execution_id)
        if run is None or run.completed is None:
            return pb.InterruptCodeContextResponse(state_kept=True)
        return pb.InterruptCodeContextResponse(
            execution_id=run.id,
            outcome=conversion.outcome(run.completed.outcome),
            state_kept=run.completed.state_kept,
        )

    # Questions

    async def _ask(
        self,
        request: pb.CompleteCodeRequest | pb.InspectCodeRequest,
        question: Question[AnswerT],
        checks: Checks,
        context: _Call,
    ) -> AnswerT:
        self._manager.get(request.context_id)
        self._check_size(checks, request.code)
        if not 0 <= request.cursor <= len(request.code):
            checks.wrong(
                "cursor", f"is outside of the code: give 0 to {len(request.code)} characters"
            )
        checks.finish()
        return await self._manager.ask(request.context_id, question, _time_for_answer(context))

    @unary
    async def CompleteCode(  # noqa: D102
        self, request: pb.CompleteCodeRequest, context: _Call
    ) -> pb.CompleteCodeResponse:
        question = Completion(request.code, request.cursor)
        found = await self._ask(request, question, Checks(), context)
        return pb.CompleteCodeResponse(
            matches=found.matches, cursor_start=found.cursor_start, cursor_end=found.cursor_end
        )

    @unary
    async def InspectCode(  # noqa: D102
        self, request: pb.InspectCodeRequest, context: _Call
    ) -> pb.InspectCodeResponse:
        checks = Checks()
        if request.detail_level not in (0, 1):
            checks.wrong("detail_level", "is neither 0 nor 1")
        question = Inspection(request.code, request.cursor, request.detail_level == 1)
        found = await self._ask(request, question, checks, context)
        return pb.InspectCodeResponse(
            found=bool(found.parts), parts=map(conversion.mime_part, found.parts)
        )

    # The server

    @unary
    async def GetServerInfo(  # noqa: D102
        self, request: pb.GetServerInfoRequest, context: _Call
    ) -> pb.GetServerInfoResponse:
        return pb.GetServerInfoResponse(
            version=self._host.version,
            runtimes=self._host.runtimes(self._runtimes),
            isolation=self._host.isolation,
            limits=self._host.limits(self._config),
            contexts=self._manager.count,
            executing=self._manager.executions.running_count,
            start_time=conversion.timestamp(self._host.start_time),
            host=self._host.name,
        )


def _refuse_unoffered(request: Message, *fields: str) -> None:
    """Refuses what this server could only ignore: whoever sets such a field relies on it.

    Raises:
        NotImplementedHere: One of the fields is set.
    """
    for descriptor, _ in request.ListFields():
        if descriptor.name in fields:
            raise NotImplementedHere(
                f"this server does not offer {descriptor.name}: leave it out", field=descriptor.name
            )


def _time_for_answer(context: _Call) -> float | None:
    """How long an answer may take to arrive before the caller's own deadline, in seconds; None: any time."""
    remaining = context.time_remaining()
    return None if remaining is None else remaining - min(0.2, remaining / 10)  # type: ignore[redundant-expr]  # None without a deadline


async def _events(run: Execution, reader: Reader) -> AsyncIterator[Any]:
    while batch := await reader.next_batch():
        for entry in batch:
            yield conversion.execution_event(run.id, entry)


async def _gather(run: Execution) -> Gathered:
    """Gathers what the journal holds now."""
    gathered = Gathered(_MAX_GATHERED)
    reader = run.reader(attached=False)
    try:
        while reader.sequence < run.journal.last_sequence:
            for entry in await reader.next_batch():
                gathered.add(entry.event, entry.sequence)
    finally:
        reader.close()
    return gathered
