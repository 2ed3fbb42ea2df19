"""The exceptions of this client: one class for each reason, under one for each status code.

Catch by what you can do about it::

    try:
        client.delete_code_context(context)
    except ContextExecutingError as error:
        client.interrupt_code_context(context, execution_id=error.execution_id)
    except ContextNotFoundError:
        pass  # it is gone, which is what was wanted

What the code that is run does wrong is never an exception here: `Execution.error` and
`Execution.outcome` tell about it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

import grpc


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """A field of the request that is not acceptable."""

    field: str
    """Its path, for instance `env_vars`."""
    description: str
    """What is wrong with it, and what would be right."""


@dataclass(frozen=True, slots=True)
class QuotaViolation:
    """A limit that was reached."""

    subject: str
    """What the limit is on."""
    description: str
    """Which limit it is, and how large."""


class CodeContextError(Exception):
    """A call failed: the root of all exceptions that come from the service or from its transport.

    Args:
        message: What happened, in words for people. Programs decide by class or `reason`.
        code: The status code; the class's own by default.
        reason: The `ErrorReason` without its prefix; empty where the service was not asked or did
            not answer (a deadline, a refused connection) and for reasons that have no name.
        metadata: Which thing is meant: `context_id`, `execution_id`, ….
        field_violations: The fields to mend, for INVALID_ARGUMENT.
        quota_violations: The limits that were reached, for RESOURCE_EXHAUSTED.
        retry_delay: How long to wait before a retry, where the service says so.
    """

    default_code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN
    default_reason: ClassVar[str] = ""

    def __init_subclass__(
        cls, code: grpc.StatusCode | None = None, reason: str | None = None, **kwargs: Any
    ) -> None:
        """Declares the class for a status code, or for a reason under its parent's status code."""
        super().__init_subclass__(**kwargs)
        if code is not None:
            cls.default_code = code
            BY_CODE[code] = cls
        if reason is not None:
            cls.default_reason = reason
            BY_REASON[reason] = cls

    def __init__(
        self,
        message: str = "",
        *,
        code: grpc.StatusCode | None = None,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        field_violations: Sequence[FieldViolation] = (),
        quota_violations: Sequence[QuotaViolation] = (),
        retry_delay: timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.reason = self.default_reason if reason is None else reason
        self.metadata = dict(metadata or {})
        self.field_violations = tuple(field_violations)
        self.quota_violations = tuple(quota_violations)
        self.retry_delay = retry_delay

    @property
    def context_id(self) -> str | None:
        """The context that is meant; None if the error names none."""
        return self.metadata.get("context_id")

    @property
    def execution_id(self) -> str | None:
        """The execution that is meant, or that was being read; None if the error names none."""
        return self.metadata.get("execution_id")

    @property
    def request_id(self) -> str | None:
        """The id of the request that failed, to make it again so that nothing is done twice.

        None if it had none.
        """
        return self.metadata.get("request_id")

    def __str__(self) -> str:
        names = [self.code.name]
        if self.reason and self.reason != self.code.name:
            names.append(self.reason)
        return f"{self.message} ({', '.join(names)})" if self.message else ", ".join(names)

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is pickled by its positional arguments alone; this keeps the others.
        return type(self), (self.message,), self.__dict__


BY_CODE: dict[grpc.StatusCode, type[CodeContextError]] = {}
"""The class of each status code; an error without a known reason gets it."""

BY_REASON: dict[str, type[CodeContextError]] = {}
"""The class of each reason."""


# One for each status code. Those of grpc's own errors too: a refused connection is an
# UnavailableError, a message over the limit a ResourceExhaustedError, both without a reason.


class CallCancelledError(CodeContextError, code=grpc.StatusCode.CANCELLED):
    """The call was cancelled: the client was closed while it went on, or the server gave it up."""


class UnknownError(CodeContextError, code=grpc.StatusCode.UNKNOWN):
    """Something that is not this service answered, a proxy for instance."""


class InvalidArgumentError(
    CodeContextError, code=grpc.StatusCode.INVALID_ARGUMENT, reason="INVALID_ARGUMENT"
):
    """A field is not acceptable; `field_violations` names it. The same request never succeeds."""


class DeadlineExceededError(CodeContextError, code=grpc.StatusCode.DEADLINE_EXCEEDED):
    """The call's deadline passed. What it asked for may still be done, or have been done."""


class NotFoundError(CodeContextError, code=grpc.StatusCode.NOT_FOUND):
    """What the call names is not there."""


class AlreadyExistsError(CodeContextError, code=grpc.StatusCode.ALREADY_EXISTS):
    """What the call would make is there."""


class PermissionDeniedError(
    CodeContextError, code=grpc.StatusCode.PERMISSION_DENIED, reason="PERMISSION_DENIED"
):
    """The credentials do not allow the call."""


class ResourceExhaustedError(CodeContextError, code=grpc.StatusCode.RESOURCE_EXHAUSTED):
    """A limit is reached, or a message is larger than gRPC takes (then `reason` is empty)."""


class FailedPreconditionError(CodeContextError, code=grpc.StatusCode.FAILED_PRECONDITION):
    """What the call names is not in a state for it."""


class AbortedError(CodeContextError, code=grpc.StatusCode.ABORTED):
    """The call lost a race against another one."""


class OutOfRangeError(CodeContextError, code=grpc.StatusCode.OUT_OF_RANGE):
    """A position is outside of what is there."""


class UnimplementedError(
    CodeContextError, code=grpc.StatusCode.UNIMPLEMENTED, reason="NOT_IMPLEMENTED"
):
    """The server does not offer the call, or not for this runtime."""


class InternalError(CodeContextError, code=grpc.StatusCode.INTERNAL, reason="INTERNAL"):
    """A bug in the service; the server's log tells more under `metadata["incident"]`."""


class UnavailableError(CodeContextError, code=grpc.StatusCode.UNAVAILABLE):
    """Nothing answers there now. Retry after `retry_delay`."""


class DataLossError(CodeContextError, code=grpc.StatusCode.DATA_LOSS):
    """What arrived is not what was sent."""


class UnauthenticatedError(
    CodeContextError, code=grpc.StatusCode.UNAUTHENTICATED, reason="UNAUTHENTICATED"
):
    """Credentials are missing or wrong."""


# One for each reason that says more than its status code.


class InvalidContextIdError(InvalidArgumentError, reason="INVALID_CONTEXT_ID"):
    """The id of the context is empty."""


class RequestIdReusedError(InvalidArgumentError, reason="REQUEST_ID_REUSED"):
    """The `request_id` came before with other arguments. Use a new one."""


class ContextNotFoundError(NotFoundError, reason="CONTEXT_NOT_FOUND"):
    """There is no such context, or it belongs to someone else."""


class ContextDeletedError(ContextNotFoundError, reason="CONTEXT_DELETED"):
    """The context was deleted, or expired; `metadata` has `delete_time` and `cause`."""


class ContextLostError(ContextNotFoundError, reason="CONTEXT_LOST"):
    """The context went with an earlier life of its host, and its state with it."""


class ContextExecutingError(FailedPreconditionError, reason="CONTEXT_EXECUTING"):
    """The context runs code. Wait for `execution_id`, interrupt it, or delete with `force`."""


class ContextUnreachableError(UnavailableError, reason="CONTEXT_UNREACHABLE"):
    """The process that keeps the context does not answer. Retry; a delete goes on by itself."""


class ContextFailedError(FailedPreconditionError, reason="CONTEXT_FAILED"):
    """The context's interpreter is gone, and its state; `metadata["failure"]` says why."""


class ContextHasThreadsError(FailedPreconditionError, reason="CONTEXT_HAS_THREADS"):
    """A fork would lose threads. End them, or set `allow_threads`."""


class ForkUnsupportedError(FailedPreconditionError, reason="FORK_UNSUPPORTED"):
    """Interpreters of this language can't be forked."""


class IntrospectionFailedError(FailedPreconditionError, reason="INTROSPECTION_FAILED"):
    """A completion or inspection took too long, or the context's own methods failed in it."""


class InputNotRequestedError(FailedPreconditionError, reason="INPUT_NOT_REQUESTED"):
    """The execution does not wait for this input."""


class ExecutionNotFoundError(NotFoundError, reason="EXECUTION_NOT_FOUND"):
    """There is no such execution, or it ended so long ago that its journal was dropped."""


class SandboxNotFoundError(NotFoundError, reason="SANDBOX_NOT_FOUND"):
    """There is no such sandbox, or it belongs to someone else."""


class SandboxDestroyedError(SandboxNotFoundError, reason="SANDBOX_DESTROYED"):
    """The sandbox was destroyed, or went with its last context."""


class SandboxExecutingError(FailedPreconditionError, reason="SANDBOX_EXECUTING"):
    """A context in the sandbox runs code. Wait, interrupt it, or destroy with `force`."""


class QuotaExceededError(ResourceExhaustedError, reason="QUOTA_EXCEEDED"):
    """A limit is reached; `quota_violations` says which. Free something, or retry later."""


class ServerStartingError(UnavailableError, reason="SERVER_STARTING"):
    """The server starts. Retry."""


class ServerDrainingError(UnavailableError, reason="SERVER_DRAINING"):
    """The server drains and takes no new work. Retry on another one."""


class HostUnreachableError(UnavailableError, reason="HOST_UNREACHABLE"):
    """The host that holds the context can't be reached. Retry."""


class RuntimeUnavailableError(UnavailableError, reason="RUNTIME_UNAVAILABLE"):
    """No interpreter of this runtime can be started now. Nothing was created; retry."""


class RemoteFileNotFoundError(NotFoundError, reason="FILE_NOT_FOUND"):
    """There is no such file or directory in the workspace."""


class RemoteFileExistsError(AlreadyExistsError, reason="FILE_EXISTS"):
    """A file of that name is there, and was not to be replaced."""


class FileWrongKindError(FailedPreconditionError, reason="FILE_WRONG_KIND"):
    """The path names something of another kind: a directory, a link that leads out, a device."""


class FileChecksumMismatchError(DataLossError, reason="FILE_CHECKSUM_MISMATCH"):
    """The content that arrived is not the one that was sent. Nothing was stored; do it again."""
