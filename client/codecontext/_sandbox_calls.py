"""The calls on sandboxes, each described once for both clients."""

from collections.abc import Mapping

from codecontext import _wire
from codecontext._calls import Call, Pages, call, pages
from codecontext._wire import HasId, Seconds
from codecontext.resources import NetworkPolicy, ResourceLimits, Sandbox
from codecontext.v1 import resources_pb2
from codecontext.v1 import sandbox_service_pb2 as pb
from codecontext.v1.sandbox_service_pb2_grpc import SandboxServiceStub as Stub


def create(
    *,
    resource_limits: ResourceLimits | None = None,
    network_policy: NetworkPolicy | str | None = None,
    labels: Mapping[str, str] | None = None,
    ttl: Seconds | None = None,
    request_id: str | None = None,
    deadline: Seconds | None = None,
) -> Call[Sandbox]:
    """Makes a sandbox that lives until it is destroyed or expires.

    Args:
        resource_limits: Its limits.
        network_policy: What it may reach over the network.
        labels: Labels to find it by.
        ttl: When to destroy it, from now, in seconds or as a timedelta; never by default.
        request_id: Makes a retry safe: the same id gets the first call's answer. A new one by
            default, with which this client retries by itself.
        deadline: Of this call, in seconds or as a timedelta; the client's by default.

    Returns:
        The sandbox.

    Raises:
        InvalidArgumentError: a field is not acceptable; `field_violations` names it.
        RequestIdReusedError: the request id came before with other arguments.
        QuotaExceededError: there are too many sandboxes.
        PermissionDeniedError: the network policy is not allowed.
        UnimplementedError: this server does not offer it.
    """
    request = pb.CreateSandboxRequest(
        resource_limits=resource_limits.to_proto() if resource_limits is not None else None,
        network_policy=_wire.to_enum(resources_pb2.NetworkPolicy, network_policy),
        labels=_wire.texts(labels),
        ttl=_wire.to_duration(ttl),
        request_id=_wire.request_id(request_id),
    )
    return call(
        Stub,
        lambda stub: stub.CreateSandbox,
        request,
        lambda response: Sandbox.from_proto(response.sandbox),
        deadline,
        repeatable=True,
    )


def get(sandbox: str | HasId, *, deadline: Seconds | None = None) -> Call[Sandbox]:
    """Returns a sandbox as it is now.

    Args:
        sandbox: The sandbox, or its id.
        deadline: Of this call, in seconds or as a timedelta; the client's by default.

    Returns:
        The sandbox.

    Raises:
        SandboxNotFoundError: there is none, or no more.
        UnimplementedError: this server does not offer it.
    """
    return call(
        Stub,
        lambda stub: stub.GetSandbox,
        pb.GetSandboxRequest(sandbox_id=_wire.id_of(sandbox)),
        lambda response: Sandbox.from_proto(response.sandbox),
        deadline,
    )


def list_(
    *,
    labels: Mapping[str, str] | None = None,
    page_size: int = 0,
    deadline: Seconds | None = None,
) -> Pages[Sandbox]:
    """Lists sandboxes in the order of their creation.

    Args:
        labels: Only sandboxes that have all these labels.
        page_size: How many to ask for at a time; 0 leaves it to the server.
        deadline: Of each page's call, in seconds or as a timedelta; the client's by default.

    Returns:
        An iterator over all pages; its `unreachable` names the hosts whose sandboxes are missing.

    Raises:
        InvalidArgumentError: the page size is negative (raised when iterated).
        UnimplementedError: this server does not offer it (raised when iterated).
    """
    return pages(
        Stub,
        lambda stub: stub.ListSandboxes,
        pb.ListSandboxesRequest(page_size=page_size, labels=_wire.texts(labels)),
        lambda response: map(Sandbox.from_proto, response.sandboxes),
        deadline,
    )


def destroy(
    sandbox: str | HasId, *, force: bool = False, deadline: Seconds | None = None
) -> Call[None]:
    """Deletes all contexts of a sandbox, and its files; once this returns, all is gone.

    Args:
        sandbox: The sandbox, or its id.
        force: Whether to end running executions too.
        deadline: Of this call, in seconds or as a timedelta; the client's by default.

    Raises:
        SandboxNotFoundError: there is none, or no more.
        SandboxExecutingError: a context in it runs code, and `force` is unset.
        ContextUnreachableError: it can't be ended now and goes on by itself; retry.
        UnimplementedError: this server does not offer it.
    """
    return call(
        Stub,
        lambda stub: stub.DestroySandbox,
        pb.DestroySandboxRequest(sandbox_id=_wire.id_of(sandbox), force=force),
        lambda response: None,
        deadline,
    )
