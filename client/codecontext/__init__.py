"""Client of the codecontext service: runs code in live interpreters over gRPC.

::

    from codecontext import CodeContextClient

    with CodeContextClient("127.0.0.1:50051") as client:
        context = client.create_code_context("python")
        client.run_code("x = 41", context=context)
        print(client.run_code("x + 1", context=context).text)  # 42

`CodeContextClient` and `AsyncCodeContextClient` have the same methods. The generated code is under
`codecontext.v1`, for those who would rather call the service directly.
"""

from codecontext._aio import AsyncEventStream, AsyncListing
from codecontext._branches import AsyncBranch, Branch
from codecontext._sync import EventStream, Listing
from codecontext.aio_client import AsyncCodeContextClient
from codecontext.client import CodeContextClient
from codecontext.errors import (
    AbortedError,
    AlreadyExistsError,
    CallCancelledError,
    CodeContextError,
    ContextDeletedError,
    ContextExecutingError,
    ContextFailedError,
    ContextHasThreadsError,
    ContextLostError,
    ContextNotFoundError,
    ContextUnreachableError,
    DataLossError,
    DeadlineExceededError,
    ExecutionNotFoundError,
    FailedPreconditionError,
    FieldViolation,
    FileChecksumMismatchError,
    FileWrongKindError,
    ForkUnsupportedError,
    HostUnreachableError,
    InputNotRequestedError,
    InternalError,
    IntrospectionFailedError,
    InvalidArgumentError,
    InvalidContextIdError,
    NotFoundError,
    OutOfRangeError,
    PermissionDeniedError,
    QuotaExceededError,
    QuotaViolation,
    RemoteFileExistsError,
    RemoteFileNotFoundError,
    RequestIdReusedError,
    ResourceExhaustedError,
    RuntimeUnavailableError,
    SandboxDestroyedError,
    SandboxExecutingError,
    SandboxNotFoundError,
    ServerDrainingError,
    ServerStartingError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
    UnknownError,
)
from codecontext.executions import (
    Execution,
    ExecutionError,
    Gap,
    GapReason,
    Interruption,
    Outcome,
)
from codecontext.files import FileInfo, FileKind
from codecontext.resources import (
    CodeContext,
    ContextState,
    Forks,
    Isolation,
    NetworkPolicy,
    ResourceLimits,
    ResourceUsage,
    Sandbox,
)
from codecontext.results import PublishedFile, Result
from codecontext.server import (
    Completions,
    Inspection,
    RuntimeInfo,
    ServerInfo,
    ServerLimits,
)
from codecontext.v1.execution_pb2 import ExecutionEvent

__all__ = [
    "AbortedError",
    "AlreadyExistsError",
    "AsyncBranch",
    "AsyncCodeContextClient",
    "AsyncEventStream",
    "AsyncListing",
    "Branch",
    "CallCancelledError",
    "CodeContext",
    "CodeContextClient",
    "CodeContextError",
    "Completions",
    "ContextDeletedError",
    "ContextExecutingError",
    "ContextFailedError",
    "ContextHasThreadsError",
    "ContextLostError",
    "ContextNotFoundError",
    "ContextState",
    "ContextUnreachableError",
    "DataLossError",
    "DeadlineExceededError",
    "EventStream",
    "Execution",
    "ExecutionError",
    "ExecutionEvent",
    "ExecutionNotFoundError",
    "FailedPreconditionError",
    "FieldViolation",
    "FileChecksumMismatchError",
    "FileInfo",
    "FileKind",
    "FileWrongKindError",
    "ForkUnsupportedError",
    "Forks",
    "Gap",
    "GapReason",
    "HostUnreachableError",
    "InputNotRequestedError",
    "Inspection",
    "InternalError",
    "Interruption",
    "IntrospectionFailedError",
    "InvalidArgumentError",
    "InvalidContextIdError",
    "Isolation",
    "Listing",
    "NetworkPolicy",
    "NotFoundError",
    "OutOfRangeError",
    "Outcome",
    "PermissionDeniedError",
    "PublishedFile",
    "QuotaExceededError",
    "QuotaViolation",
    "RemoteFileExistsError",
    "RemoteFileNotFoundError",
    "RequestIdReusedError",
    "ResourceExhaustedError",
    "ResourceLimits",
    "ResourceUsage",
    "Result",
    "RuntimeInfo",
    "RuntimeUnavailableError",
    "Sandbox",
    "SandboxDestroyedError",
    "SandboxExecutingError",
    "SandboxNotFoundError",
    "ServerDrainingError",
    "ServerInfo",
    "ServerLimits",
    "ServerStartingError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "UnknownError",
]
