"""`client.sandboxes` of both clients."""

from codecontext import _aio, _sandbox_calls, _sync


class Sandboxes:
    """What contexts run inside: namespaces, limits, a workspace."""

    def __init__(self, transport: _sync.Transport) -> None:
        self._transport = transport

    create = _sync.bind(_sandbox_calls.create)
    get = _sync.bind(_sandbox_calls.get)
    list = _sync.bind_pages(_sandbox_calls.list_)
    destroy = _sync.bind(_sandbox_calls.destroy)


class AsyncSandboxes:
    """What contexts run inside: namespaces, limits, a workspace."""

    def __init__(self, transport: _aio.AsyncTransport) -> None:
        self._transport = transport

    create = _aio.bind(_sandbox_calls.create)
    get = _aio.bind(_sandbox_calls.get)
    list = _aio.bind_pages(_sandbox_calls.list_)
    destroy = _aio.bind(_sandbox_calls.destroy)
