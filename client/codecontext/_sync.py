"""How the synchronous client makes the calls that the modules `_*_calls` describe."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar

import grpc

from codecontext import _channel, _wire
from codecontext._calls import Call, Pages, Stream, as_method, next_page
from codecontext._status import error_from
from codecontext.errors import CodeContextError

P = ParamSpec("P")
T = TypeVar("T")


class Transport:
    """A channel, and what holds for all calls on it. Safe to use from many threads."""

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None,
        metadata: Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]] | None,
        deadline: _wire.Seconds | None,
        options: _channel.ChannelOptions | None,
        channel: grpc.Channel | None,
    ) -> None:
        self._own = channel is None
        if channel is None:
            chosen = _channel.channel_options(options)
            channel = (
                grpc.insecure_channel(target, chosen)
                if credentials is None
                else grpc.secure_channel(target, credentials, chosen)
            )
        self._channel = channel
        self._metadata = _channel.as_metadata(metadata)
        self._deadline_s = _channel.as_timeout(deadline, _channel.DEFAULT_DEADLINE_S)
        self._stubs: dict[type[Any], Any] = {}
        self.closed = False

    def _start(self, call: Call[Any] | Pages[Any], request: Any) -> Any:
        timeout = _channel.as_timeout(call.deadline, self._deadline_s)
        try:
            return self.method(call)(request, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as raised:
            raise error_from(raised) from raised

    def method(self, call: Call[Any] | Pages[Any] | Stream[Any]) -> Any:
        """Returns the method of the stub that a call means."""
        if self.closed:
            raise RuntimeError("the client is closed")
        stub = self._stubs.get(call.stub)
        if stub is None:  # two threads may both make one; either does
            stub = self._stubs[call.stub] = call.stub(self._channel)
        return call.method(stub)

    def call(self, call: Call[T]) -> T:
        """Makes a call and returns what its answer means."""
        return call.convert(self._start(call, call.request))

    def page(self, pages: Pages[T], request: Any) -> Any:
        """Asks for one page and returns the answer as it is."""
        return self._start(pages, request)

    def open(self, stream: Stream[T]) -> Any:
        """Starts a call that is answered by a stream."""
        timeout = _channel.as_timeout(stream.deadline, None)
        return self.method(stream)(stream.request, timeout=timeout, metadata=self._metadata)

    def start_upload(self, call: Call[T], requests: Iterator[Any]) -> "Upload[T]":
        """Starts a call that is asked by a stream of requests, which are made in another thread."""
        timeout = _channel.as_timeout(call.deadline, self._deadline_s)
        guarded = _Guarded(requests)
        future = self.method(call).future(guarded, timeout=timeout, metadata=self._metadata)
        return Upload(future, guarded, call.convert)

    def upload(self, call: Call[T], requests: Iterator[Any]) -> T:
        """Makes a call that is asked by a stream of requests, and waits for its answer."""
        upload = self.start_upload(call, requests)
        try:
            return upload.result()
        finally:
            upload.future.cancel()

    def close(self) -> None:
        """Closes the channel, unless it is the caller's own."""
        self.closed = True
        if self._own:
            self._channel.close()


class _Guarded(Iterator[Any]):
    """Requests whose exception is kept: gRPC takes them in a thread of its own, and would log it."""

    def __init__(self, requests: Iterator[Any]) -> None:
        self._requests = requests
        self._call: Any = None
        self._bound = threading.Event()
        self.failure: Exception | None = None

    def bind(self, call: Any) -> None:
        """Names the call that the requests are for."""
        self._call = call
        self._bound.set()

    def __next__(self) -> Any:
        try:
            return next(self._requests)
        except StopIteration:
            raise
        except Exception as failure:
            self.failure = failure
            # The end of the requests would be taken for the end of the file.
            self._bound.wait()
            self._call.cancel()
            raise StopIteration from None


