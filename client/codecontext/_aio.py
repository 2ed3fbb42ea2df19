"""How the asynchronous client makes the calls that the modules `_*_calls` describe."""

import asyncio
import contextlib
import functools
from collections import deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
)
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar

import grpc
import grpc.aio

from codecontext import _channel, _wire
from codecontext._calls import Call, Pages, Stream, as_method, next_page
from codecontext._status import error_from
from codecontext._sync import Transport
from codecontext.errors import CallCancelledError, CodeContextError

P = ParamSpec("P")
T = TypeVar("T")


class AsyncTransport:
    """A channel, and what holds for all calls on it. Belongs to one event loop."""

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None,
        metadata: Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]] | None,
        deadline: _wire.Seconds | None,
        options: _channel.ChannelOptions | None,
    ) -> None:
        metadata = _channel.as_metadata(metadata)
        options = list(options or ())
        self._target = target
        self._credentials = credentials
        self._options = _channel.channel_options(options)
        self._channel: grpc.aio.Channel | None = None
        self._uploads: Transport | None = None
        self._synchronous = functools.partial(
            Transport,
            target,
            credentials=credentials,
            metadata=metadata,
            deadline=deadline,
            options=options,
            channel=None,
        )
        self._metadata = metadata
        self._deadline_s = _channel.as_timeout(deadline, _channel.DEFAULT_DEADLINE_S)
        self._stubs: dict[type[Any], Any] = {}
        self.closed = False

    def _open_channel(self) -> grpc.aio.Channel:
        # Not before the first call: a channel belongs to the loop that runs when it is made.
        if self._channel is None:
            self._channel = (
                grpc.aio.insecure_channel(self._target, self._options)
                if self._credentials is None
                else grpc.aio.secure_channel(self._target, self._credentials, self._options)
            )
        return self._channel

    def _method(self, call: Call[Any] | Pages[Any] | Stream[Any]) -> Any:
        if self.closed:
            raise RuntimeError("the client is closed")
        stub = self._stubs.get(call.stub)
        if stub is None:
            stub = self._stubs[call.stub] = call.stub(self._open_channel())
        return call.method(stub)

    async def _ask(self, call: Call[Any] | Pages[Any], request: Any) -> Any:
        timeout = _channel.as_timeout(call.deadline, self._deadline_s)
        return await answer_of(
            self._method(call)(request, timeout=timeout, metadata=self._metadata)
        )

    async def call(self, call: Call[T]) -> T:
        """Makes a call and returns what its answer means."""
        return call.convert(await self._ask(call, call.request))

    async def page(self, pages: Pages[T], request: Any) -> Any:
        """Asks for one page and returns the answer as it is."""
        return await self._ask(pages, request)

    def open(self, stream: Stream[T]) -> Any:
        """Starts a call that is answered by a stream."""
        timeout = _channel.as_timeout(stream.deadline, None)
        return self._method(stream)(stream.request, timeout=timeout, metadata=self._metadata)

    async def upload(self, call: Call[T], requests: Iterator[Any]) -> T:
        """Makes a call that is asked by a stream of requests, which are made in another thread.

        It goes over a synchronous channel: grpc.aio loses the status of a call that the server
        ends while a request is being written, and tells of an internal error instead.
        """
        if self.closed:
            raise RuntimeError("the client is closed")
        if self._uploads is None:
            self._uploads = self._synchronous()
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def tell(future: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop may be closed
                loop.call_soon_threadsafe(done.set)

        upload = self._uploads.start_upload(call, requests)
        upload.future.add_done_callback(tell)
        try:
            await done.wait()
            return upload.result()
        finally:
            upload.future.cancel()

    async def close(self) -> None:
        """Closes the channel."""
        self.closed = True
        if self._uploads is not None:
            self._uploads.close()
        if self._channel is not None:
            await self._channel.close()


async def answer_of(waited: Awaitable[T]) -> T:
    """Waits for an answer of gRPC, and raises this client's exceptions.

    gRPC raises asyncio's CancelledError too when the channel was closed; that is kept for a task
    that was really cancelled.
    """
    try:
        return await waited
    except grpc.RpcError as raised:
        raise error_from(raised) from raised
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise CallCancelledError("the client was closed while the call went on") from None


class HasAsyncTransport(Protocol):
    """The client, and what hangs on it."""

    _transport: AsyncTransport


class AsyncListing(AsyncIterator[T]):
    """Iterates over a list that comes page by page, and asks for a page when it is needed."""

    def __init__(self, transport: AsyncTransport, pages: Pages[T]) -> None:
        self._transport = transport
        self._pages = pages
        self._request: Any = pages.request
        self._items: deque[T] = deque()
        self.unreachable: set[str] = set()
        """Hosts that could not be asked so far: what they hold is missing here."""

    async def __anext__(self) -> T:
        while not self._items:
            if self._request is None:
                raise StopAsyncIteration
            response = await self._transport.page(self._pages, self._request)
            self._items.extend(self._pages.convert(response))
            self.unreachable.update(getattr(response, "unreachable", ()))
            self._request = next_page(self._pages.request, response)
        return self._items.popleft()


class AsyncEventStream(AsyncIterator[T], Generic[T]):
    """Iterates over what a call sends. The call starts with the first step, not before.

    Closing it before its end cancels the call: so does leaving its `async with` block.
    """

    def __init__(
        self,
        transport: AsyncTransport,
        describe: Callable[[], Awaitable[Stream[T]]],
        failed: Callable[[CodeContextError], Awaitable[None]] | None = None,
    ) -> None:
        self._transport = transport
        self._describe = describe
        self._failed = failed
        self._call: Any = None
        self._convert: Callable[[Any], T] | None = None
        self._closed = False

    async def __anext__(self) -> T:
        if self._call is None and not self._closed:
            stream = await self._describe()
            self._convert = stream.convert
            if not self._closed:
                self._call = self._transport.open(stream)
        if self._closed:
            raise StopAsyncIteration
        try:
            response = await answer_of(self._call.read())
        except CodeContextError as error:
            if self._closed:
                raise StopAsyncIteration from None
            self.cancel()
            if self._failed is not None:
                await self._failed(error)
            raise
        if response is grpc.aio.EOF:
            self.cancel()
            raise StopAsyncIteration
        assert self._convert is not None  # noqa: S101  # it comes with the call
        return self._convert(response)

    def cancel(self) -> None:
        """Ends the iteration, and cancels the call if it still goes on."""
        self._closed = True
        if self._call is not None:
            self._call.cancel()

    async def aclose(self) -> None:
        """Ends the iteration, and cancels the call if it still goes on."""
        self.cancel()

    def __del__(self) -> None:
        with contextlib.suppress(RuntimeError):  # its loop may be closed
            self.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()


def bind(
    build: Callable[P, Call[T]],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """Makes a method of a client from the description of a call."""

    async def method(self: HasAsyncTransport, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._transport.call(build(*args, **kwargs))

    return as_method(build, method)


def bind_pages(build: Callable[P, Pages[T]]) -> Callable[Concatenate[Any, P], AsyncListing[T]]:
    """Makes a method of a client from the description of a call for a list."""

    def method(self: HasAsyncTransport, /, *args: P.args, **kwargs: P.kwargs) -> AsyncListing[T]:
        return AsyncListing(self._transport, build(*args, **kwargs))

    return as_method(build, method, AsyncListing)


def bind_stream(
    build: Callable[P, Stream[T]],
) -> Callable[Concatenate[Any, P], AsyncEventStream[T]]:
    """Makes a method of a client from the description of a call that a stream answers."""

    def method(
        self: HasAsyncTransport, /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncEventStream[T]:
        stream = build(*args, **kwargs)

        async def describe() -> Stream[T]:
            return stream

        return AsyncEventStream(self._transport, describe)

    return as_method(build, method, AsyncEventStream)
