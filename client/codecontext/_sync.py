"""How the synchronous client makes the calls that the modules `_*_calls` describe."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar

import grpc

from codecontext import _channel, _wire
from codecontext._calls import Call, Pages, Stream, as_method, next_page
from codecontext._content import FileStub
from codecontext._retries import Attempts, Progress, leaves_run_behind
from codecontext._status import error_from
from codecontext.errors import CodeContextError, UnavailableError

P = ParamSpec("P")
T = TypeVar("T")


FAREWELLS_S = 1.0
"""How long closing a client waits for the word to arrive that its runs were left."""


class Transport:
    """The channels, one of them for files, and what holds for all calls. Safe to use from many threads."""

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

        def opened(*, for_files: bool) -> grpc.Channel:
            if channel is not None:
                return channel
            chosen = _channel.channel_options(options, for_files=for_files)
            if credentials is None:
                return grpc.insecure_channel(target, chosen)
            return grpc.secure_channel(target, credentials, chosen)

        # Neither connects before its first call.
        self._channel, self._file_channel = opened(for_files=False), opened(for_files=True)
        self._metadata = _channel.as_metadata(metadata)
        self._deadline_s = _channel.as_timeout(deadline, _channel.DEFAULT_DEADLINE_S)
        self._stubs: dict[type[Any], Any] = {}
        self._farewells: dict[object, Call[Any]] = {}
        self._sent_farewells: set[Any] = set()
        self.closed = False

    def _timeout_s(self, call: Call[Any] | Pages[Any]) -> float | None:
        return _channel.as_timeout(call.deadline, self._deadline_s)

    def _start(self, call: Call[Any] | Pages[Any], request: Any, timeout: float | None) -> Any:
        try:
            return self.method(call)(request, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as raised:
            raise error_from(raised, request) from raised

    def method(self, call: Call[Any] | Pages[Any] | Stream[Any]) -> Any:
        """Returns the method of the stub that a call means."""
        if self.closed:
            raise RuntimeError("the client is closed")
        stub = self._stubs.get(call.stub)
        if stub is None:  # two threads may both make one; either does
            channel = self._file_channel if call.stub is FileStub else self._channel
            stub = self._stubs[call.stub] = call.stub(channel)
        return call.method(stub)

    def call(self, call: Call[T]) -> T:
        """Makes a call and returns what its answer means."""
        attempts = Attempts(self._timeout_s(call))
        while True:
            try:
                return call.convert(self._start(call, call.request, attempts.timeout_s))
            except UnavailableError as error:
                delay_s = attempts.delay_s(error) if call.repeatable else None
                if delay_s is None:
                    raise
            time.sleep(delay_s)

    def page(self, pages: Pages[T], request: Any) -> Any:
        """Asks for one page and returns the answer as it is."""
        return self._start(pages, request, self._timeout_s(pages))

    def open(self, stream: Stream[T]) -> Any:
        """Starts a call that is answered by a stream."""
        timeout = _channel.as_timeout(stream.deadline, None)
        return self.method(stream)(stream.request, timeout=timeout, metadata=self._metadata)

    def owe_farewell(self, owner: object, farewell: Call[Any]) -> None:
        """Takes note of what to call when a stream is left before its end."""
        self._farewells[owner] = farewell

    def owes_farewell(self, owner: object) -> bool:
        """Returns whether a stream has not come to its end yet."""
        return owner in self._farewells

    def forget_farewell(self, owner: object) -> None:
        """Takes note that a stream has come to its end."""
        self._farewells.pop(owner, None)

    def bid_farewell(self, owner: object) -> None:
        """Says that a stream was left, and does not wait for the answer."""
        farewell = self._farewells.pop(owner, None)
        if farewell is None or self.closed:
            return
        with contextlib.suppress(
            grpc.RpcError, ValueError, RuntimeError
        ):  # the channel may be closed
            sent = self.method(farewell).future(
                farewell.request,
                timeout=_channel.as_timeout(farewell.deadline, self._deadline_s),
                metadata=self._metadata,
            )
            self._sent_farewells.add(sent)
            sent.add_done_callback(self._sent_farewells.discard)

    def _deliver_farewells(self) -> None:
        """Leaves all streams, and gives the word of that a short time to arrive."""
        for owner in list(self._farewells):
            self.bid_farewell(owner)
        end = time.monotonic() + FAREWELLS_S
        for sent in list(self._sent_farewells):
            with contextlib.suppress(
                grpc.RpcError, grpc.FutureTimeoutError, grpc.FutureCancelledError
            ):
                sent.result(max(0.0, end - time.monotonic()))

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
        """Closes the channel, unless it is the caller's own; its runs are interrupted."""
        self._deliver_farewells()
        self.closed = True
        if self._own:
            self._channel.close()
            self._file_channel.close()


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
    A stream of events whose connection is cut goes on by itself after the last event that came.
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
        self._stream: Stream[T] | None = None
        self._progress: Progress | None = None
        self._call: Any = None
        self._owner = object()
        self._ended = threading.Event()

    def __next__(self) -> T:
        while True:
            call, stream, progress = self._opened()
            try:
                event = stream.convert(next(call))
            except StopIteration:
                self._end()
                raise
            except grpc.RpcError as raised:
                if self._ended.is_set():
                    raise StopIteration from None
                self._go_on_after(raised, stream, progress)
                continue
            if progress.take(event):
                if progress.complete:
                    self._transport.forget_farewell(self._owner)
                return event

    def _opened(self) -> tuple[Any, Stream[T], Progress]:
        """Returns the call that goes on, which it starts if there is none."""
        with self._lock:
            if self._ended.is_set():
                raise StopIteration
            if self._stream is None or self._progress is None:
                self._stream = self._describe()
                self._progress = Progress(self._stream.request, self._stream.resumes_s)
            if self._call is None:
                if self._stream.farewell is not None:
                    self._transport.owe_farewell(self._owner, self._stream.farewell)
                self._call = self._transport.open(self._stream)
                if self._ended.is_set():  # meanwhile, by another thread
                    self._leave()
            return self._call, self._stream, self._progress

    def _go_on_after(self, raised: grpc.RpcError, stream: Stream[T], progress: Progress) -> None:
        """Waits until the next call may be made, or ends the iteration."""
        error = error_from(raised, stream.request)
        delay_s = None if progress.complete else progress.delay_s(error)
        if delay_s is None:
            if not progress.complete and leaves_run_behind(error):
                self._transport.bid_farewell(self._owner)
            self._end()
            if progress.complete:
                raise StopIteration from None
            if self._failed is not None:
                self._failed(error)
            raise error from raised
        if self._ended.wait(delay_s):
            raise StopIteration from None
        with self._lock:
            self._call = None

    def _end(self) -> None:
        """Takes note that nothing more comes."""
        self._ended.set()
        self._transport.forget_farewell(self._owner)

    def _leave(self) -> None:
        self._transport.bid_farewell(self._owner)
        if self._call is not None:
            self._call.cancel()

    def close(self) -> None:
        """Ends the iteration, and interrupts the run if it still goes on."""
        self._ended.set()
        self._leave()

    def __del__(self) -> None:
        self._ended.set()
        if self._transport.owes_farewell(self._owner):
            # In a thread of its own: this one may be anywhere, inside of gRPC too.
            with contextlib.suppress(RuntimeError):  # the interpreter ends
                threading.Thread(
                    target=self._transport.bid_farewell, args=(self._owner,), daemon=True
                ).start()
        if self._call is not None:
            self._call.cancel()

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
