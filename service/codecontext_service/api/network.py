"""Network policies of requests."""

from __future__ import annotations

from codecontext.v1 import resources_pb2
from codecontext_service.config import Config
from codecontext_service.domain.errors import NotImplementedHere, PermissionDenied
from codecontext_service.domain.network import Network

from .host import HostInfo
from .validation import Checks


def read_network(checks: Checks, policy: int, config: Config, host: HostInfo) -> Network:
    """Returns what a request asks to reach over the network.

    Args:
        checks: Takes note of a policy that is none.
        policy: The request's `network_policy`.
        config: Says what is allowed.
        host: Says what can be kept.

    Raises:
        NotImplementedHere: It asks for no network, which can't be kept here.
        PermissionDenied: It asks for the host's network, which is not allowed.
    """
    if policy not in resources_pb2.NetworkPolicy.values():
        checks.wrong("network_policy", "is no known policy: take NONE or HOST")
    if not host.keeps_network:
        if policy == resources_pb2.NETWORK_POLICY_NONE:
            raise NotImplementedHere(
                f"in the isolation {host.isolation.tier} every context has the host's network, and none "
                "can be kept from it: leave network_policy out, or use a server with cells",
                field="network_policy",
            )
        return Network.HOST
    if policy != resources_pb2.NETWORK_POLICY_HOST:
        return Network.NONE
    if not config.allow_host_network:
        raise PermissionDenied(
            "this server gives no code the host's network: its option allow_host_network is off",
            field="network_policy",
            option="allow_host_network",
        )
    return Network.HOST
