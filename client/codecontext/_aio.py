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
from codecontext._content import FileStub
from codecontext._retries import Attempts, Progress, leaves_run_behind
from codecontext._status import error_from
from codecontext._sync import FAREWELLS_S, Transport
from codecontext.errors import CallCancelledError, CodeContextError, UnavailableError

P = ParamSpec("P")
T = TypeVar("T")


class AsyncTransport:
    """The channels, one of them for files, and what holds for all calls. Belongs to one event loop."""

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
        self._options = options
        self._channels: dict[bool, grpc.aio.Channel] = {}
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
        self._farewells: dict[object, Call[Any]] = {}
        self._sent_farewells: set[asyncio.Task[Any]] = set()
        self.closed = False

    def _channel_of(self, stub: type[Any]) -> grpc.aio.Channel:
        # Not before the first call: a channel belongs to the loop that runs when it is made.
        for_files = stub is FileStub
        if for_files not in self._channels:
            options = _channel.channel_options(self._options, for_files=for_files)
            self._channels[for_files] = (
                grpc.aio.insecure_channel(self._target, options)
                if self._credentials is None
                else grpc.aio.secure_channel(self._target, self._credentials, options)
            )
        return self._channels[for_files]

    def _method(self, call: Call[Any] | Pages[Any] | Stream[Any]) -> Any:
        if self.closed:
            raise RuntimeError("the client is closed")
        stub = self._stubs.get(call.stub)
        if stub is None:
            stub = self._stubs[call.stub] = call.stub(self._channel_of(call.stub))
        return call.method(stub)

    def _timeout_s(self, call: Call[Any] | Pages[Any]) -> float | None:
        return _channel.as_timeout(call.deadline, self._deadline_s)

    async def _ask(self, call: Call[Any] | Pages[Any], request: Any, timeout: float | None) -> Any:
        made = self._method(call)(request, timeout=timeout, metadata=self._metadata)
        return await answer_of(made, request)

    async def call(self, call: Call[T]) -> T:
        """Makes a call and returns what its answer means."""
        attempts = Attempts(self._timeout_s(call))
        while True:
            try:
                return call.convert(await self._ask(call, call.request, attempts.timeout_s))
            except UnavailableError as error:
                delay_s = attempts.delay_s(error) if call.repeatable else None
                if delay_s is None:
                    raise
            await asyncio.sleep(delay_s)

    async def page(self, pages: Pages[T], request: Any) -> Any:
        """Asks for one page and returns the answer as it is."""
        return await self._ask(pages, request, self._timeout_s(pages))

    def open(self, stream: Stream[T]) -> Any:
        """Starts a call that is answered by a stream."""
        timeout = _channel.as_timeout(stream.deadline, None)
        return self._method(stream)(stream.request, timeout=timeout, metadata=self._metadata)

    def owe_farewell(self, owner: object, farewell: Call[Any]) -> None:
        """Takes note of what to call when a stream is left before its end."""
        self._farewells[owner] = farewell

    def forget_farewell(self, owner: object) -> None:
        """Takes note that a stream has come to its end."""
        self._farewells.pop(owner, None)

    def bid_farewell(self, owner: object) -> None:
        """Says that a stream was left, and does not wait for the answer."""
        farewell = self._farewells.pop(owner, None)
        if farewell is None or self.closed:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # it ended, and its connections with it: the server will notice
            return
        sent = loop.create_task(self._send(farewell))
        self._sent_farewells.add(sent)
        sent.add_done_callback(self._sent_farewells.discard)

    async def _send(self, farewell: Call[Any]) -> None:
        with contextlib.suppress(CodeContextError, RuntimeError):  # the client may be closed
            await self.call(farewell)

    async def _deliver_farewells(self) -> None:
        """Leaves all streams, and gives the word of that a short time to arrive."""
        for owner in list(self._farewells):
            self.bid_farewell(owner)
        if self._sent_farewells:
            await asyncio.wait(self._sent_farewells, timeout=FAREWELLS_S)

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
        """Closes the channel; its runs are interrupted."""
        await self._deliver_farewells()
        self.closed = True
        if self._uploads is not None:
            self._uploads.close()
        for channel in self._channels.values():
            await channel.close()


async def answer_of(waited: Awaitable[T], request: Any = None) -> T:
    """Waits for an answer of gRPC, and raises this client's exceptions.

    gRPC raises asyncio's CancelledError too when the channel was closed; that is kept for a task
    that was really cancelled.
    """
    try:
        return await waited
    except grpc.RpcError as raised:
        raise error_from(raised, request) from raised
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

    Closing it before its end cancels the call: so does leaving its `async with` block. A stream of
    events whose connection is cut goes on by itself after the last event that came.
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
        self._stream: Stream[T] | None = None
        self._progress: Progress | None = None
        self._call: Any = None
        self._owner = object()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()

    async def __anext__(self) -> T:
        while True:
            call, stream, progress = await self._opened()
            try:
                response = await answer_of(call.read(), stream.request)
            except CodeContextError as error:
                if self._ended.is_set():
                    raise StopAsyncIteration from None
                await self._go_on_after(error, progress)
                continue
            except asyncio.CancelledError:
                self.cancel()  # gRPC has cancelled the call
                raise
            if response is grpc.aio.EOF:
                self._end()
                raise StopAsyncIteration
            event = stream.convert(response)
            if progress.take(event):
                if progress.complete:
                    self._transport.forget_farewell(self._owner)
                return event

    async def _opened(self) -> tuple[Any, Stream[T], Progress]:
        """Returns the call that goes on, which it starts if there is none."""
        if (self._stream is None or self._progress is None) and not self._ended.is_set():
            self._stream = await self._describe()
            self._progress = Progress(self._stream.request, self._stream.resumes_s)
        if self._ended.is_set() or self._stream is None or self._progress is None:
            raise StopAsyncIteration
        if self._call is None:
            self._loop = asyncio.get_running_loop()
            if self._stream.farewell is not None:
                self._transport.owe_farewell(self._owner, self._stream.farewell)
            self._call = self._transport.open(self._stream)
        return self._call, self._stream, self._progress

    async def _go_on_after(self, error: CodeContextError, progress: Progress) -> None:
        """Waits until the next call may be made, or ends the iteration."""
        delay_s = None if progress.complete else progress.delay_s(error)
        if delay_s is None:
            if not progress.complete and leaves_run_behind(error):
                self._transport.bid_farewell(self._owner)
            self._end()
            if progress.complete:
                raise StopAsyncIteration from None
            if self._failed is not None:
                await self._failed(error)
            raise error
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), delay_s)
        self._call = None

    def _end(self) -> None:
        """Takes note that nothing more comes."""
        self._ended.set()
        self._transport.forget_farewell(self._owner)
        if self._call is not None:
            self._call.cancel()

    def cancel(self) -> None:
        """Ends the iteration, and interrupts the run if it still goes on."""
        self._ended.set()
        self._transport.bid_farewell(self._owner)
        if self._call is not None:
            self._call.cancel()

    async def aclose(self) -> None:
        """Ends the iteration, and interrupts the run if it still goes on."""
        self.cancel()

    def __del__(self) -> None:
        if self._loop is None or self._loop.is_closed():
            return
        with contextlib.suppress(RuntimeError):  # its loop may be closed
            # Not here: this may be any thread.
            self._loop.call_soon_threadsafe(_leave, self._transport, self._owner, self._call)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()


def _leave(transport: AsyncTransport, owner: object, call: Any) -> None:
    """Leaves a stream that nobody holds any more."""
    transport.bid_farewell(owner)
    if call is not None:
        call.cancel()


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
