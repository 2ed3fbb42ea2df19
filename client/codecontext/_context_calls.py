"""The calls on contexts, each described once for both clients."""

from collections.abc import Mapping

from codecontext import _wire
from codecontext._calls import Call, Pages, call, pages
from codecontext._wire import HasExecutionId, HasId, Seconds
from codecontext.executions import Interruption
from codecontext.resources import (
    CodeContext,
    ContextState,
    Forks,
    NetworkPolicy,
    ResourceLimits,
)
from codecontext.server import ServerInfo
from codecontext.v1 import code_context_pb2, resources_pb2
from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub as Stub


def create_code_context(
    language: str | None = None,
    *,
    runtime: str | None = None,
    cwd: str | None = None,
    env_vars: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    sandbox_id: str | HasId | None = None,
    idle_timeout: Seconds | None = None,
    ttl: Seconds | None = None,
    resource_limits: ResourceLimits | None = None,
    network_policy: NetworkPolicy | str | None = None,
    request_id: str | None = None,
    deadline: Seconds | None = None,
) -> Call[CodeContext]:
    """Makes a context and returns it once it is ready to run.

    Args:
        language: The language; `python` if neither this nor `runtime` is given.
        runtime: The runtime by name (`get_server_info` lists them).
        cwd: The working directory: absolute, and there; the sandbox's workspace by default.
        env_vars: Environment variables of the interpreter.
        labels: Labels to find it by.
        sandbox_id: The sandbox to live in, by itself, by its id, or by a context in it; a private
            one by default.
        idle_timeout: Delete it when nothing ran in it for this long, in seconds or as a timedelta;
            0 means never, None the server's default.
        ttl: Delete it this long after its creation, in seconds or as a timedelta; 0 means never,
            None the server's default.
        resource_limits: Its limits.
        network_policy: What a private sandbox may reach.
        request_id: Makes a retry safe: the same id gets the first call's answer. A new one by
            default, with which this client retries by itself.
        deadline: Of this call, in seconds or as a timedelta; the client's by default.

    Returns:
        The context, idle.

    Raises:
        InvalidArgumentError: a field is not acceptable; `field_violations` names it.
        RequestIdReusedError: the request id came before with other arguments.
        SandboxNotFoundError: there is no such sandbox.
        QuotaExceededError: there are too many contexts.
        RuntimeUnavailableError: no interpreter could be started; nothing was created.
        UnavailableError: the server starts, drains, or can't be reached.
    """
    request = pb.CreateCodeContextRequest(
        language=_wire.text(language or ""),
        runtime=_wire.text(runtime or ""),
        cwd=_wire.text(cwd or ""),
        env_vars=_wire.texts(env_vars),
        labels=_wire.texts(labels),
        sandbox_id=_wire.sandbox_id_of(sandbox_id or ""),
        idle_timeout=_wire.to_duration(idle_timeout),
        ttl=_wire.to_duration(ttl),
        resource_limits=resource_limits.to_proto() if resource_limits is not None else None,
        network_policy=_wire.to_enum(resources_pb2.NetworkPolicy, network_policy),
        request_id=_wire.request_id(request_id),
    )
    return call(
        Stub,
        lambda stub: stub.CreateCodeContext,
        request,
        lambda response: CodeContext.from_proto(response.context),
        deadline,
        repeatable=True,
    )


def get_code_context(context: str | HasId, *, deadline: Seconds | None = None) -> Call[CodeContext]:
    """Returns a context as it is now, with what it uses.

    Args:
        context: The context, or its id.
        deadline: Of this call, in seconds or as a timedelta; the client's by default.

    Returns:
        The context, with its `resource_usage`.

    Raises:
        ContextNotFoundError: there is none, or no more.
        UnavailableError: its host or the server can't be reached.
    """
    return call(
        Stub,
        lambda stub: stub.GetCodeContext,
        pb.GetCodeContextRequest(context_id=_wire.id_of(context)),
        lambda response: CodeContext.from_proto(response.context),
        deadline,
    )


def list_code_contexts(
    *,
    language: str | None = None,
    state: ContextState | str | None = None,
    sandbox_id: str | HasId | None = None,
    labels: Mapping[str, str] | None = None,
    page_size: int = 0,
    deadline: Seconds | None = None,
) -> Pages[CodeContext]:
    """Lists contexts in the order of their creation; all filters must hold.

    Args:
        language: Only contexts of this language.
        state: Only contexts in this state.
        sandbox_id: Only contexts in this sandbox: itself, its id, or a context in it.
        labels: Only contexts that have all these labels.
        page_size: How many to ask for at a time; 0 leaves it to the server.
        deadline: Of each page's call, in seconds or as a timedelta; the client's by default.

    Returns:
        An iterator over all pages, which asks for the next page when it is needed. Its
        `unreachable` names the hosts whose contexts are missing.

    Raises:
        InvalidArgumentError: the page size is negative (raised when iterated).
        UnavailableError: the server can't be reached (raised when iterated).
        ValueError: there is no such state.
    """
    request = pb.ListCodeContextsRequest(
        page_size=page_size,
        language=_wire.text(language or ""),
        state=_wire.to_enum(code_context_pb2.CodeContextState, state),
        sandbox_id=_wire.sandbox_id_of(sandbox_id or ""),
        labels=_wire.texts(labels),
    )
    return pages(
        Stub,
        lambda stub: stub.ListCodeContexts,
        request,
        lambda response: map(CodeContext.from_proto, response.contexts),
        deadline,
    )


