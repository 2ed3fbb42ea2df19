"""Domain objects as protobuf messages."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf import duration_pb2, json_format, struct_pb2, timestamp_pb2

from codecontext.v1 import (
    code_context_pb2,
    execution_pb2,
    resources_pb2,
    sandbox_service_pb2,
)
from codecontext_service.contexts.context import Context
from codecontext_service.domain import events
from codecontext_service.domain.limits import Limits
from codecontext_service.domain.network import Network
from codecontext_service.executions.execution import Execution
from codecontext_service.executions.gathering import Gathered
from codecontext_service.executions.journal import Entry
from codecontext_service.processes.members import Usage
from codecontext_service.sandboxes.sandbox import Sandbox

_STATES = {
    name.removeprefix("CODE_CONTEXT_STATE_"): value
    for name, value in code_context_pb2.CodeContextState.items()
}
_OUTCOMES = {
    name.removeprefix("EXECUTION_OUTCOME_"): value
    for name, value in execution_pb2.ExecutionOutcome.items()
}
_GAP_REASONS = {
    name.removeprefix("GAP_REASON_"): value for name, value in execution_pb2.GapReason.items()
}


def timestamp(seconds: float) -> timestamp_pb2.Timestamp:
    """Converts a time in seconds since 1970."""
    return timestamp_from_ns(int(seconds * 1e9))


def timestamp_from_ns(nanoseconds: int) -> timestamp_pb2.Timestamp:
    """Converts a time in nanoseconds since 1970."""
    seconds, nanos = divmod(nanoseconds, 1_000_000_000)
    return timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos)


def duration(seconds: float) -> duration_pb2.Duration:
    """Converts a time in seconds."""
    whole, nanos = divmod(int(seconds * 1e9), 1_000_000_000)
    return duration_pb2.Duration(seconds=whole, nanos=nanos)


def code_context(
    context: Context, isolation: resources_pb2.Isolation, host: str
) -> code_context_pb2.CodeContext:
    """Converts a context."""
    options = context.options
    return code_context_pb2.CodeContext(
        id=context.id,
        language=options.runtime.config.language,
        runtime=options.runtime.config.name,
        cwd=options.cwd,
        sandbox_id=context.sandbox.id,
        labels=options.labels,
        state=_STATES[context.state.value],
        create_time=timestamp(context.create_time),
        last_used_time=timestamp(context.last_used_time),
        expire_time=None if context.expire_time is None else timestamp(context.expire_time),
        execution_count=context.execution_count,
        queued_executions=len(context.queue),
        parent_context_id=context.parent_id,
        resource_limits=resource_limits(options.limits),
        isolation=isolation,
        host=host,
        failure=context.failure if context.state.value == "FAILED" else "",
        network_policy=network_policy(context.sandbox.options.network),
        executing_execution_id=context.current.id if context.current else "",
    )


def sandbox(
    each: Sandbox, contexts: Iterable[Context], isolation: resources_pb2.Isolation, host: str
) -> sandbox_service_pb2.Sandbox:
    """Converts a sandbox with the contexts that live in it."""
    return sandbox_service_pb2.Sandbox(
        id=each.id,
        labels=each.options.labels,
        create_time=timestamp(each.create_time),
        expire_time=None if each.expire_time is None else timestamp(each.expire_time),
        resource_limits=resource_limits(each.options.limits),
        network_policy=network_policy(each.options.network),
        isolation=isolation,
        context_ids=[context.id for context in contexts],
        private=each.private,
        workspace=str(each.workspace),
        host=host,
    )


def network_policy(network: Network) -> resources_pb2.NetworkPolicy.ValueType:
    """Converts a network policy."""
    return resources_pb2.NetworkPolicy.Value(f"NETWORK_POLICY_{network.value}")


def resource_limits(limits: Limits) -> resources_pb2.ResourceLimits:
    """Converts limits."""
    return resources_pb2.ResourceLimits(
        memory_bytes=limits.memory_bytes,
        cpu_time=duration(limits.cpu_time_s) if limits.cpu_time_s else None,
        cpus=limits.cpus,
        open_files=limits.open_files,
        file_size_bytes=limits.file_size_bytes,
        processes=limits.processes,
        workspace_bytes=limits.workspace_bytes,
        workspace_inodes=limits.workspace_inodes,
    )


def resource_usage(usage: Usage) -> resources_pb2.ResourceUsage:
    """Converts what a context uses."""
    return resources_pb2.ResourceUsage(
        cpu_time=duration(usage.cpu_time_s),
        memory_bytes=usage.memory_bytes,
        memory_own_bytes=usage.own_memory_bytes,
        processes=usage.processes,
    )


def _struct(value: dict[str, object]) -> struct_pb2.Struct | None:
    if not value:
        return None
    struct = struct_pb2.Struct()
    json_format.ParseDict(value, struct)  # it was checked where it came in
    return struct


def mime_part(part: events.MimePart) -> execution_pb2.MimePart:
    """Converts a representation."""
    if part.data is not None:
        return execution_pb2.MimePart(mime_type=part.mime_type, data=part.data)
    return execution_pb2.MimePart(mime_type=part.mime_type, text=part.text or "")


def _result(display: events.Display) -> execution_pb2.Result:
    result = execution_pb2.Result(
        parts=map(mime_part, display.parts), is_main_result=display.is_main_result
    )
    if display.metadata or display.display_id or display.continued:
        result.MergeFrom(
            execution_pb2.Result(
                metadata=_struct(display.metadata),
                display_id=display.display_id,
                continued=display.continued,
            )
        )
    return result


def _error(error: events.Error) -> execution_pb2.ExecutionError:
    return execution_pb2.ExecutionError(
        name=error.name, value=error.value, traceback=error.traceback, line_number=error.line_number
    )


def _gap(gap: events.Gap) -> execution_pb2.Gap:
    return execution_pb2.Gap(
        events=gap.events, bytes=gap.bytes, reason=_GAP_REASONS[gap.reason.value]
    )


def _completed(completed: events.Completed) -> execution_pb2.ExecutionCompleted:
    return execution_pb2.ExecutionCompleted(
        outcome=_OUTCOMES[completed.outcome.value],
        message=completed.message,
        state_kept=completed.state_kept,
        duration=duration(completed.duration_s),
        cpu_time=duration(completed.cpu_time_s),
        peak_memory_bytes=completed.peak_memory_bytes,
    )


def execution_event(execution_id: str, entry: Entry) -> execution_pb2.ExecutionEvent:
    """Converts an entry of a journal."""
    event = execution_pb2.ExecutionEvent(
        execution_id=execution_id,
        sequence=entry.sequence,
        time=timestamp_from_ns(entry.time_ns),
        late=entry.late,
    )
    match entry.event:
        case events.Stream(True, data):
            event.stderr = data
        case events.Stream(_, data):
            event.stdout = data
        case events.Started(count):
            event.started.execution_count = count
        case events.Completed() as completed:
            event.completed.CopyFrom(_completed(completed))
        case events.Display(update=True) as display:
            event.display_update.CopyFrom(_result(display))
        case events.Display() as display:
            event.result.CopyFrom(_result(display))
        case events.Error() as error:
            event.error.CopyFrom(_error(error))
        case events.Gap() as gap:
            event.gap.CopyFrom(_gap(gap))
        case events.Clear(wait):
            event.clear_output.wait = wait
            event.clear_output.SetInParent()
        case events.InputRequested() as request:
            event.input_requested.CopyFrom(
                execution_pb2.InputRequested(prompt=request.prompt, password=request.password)
            )
    return event


def execution(run: Execution, gathered: Gathered) -> execution_pb2.Execution:
    """Converts an execution with what was gathered of it."""
    message = execution_pb2.Execution(
        execution_id=run.id,
        context_id=run.context_id,
        execution_count=run.execution_count,
        stdout=b"".join(gathered.stdout),
        stderr=b"".join(gathered.stderr),
        results=[_result(display) for display in gathered.results],
        error=None if gathered.error is None else _error(gathered.error),
        gaps=[_gap(gap) for gap in gathered.gaps],
        create_time=timestamp(run.create_time),
        start_time=None if run.start_time is None else timestamp(run.start_time),
        end_time=None if run.end_time is None else timestamp(run.end_time),
        last_sequence=gathered.last_sequence,
    )
    if (completed := run.completed) is not None:
        message.outcome = _OUTCOMES[completed.outcome.value]
        message.outcome_message = completed.message
        message.state_kept = completed.state_kept
        message.duration.CopyFrom(duration(completed.duration_s))
        message.cpu_time.CopyFrom(duration(completed.cpu_time_s))
        message.peak_memory_bytes = completed.peak_memory_bytes
    return message


def outcome(value: events.Outcome) -> execution_pb2.ExecutionOutcome.ValueType:
    """Converts an outcome."""
    return _OUTCOMES[value.value]