class Upload(Generic[T]):
    """A call that is asked by a stream of requests, under way."""

    def __init__(self, future: Any, requests: _Guarded, convert: Callable[[Any], T]) -> None:
        self.future = future
        self._requests = requests
        self._convert = convert
        requests.bind(future)

    def result(self) -> T:
        """Waits for the answer and returns what it means.

        An exception of the requests cancels the call, which stores nothing then, and is raised.
        """
        try:
            return self._convert(self.future.result())
        except (grpc.RpcError, grpc.FutureCancelledError) as raised:
            if self._requests.failure is not None:
                raise self._requests.failure from None
            raise error_from(self.future) from raised


class HasTransport(Protocol):
    """The client, and what hangs on it."""

    _transport: Transport


class Listing(Iterator[T]):
    """Iterates over a list that comes page by page, and asks for a page when it is needed."""

    def __init__(self, transport: Transport, pages: Pages[T]) -> None:
        self._transport = transport
        self._pages = pages
        self._request: Any = pages.request
        self._items: deque[T] = deque()
        self.unreachable: set[str] = set()
        """Hosts that could not be asked so far: what they hold is missing here."""

    def __next__(self) -> T:
        while not self._items:
            if self._request is None:
                raise StopIteration
            response = self._transport.page(self._pages, self._request)
            self._items.extend(self._pages.convert(response))
            self.unreachable.update(getattr(response, "unreachable", ()))
            self._request = next_page(self._pages.request, response)
        return self._items.popleft()


class EventStream(Iterator[T], Generic[T]):
    """Iterates over what a call sends. The call starts with the first step, not before.

    Closing it before its end cancels the call, from any thread: so does leaving its `with` block.
    """

    def __init__(
        self,
        transport: Transport,
        describe: Callable[[], Stream[T]],
        failed: Callable[[CodeContextError], None] | None = None,
    ) -> None:
        self._transport = transport
        self._describe = describe
        self._failed = failed
        self._lock = threading.Lock()
        self._call: Any = None
        self._convert: Callable[[Any], T] | None = None
        self._ended = threading.Event()

    def __next__(self) -> T:
        with self._lock:
            if self._ended.is_set():
                raise StopIteration
            if self._call is None:
                stream = self._describe()
                self._convert = stream.convert
                self._call = self._transport.open(stream)
                if self._ended.is_set():  # meanwhile, by another thread
                    self._call.cancel()
            call, convert = self._call, self._convert
        try:
            response = next(call)
        except StopIteration:
            self.close()
            raise
        except grpc.RpcError as raised:
            if self._ended.is_set():
                raise StopIteration from None
            self.close()
            error = error_from(raised)
            if self._failed is not None:
                self._failed(error)
            raise error from raised
        assert convert is not None  # noqa: S101  # it comes with the call
        return convert(response)

    def close(self) -> None:
        """Ends the iteration, and cancels the call if it still goes on."""
        self._ended.set()
        if self._call is not None:
            self._call.cancel()

    def __del__(self) -> None:
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def bind(build: Callable[P, Call[T]]) -> Callable[Concatenate[Any, P], T]:
    """Makes a method of a client from the description of a call."""

    def method(self: HasTransport, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._transport.call(build(*args, **kwargs))

    return as_method(build, method)


def bind_pages(build: Callable[P, Pages[T]]) -> Callable[Concatenate[Any, P], Listing[T]]:
    """Makes a method of a client from the description of a call for a list."""

    def method(self: HasTransport, /, *args: P.args, **kwargs: P.kwargs) -> Listing[T]:
        return Listing(self._transport, build(*args, **kwargs))

    return as_method(build, method, Listing)


def bind_stream(build: Callable[P, Stream[T]]) -> Callable[Concatenate[Any, P], EventStream[T]]:
    """Makes a method of a client from the description of a call that a stream answers."""

    def method(self: HasTransport, /, *args: P.args, **kwargs: P.kwargs) -> EventStream[T]:
        stream = build(*args, **kwargs)
        return EventStream(self._transport, lambda: stream)

    return as_method(build, method, EventStream)
