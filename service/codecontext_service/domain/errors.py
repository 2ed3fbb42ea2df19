"""What can go wrong with a call. The servicers' edge turns each into a gRPC status.

The names of the reasons are those of `ErrorReason` in the proto.
"""

from __future__ import annotations

from dataclasses import dataclass


class ServiceError(Exception):
    """A call failed for a reason that its caller is told."""

    reason = "INTERNAL"
    retry_after_s: float | None = None
    """After which time a retry makes sense; None where it does not."""

    def __init__(self, message: str, **metadata: str) -> None:
        """Makes an error.

        Args:
            message: What happened and what to do, for people.
            **metadata: What the error is about, for programs.
        """
        super().__init__(message)
        self.message = message
        self.metadata = metadata


@dataclass(frozen=True)
class FieldViolation:
    """What is wrong with a field of a request."""

    field: str
    description: str


class InvalidArgument(ServiceError):
    """Fields of the request are not acceptable."""

    reason = "INVALID_ARGUMENT"

    def __init__(self, *violations: FieldViolation) -> None:
        """Makes an error of one or more violations."""
        text = "; ".join(f"{violation.field}: {violation.description}" for violation in violations)
        super().__init__(text, field=violations[0].field)
        self.violations = violations


class InvalidContextId(InvalidArgument):
    """The request names no context."""

    reason = "INVALID_CONTEXT_ID"

    def __init__(self) -> None:
        """Makes the error."""
        super().__init__(FieldViolation("context_id", "is empty: give the id of a context"))


class RequestIdReused(InvalidArgument):
    """The request's id came before with other arguments."""

    reason = "REQUEST_ID_REUSED"

    def __init__(self, request_id: str) -> None:
        """Makes the error."""
        super().__init__(
            FieldViolation("request_id", "came before with other arguments: use a new one")
        )
        self.metadata = {"request_id": request_id}


class NotFound(ServiceError):
    """There is no such thing."""

    reason = "CONTEXT_NOT_FOUND"


class ContextDeleted(NotFound):
    """The context was deleted."""

    reason = "CONTEXT_DELETED"


class ContextLost(NotFound):
    """The context went with an earlier life of this host."""

    reason = "CONTEXT_LOST"


class ExecutionNotFound(NotFound):
    """There is no such execution any more, or never was."""

    reason = "EXECUTION_NOT_FOUND"


class SandboxNotFound(NotFound):
    """There is no such sandbox."""

    reason = "SANDBOX_NOT_FOUND"


class SandboxDestroyed(SandboxNotFound):
    """The sandbox was destroyed, or went with its last context."""

    reason = "SANDBOX_DESTROYED"


class FileNotFound(NotFound):
    """There is no such file in the workspace."""

    reason = "FILE_NOT_FOUND"


class FileExists(ServiceError):
    """A file of that name is there, and is not to be replaced."""

    reason = "FILE_EXISTS"


class FileChecksumMismatch(ServiceError):
    """What arrived is not what was announced."""

    reason = "FILE_CHECKSUM_MISMATCH"


class FailedPrecondition(ServiceError):
    """The thing is not in the state that the call wants."""


class ContextExecuting(FailedPrecondition):
    """Code runs in the context, or is queued."""

    reason = "CONTEXT_EXECUTING"


class SandboxExecuting(FailedPrecondition):
    """Code runs in a context of the sandbox, or is queued."""

    reason = "SANDBOX_EXECUTING"


class FileWrongKind(FailedPrecondition):
    """The path names something of another kind than the call wants."""

    reason = "FILE_WRONG_KIND"


class ContextFailed(FailedPrecondition):
    """The context's interpreter is gone."""

    reason = "CONTEXT_FAILED"


class ContextHasThreads(FailedPrecondition):
    """A fork of the context would lose threads."""

    reason = "CONTEXT_HAS_THREADS"


class ForkUnsupported(FailedPrecondition):
    """Interpreters of the context's language can't be forked."""

    reason = "FORK_UNSUPPORTED"


class Unanswered(FailedPrecondition):
    """A question about the context's names has no answer."""

    reason = "INTROSPECTION_FAILED"


class InputNotRequested(FailedPrecondition):
    """The execution does not wait for this input."""

    reason = "INPUT_NOT_REQUESTED"


class QuotaExceeded(ServiceError):
    """A limit is reached."""

    reason = "QUOTA_EXCEEDED"

    def __init__(self, message: str, *, quota: str, limit: int, subject: str) -> None:
        """Makes an error.

        Args:
            message: What happened and what to do.
            quota: The name of the limit, as its option is called.
            limit: Its value.
            subject: What it is a limit of.
        """
        super().__init__(message, quota=quota, limit=str(limit))
        self.subject = subject


class Unavailable(ServiceError):
    """The call can't be answered now; a retry makes sense."""

    retry_after_s = 1.0


class ContextUnreachable(Unavailable):
    """The keeper of the context's interpreter does not answer."""

    reason = "CONTEXT_UNREACHABLE"


class RuntimeUnavailable(Unavailable):
    """No interpreter of the runtime can be started now."""

    reason = "RUNTIME_UNAVAILABLE"


class ServerStarting(Unavailable):
    """The server is not ready yet."""

    reason = "SERVER_STARTING"


class ServerDraining(Unavailable):
    """The server takes no new work."""

    reason = "SERVER_DRAINING"


class PermissionDenied(ServiceError):
    """The caller may not have what the call asks for."""

    reason = "PERMISSION_DENIED"


class NotImplementedHere(ServiceError):
    """This server does not offer the call."""

    reason = "NOT_IMPLEMENTED"