def interrupt_code_context(
    context: str | HasId,
    *,
    execution_id: str | HasExecutionId | None = None,
    deadline: Seconds | None = None,
) -> Call[Interruption]:
    """Stops what runs, keeps the state, and returns once it has stopped.

    Args:
        context: The context, or its id.
        execution_id: The execution to stop, or its id, a queued one too; what runs now by default.
        deadline: Of this call, in seconds or as a timedelta; the client's by default.

    Returns:
        What was stopped; its `execution_id` is None when there was nothing to stop.

    Raises:
        ContextNotFoundError: there is no such context.
        ExecutionNotFoundError: the execution is not one of this context's.
        UnavailableError: its host or the server can't be reached.
    """
    request = pb.InterruptCodeContextRequest(
        context_id=_wire.id_of(context), execution_id=_wire.execution_id_of(execution_id or "")
    )
    return call(
        Stub, lambda stub: stub.InterruptCodeContext, request, Interruption.from_proto, deadline
    )


def restart_code_context(
    context: str | HasId, *, request_id: str | None = None, deadline: Seconds | None = None
) -> Call[CodeContext]:
    """Gives a context a fresh interpreter under the same id; its state is lost, its files stay.

    A run that goes on ends as CONTEXT_RESTARTED, queued ones as NOT_STARTED.

    Args:
        context: The context, or its id.
        request_id: Makes a retry safe: the same id restarts nothing again. A new one by default,
            with which this client retries by itself.
        deadline: Of this call, in seconds or as a timedelta; the client's by default.

    Returns:
        The context, idle.

    Raises:
        ContextNotFoundError: there is no such context.
        ContextUnreachableError: the old interpreter can't be ended now; retry.
        RuntimeUnavailableError: no new one could be started; the context is FAILED, retry.
    """
    request = pb.RestartCodeContextRequest(
        context_id=_wire.id_of(context), request_id=_wire.request_id(request_id)
    )
    return call(
        Stub,
        lambda stub: stub.RestartCodeContext,
        request,
        lambda response: CodeContext.from_proto(response.context),
        deadline,
        repeatable=True,
    )


def fork_code_context(
    context: str | HasId,
    *,
    count: int = 1,
    labels: Mapping[str, str] | None = None,
    resource_limits: ResourceLimits | None = None,
    idle_timeout: Seconds | None = None,
    ttl: Seconds | None = None,
    allow_threads: bool = False,
    request_id: str | None = None,
    deadline: Seconds | None = None,
) -> Call[Forks]:
    """Makes contexts with a copy of all the state of an idle one; they share its files.

    Args:
        context: The context to copy, or its id.
        count: How many copies, 1 to 64.
        labels: Labels of the copies; the parent's are not taken over.
        resource_limits: Limits of the copies; the parent's by default.
        idle_timeout: As in `create_code_context`; the parent's by default.
        ttl: As in `create_code_context`, from the fork on; the parent's by default.
        allow_threads: Whether to fork although threads run, which the copies will not have.
        request_id: Makes a retry safe: the same id gets the first call's answer. A new one by
            default, with which this client retries by itself.
        deadline: Of this call, in seconds or as a timedelta; the client's by default.

    Returns:
        The copies, idle: a list, whose `lost_threads` names the threads that they do not have.

    Raises:
        ContextNotFoundError: there is no such context.
        ContextExecutingError: it runs code; wait or interrupt.
        ContextFailedError: it has no interpreter to copy.
        ContextHasThreadsError: the copies would lose threads.
        ForkUnsupportedError: interpreters of this language can't be forked.
        QuotaExceededError: there are too many contexts.
        UnimplementedError: this server does not offer it.
    """
    request = pb.ForkCodeContextRequest(
        context_id=_wire.id_of(context),
        count=count,
        labels=_wire.texts(labels),
        resource_limits=resource_limits.to_proto() if resource_limits is not None else None,
        idle_timeout=_wire.to_duration(idle_timeout),
        ttl=_wire.to_duration(ttl),
        allow_threads=allow_threads,
        request_id=_wire.request_id(request_id),
    )
    return call(
        Stub,
        lambda stub: stub.ForkCodeContext,
        request,
        Forks.from_proto,
        deadline,
        repeatable=True,
    )


def delete_code_context(
    context: str | HasId,
    *,
    force: bool = False,
    request_id: str | None = None,
    deadline: Seconds | None = None,
) -> Call[None]:
    """Deletes a context; once this returns, everything that it held is gone.

    Args:
        context: The context, or its id.
        force: Whether to end running and queued executions too.
        request_id: Makes a retry safe: the same id gets the first call's answer. A new one by
            default; this client never retries a delete by itself, but `request_id` of the error
            does it.
        deadline: Of this call, in seconds or as a timedelta; the client's by default.

    Raises:
        InvalidContextIdError: the id is empty.
        ContextNotFoundError: there is no such context; a ContextDeletedError if there was one.
        ContextExecutingError: it runs code, which goes on untouched, and `force` is unset.
        ContextUnreachableError: it can't be ended now; the delete goes on by itself. Retry.
    """
    request = pb.DeleteCodeContextRequest(
        context_id=_wire.id_of(context), force=force, request_id=_wire.request_id(request_id)
    )
    return call(Stub, lambda stub: stub.DeleteCodeContext, request, lambda response: None, deadline)


def get_server_info(*, deadline: Seconds | None = None) -> Call[ServerInfo]:
    """Describes the server: version, runtimes, isolation, limits, counts.

    Args:
        deadline: Of this call, in seconds or as a timedelta; the client's by default.

    Returns:
        The server.

    Raises:
        UnavailableError: it can't be reached.
    """
    return call(
        Stub,
        lambda stub: stub.GetServerInfo,
        pb.GetServerInfoRequest(),
        ServerInfo.from_proto,
        deadline,
    )
