"""Calls that this server does not offer: each says so with its reason."""

from __future__ import annotations

from typing import Any, TypeVar

import grpc

from codecontext_service.domain.errors import NotImplementedHere

from .errors import abort

_Servicer = TypeVar("_Servicer")


def refuse_missing(servicer: type[_Servicer]) -> type[_Servicer]:
    """Decorates a servicer's class: calls that it does not implement are answered with NOT_IMPLEMENTED.

    Args:
        servicer: A class that derives from a generated servicer.
    """
    generated = [base for base in servicer.__mro__ if base.__module__.endswith("_pb2_grpc")]
    for base in generated:
        for name, method in vars(base).items():
            if name[0].isupper() and getattr(servicer, name) is method:
                setattr(servicer, name, _refusal(name))
    return servicer


def _refusal(name: str) -> Any:
    async def refuse(
        self: object, request: object, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        error = NotImplementedHere(f"this server does not offer {name}", method=name)
        await abort(context, error, name)

    return refuse
