"""The calls of `CodeContextService` that run code, and tell of executions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from codecontext.v1 import code_context_service_pb2 as pb
from codecontext_service.config import Config
from codecontext_service.contexts.idempotency import FirstAnswers, RequestKey
from codecontext_service.contexts.manager import ContextManager
from codecontext_service.domain.errors import ExecutionNotFound, FieldViolation, InvalidArgument
from codecontext_service.executions.execution import Execution, RunRequest
from codecontext_service.executions.gathering import Gathered
from codecontext_service.executions.journal import Reader

from . import conversion
from .errors import stream, unary
from .once import payload_of
from .validation import Checks

_MAX_GATHERED = (3 << 20) - (256 << 10)
"""Bytes of content of a gathered execution: with all else, its message has less than 3 MiB."""

_RUN = "RunCode"
"""The method that a run's `request_id` belongs to, streamed or not."""

_EXECUTION_ID = "codecontext-execution-id"
"""The initial metadata in which a run that is queued is named at once."""

_Call = grpc.aio.ServicerContext[Any, Any]


class ExecutionCalls:
    """The part of the servicer that runs code."""

    _config: Config
    _manager: ContextManager
    answers: FirstAnswers

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
        checks.code_size(request.code, self._config.max_code_bytes)
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
        self._manager.registry.get(request.context_id)
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
            await _name_queued(run, context)
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
            self._manager.registry.get(request.context_id)
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


async def _name_queued(run: Execution, context: _Call) -> None:
    """Tells the caller of a run that waits its id; any other's comes at once, with its first event."""
    if run.start_time is None and run.completed is None:
        await context.send_initial_metadata(((_EXECUTION_ID, run.id),))


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
