"""An interpreter that speaks the protocol of `workers.channel`, seen from the server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from codecontext_service.domain.events import Event, Stream
from codecontext_service.domain.limits import Limits
from codecontext_service.domain.questions import AnswerT, Question
from codecontext_service.processes.forking import Forked
from codecontext_service.processes.keeper import CellKeeper
from codecontext_service.processes.members import Member, Usage
from codecontext_service.processes.peer import OrderError
from codecontext_service.processes.process import ProcessExit
from codecontext_service.processes.streams import streams
from codecontext_service.workers import channel
from codecontext_service.workers.channel import Assembler, ProtocolError

from .base import (
    Finished,
    InterpreterError,
    Listener,
    Setup,
    WorkingDirectoryError,
)
from .copying import Copies, rlimits
from .decoding import decode_event, decode_finished
from .interrupts import Interrupts
from .output import Pipes, TextBuffer
from .questions import Questions
from .transport import PacketTransport, StreamTransport, Transport

_BATCH = 64
"""How many packets are read before others get their turn."""

_LAST = (channel.BEGUN, channel.FINISHED)
"""What nothing follows for a while: to look for more would cost an exception each time."""

_TEXT = (channel.STDOUT + channel.WHOLE, channel.STDERR + channel.WHOLE)
_MAX_MESSAGE = 256 << 20
_MAX_COMPLAINT = 2000
"""The most bytes that are kept of what an interpreter writes that can't start."""

_STATUS_WAIT_S = 1.0
"""How long the end of the channel may be ahead of the news that the interpreter has ended."""


class _NoListener:
    """Hears of an interpreter that no context has yet, and remembers what it complains of."""

    def __init__(self) -> None:
        self.complaint = b""

    def on_event(self, event: Event) -> None:
        if isinstance(event, Stream) and event.stderr:
            self.complaint = (self.complaint + event.data)[-_MAX_COMPLAINT:]

    def on_finished(self, finished: Finished) -> None:
        pass

    def on_ended(self, exit_: ProcessExit, failure: str | None) -> None:
        pass

    def on_interrupts_sent(self) -> None:
        pass


def _not_limited(error: Exception) -> InterpreterError:
    return InterpreterError(f"the interpreter could not be limited: {error}")


class ChannelInterpreter:
    """A live interpreter: its channel, its two output pipes, and the keeper of its processes."""

    def __init__(self, forked: Forked, *, interrupts_again: bool = False) -> None:
        """Takes over what leads to the interpreter, and listens to it.

        Args:
            forked: What leads to it.
            interrupts_again: Whether a run that goes on is interrupted again, see `Interrupts`.
        """
        self._loop = asyncio.get_running_loop()
        self._process = forked.process
        self.member = forked.member
        """What it is of its keeper."""
        ours = forked.streams
        self._channel: Transport = (StreamTransport if ours.framed else PacketTransport)(
            ours.channel
        )
        self._interrupts = Interrupts(
            self.member, lambda: self._send(channel.INTERRUPT, {}), again=interrupts_again
        )
        self._pipes = Pipes(ours.stdout, ours.stderr, self._on_pipe)
        self._text = TextBuffer(self._on_text)
        self._assembler = Assembler(_MAX_MESSAGE)
        self._paused = False
        self._channel_open = True
        self._ended = False
        self._group = 0
        self._lowers = True
        self._failure: str | None = None
        self._killed = False
        self._configured: asyncio.Future[dict[str, str]] | None = None
        self._setup: Setup | None = None
        self._ordered: Setup | None = None
        self._questions = Questions(self._send_question)
        self._copies = Copies(self._send_fork)
        self.ready: asyncio.Future[None] = self._loop.create_future()
        """Done once it waits for orders; failed if it ended before."""
        self.listener: Listener = _NoListener()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        """Done once its end was told, and every process of it is gone, its keeper too."""
        self.vacated: asyncio.Future[None] = self._loop.create_future()
        """Done once its end was told, and every process of it is gone; a cell may be left."""
        self._ending: asyncio.Task[None] | None = None
        self.resume(force=True)
        self.member.on_interrupted = self._on_interrupted
        self._process.ended.add_done_callback(self._on_process_ended)
        self.member.gone.add_done_callback(self._on_member_gone)

    async def settle(self) -> None:
        """Takes its place in a cell where others live too; before it runs any code.

        Raises:
            InterpreterError: It has ended, or its keeper has.
        """
        try:
            await self.member.readopt(self._group)
        except (OSError, OrderError) as error:
            raise InterpreterError(f"the interpreter could not be marked: {error}") from error

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return not self._ended

    @property
    def pid(self) -> int:
        """Its pid as this server sees it; 0 or less if it has none."""
        return self._process.own_pid

    @property
    def interrupts_pending(self) -> bool:
        """Whether an interrupt that was asked for is still to be sent."""
        return self._interrupts.pending

    async def configure(self, setup: Setup, *, ahead: bool = False) -> None:
        """Gives it its working directory, environment and limits, before its first run.

        May be repeated with the same or more variables, and limits that are not wider.

        Args:
            setup: All three.
            ahead: Whether no context has it yet, so that there is time.

        Raises:
            WorkingDirectoryError: It can't work there.
            InterpreterError: It has ended, or can't start what it is for.
        """
        if self._ended:
            raise InterpreterError("the interpreter has ended")
        if setup == self._setup:
            return
        configured = self._configured
        if configured is None or setup != self._ordered:
            if not self._lowers:
                try:
                    await self.member.lower(self._group, setup.limits)
                except (OSError, OrderError) as error:
                    raise _not_limited(error) from error
            configured = self.order(setup, ahead=ahead)
        answer = await configured
        self._ordered = None
        if "cwd_error" in answer:
            raise WorkingDirectoryError(answer["cwd_error"])
        if "failure" in answer:
            raise InterpreterError(answer["failure"])
        self._setup = setup

    def order(self, setup: Setup, *, ahead: bool = False) -> asyncio.Future[dict[str, str]]:
        """Sends it what `configure` waits for; before it is ready only if it lowers its limits itself.

        Args:
            setup: As for `configure`.
            ahead: Likewise.

        Returns:
            What it will answer.

        Raises:
            InterpreterError: It has ended, or can't be limited.
        """
        if self._ended:
            raise InterpreterError("the interpreter has ended")
        try:
            self.member.limit(setup.limits)
        except OSError as error:
            raise _not_limited(error) from error
        self._ordered = setup
        self._configured = configured = self._loop.create_future()
        message: dict[str, object] = {
            "cwd": setup.cwd,
            "env": dict(setup.env),
            "rlimits": rlimits(setup.limits),
            "ahead": ahead,
        }
        self._send(channel.CONFIGURE, message)
        return configured

    def execute(
        self, code: str, *, env: Mapping[str, str], execution_count: int, allow_input: bool
    ) -> None:
        """Begins a run."""
        self._interrupts.on_ordered()
        self._text.hurry()
        self.member.note_run()
        message = {
            "code": code,
            "env": dict(env),
            "execution_count": execution_count,
            "allow_input": allow_input,
        }
        self._send(channel.EXECUTE, message)

    def read_now(self) -> None:
        """Takes what it has said by now, and keeps no text back."""
        self._on_channel()
        if self._reading:
            self._pipes.drain()
        self._text.flush()

    def reply_input(self, number: int, text: str, *, end_of_file: bool) -> None:
        """Answers a request for input."""
        self._send(
            channel.INPUT_REPLY, {"number": number, "text": text, "end_of_file": end_of_file}
        )

    async def ask(self, question: Question[AnswerT], timeout_s: float) -> AnswerT:
        """Asks about its names, between runs; the state stays as it is.

        Args:
            question: What is asked.
            timeout_s: How long it may work on the answer, in seconds.

        Raises:
            UnansweredError: There is no answer: it took too long, or the code's own methods failed.
            TimeoutError: The interpreter does not answer at all.
            InterpreterError: It has ended.
        """
        return await self._questions.ask(question, timeout_s)

    def _send_question(self, message: dict[str, object]) -> None:
        self._send(channel.ASK, message)
        if self._ended:
            raise InterpreterError("the interpreter has ended")

    async def copy(
        self, member: Member, limits: Limits, *, allow_threads: bool
    ) -> tuple[ChannelInterpreter, list[str]]:
        """Has it fork, between runs.

        Args:
            member: What the copy is to be of the keeper. Stays the caller's if this fails.
            limits: Those of the copy.
            allow_threads: Whether to fork although it has threads.

        Returns:
            The copy, ready to run, and the names of the threads that it has not.

        Raises:
            ThreadsError: It has threads.
            InterpreterError: There could be no copy, or it has ended.
        """
        with streams() as (ours, theirs):
            process, lost = await self._copies.fork(
                member, self.member, limits, theirs, allow_threads=allow_threads
            )
        copy = ChannelInterpreter(Forked(process, member, ours))
        try:
            member.limit(limits)
            await copy.ready
        except BaseException as error:
            copy.end()
            copy.vacated.add_done_callback(lambda vacated: copy.close())
            if isinstance(error, OSError):
                raise InterpreterError(f"the copy could not be limited: {error}") from error
            raise
        return copy, lost

    def _send_fork(self, order: dict[str, object], descriptors: Sequence[int]) -> None:
        if self._channel.waiting or self._ended:
            raise BrokenPipeError("it does not read")
        self._send(channel.FORK, order)
        self._channel.send_descriptors(descriptors)

    def interrupt(self) -> None:
        """Asks the run to stop."""
        if not self._ended:
            self._interrupts.interrupt()

    def pause(self) -> None:
        """Stops reading what it writes, so that it must wait."""
        if not self._paused:
            self._paused = True
            self._stop_reading()

    def resume(self, *, force: bool = False) -> None:
        """Reads what it writes again."""
        if (self._paused or force) and not self._ended:
            self._paused = False
            if self._channel_open:
                self._loop.add_reader(self._channel, self._on_channel)
                self._read_on()
            self._pipes.start()

    @property
    def cell(self) -> CellKeeper | None:
        """The cell that it lives in, if the machine has cells."""
        keeper = self.member.keeper
        return keeper if isinstance(keeper, CellKeeper) else None

    def end(self) -> None:
        """Ends all its processes, and leaves its cell; `vacated` tells when it is done. May be repeated."""
        self._killed = True
        self._process.kill()
        if self._ending is None or self._ending.done():
            self._ending = self._loop.create_task(self._end())

    async def _end(self) -> None:
        with contextlib.suppress(OSError):  # the keeper is gone, which is told elsewhere
            await self.member.empty()
            await self._process.ended
            if not self.vacated.done():
                self.vacated.set_result(None)

    def kill(self) -> None:
        """Ends all its processes, and its cell; `gone` tells when it is done. May be repeated."""
        self._killed = True
        self._process.kill()  # at once, and not when its cell has got that far
        self.member.kill()
        # Mostly it is alone in its group, which is removed while others reap what has ended.
        self._process.exited.add_done_callback(
            lambda exited: self.member.remove_group(vacated=False)
        )

    async def usage(self) -> Usage:
        """Measures what its processes use.

        Raises:
            OSError: Nobody can tell: it has ended, or it is stopped.
        """
        return await self.member.usage()

    def close(self) -> None:
        """Closes what the server holds of it, once it is gone or vacated; of its cell in the first case."""
        self._ended = True
        self._interrupts.stop()
        if self._ending is not None:
            self._ending.cancel()
        self._stop_reading()
        self._text.close()
        self._channel.close()
        self._pipes.close()
        self._process.close()
        self.member.close()

    # What goes and comes

    def _send(self, kind: bytes, message: dict[str, object]) -> None:
        self._channel.send(channel.packets(kind, channel.to_json(message)))

    @property
    def _reading(self) -> bool:
        return not self._paused and not self._ended

    def _stop_reading(self) -> None:
        self._loop.remove_reader(self._channel)
        self._pipes.stop()

    def _on_channel(self) -> None:
        if not self._reading:
            return
        try:
            for _ in range(_BATCH):
                packet = self._channel.receive()
                if not packet:
                    self._on_channel_closed()
                    break
                self._take(packet)
                if self._paused or self._ended:
                    break
                if packet[:1] in _LAST:
                    self._read_on()
                    break
            else:
                self._read_on()
        except BlockingIOError:
            pass
        except ProtocolError as error:
            self._fail(f"the interpreter's control channel was corrupted: {error}")
        except OSError:
            self._on_channel_closed()
        self._text.settle()

    def _read_on(self) -> None:
        if self._channel.holds_packet:  # the event loop sees the socket alone
            self._loop.call_soon(self._on_channel)

    def _take(self, packet: bytes) -> None:
        if (
            packet.startswith(_TEXT) and len(packet) <= channel.MAX_PACKET
        ):  # by far the most frequent ones
            self._text.add(packet.startswith(channel.STDERR), packet[2:])
            return
        message = self._assembler.add(packet)
        if message is None:
            return
        kind, content = message
        if kind in (channel.STDOUT, channel.STDERR):
            self._text.add(kind == channel.STDERR, content)
            return
        self._text.flush()
        if kind == channel.BEGUN:
            self._interrupts.on_begun()
        elif kind == channel.FINISHED:
            finished = decode_finished(content)
            self._interrupts.on_finished()
            self._pipes.drain()
            self.listener.on_finished(finished)
        elif kind == channel.READY:
            if not self.ready.done():  # what comes later might be the code's own
                ready = channel.from_json(content)
                self._group = int(ready["pid"])
                self._interrupts.on_ready(self._group, ready)
                self._lowers = bool(ready.get("lowers", True))
                self.ready.set_result(None)
        elif kind == channel.CONFIGURED:
            self._on_configured(content)
        elif kind == channel.ANSWER:
            self._questions.take(content)
        elif kind in Copies.KINDS:
            self._copies.take(kind, content)
        else:
            for event in decode_event(kind, content):
                self.listener.on_event(event)

    def _on_configured(self, content: bytes) -> None:
        if self._configured is not None and not self._configured.done():
            self._configured.set_result(channel.from_json(content))

    def _on_text(self, stderr: bool, data: bytes) -> None:
        self.listener.on_event(Stream(stderr, data))

    def _on_pipe(self, stderr: bool, data: bytes) -> None:
        self._text.flush()
        self._on_text(stderr, data)

    # The end

    def _on_member_gone(self, gone: asyncio.Future[None]) -> None:
        if self._process.ended.done():
            for future in (self.gone, self.vacated):
                if not future.done():
                    future.set_result(None)
        else:
            self._process.ended.add_done_callback(lambda ended: self._on_member_gone(gone))

    def _fail(self, failure: str) -> None:
        self._failure = failure
        self._on_channel_closed()
        self.end()

    def _on_channel_closed(self) -> None:
        self._channel_open = False
        self._loop.remove_reader(self._channel)
        # Whether it has ended, and how, comes from its keeper. If it lives on, the code has closed
        # the channel, and nobody can speak with it any more.
        self._loop.call_later(_STATUS_WAIT_S, self._on_channel_lost)

    def _on_channel_lost(self) -> None:
        if self._process.alive:
            self._failure = self._failure or "the code closed the interpreter's control channel"
            self.end()

    def _on_interrupted(self) -> None:
        if not self.interrupts_pending:
            self.listener.on_interrupts_sent()

    def _on_process_ended(self, ended: asyncio.Future[ProcessExit]) -> None:
        if self._ended:
            return
        self._paused = False
        if self._failure is None:  # else what came after the breach is worth nothing
            with contextlib.suppress(OSError, ProtocolError):
                while packet := self._channel.receive():
                    self._take(packet)
        self._text.flush()
        self._pipes.drain()
        self._ended = True
        self._interrupts.stop()
        self._stop_reading()
        why = self._failure or str(ended.result())
        if isinstance(self.listener, _NoListener) and self.listener.complaint:
            why = f"{why}: {self.listener.complaint.decode(errors='replace').strip()}"
        error = InterpreterError(why)
        waiting = (*self._questions.waiting, *self._copies.waiting)
        for future in (self.ready, self._configured, *waiting):
            if future is not None and not future.done():
                future.set_exception(error)
                future.exception()  # nobody may be waiting for it
        self.member.read_news()
        exit_ = ended.result()
        # What the server has killed was killed for another reason, which whoever did it knows.
        exceeded = self.member.exceeded if self._killed else self.member.reason_of(exit_)
        exit_ = replace(exit_, exceeded=exceeded)
        self.listener.on_ended(exit_, self._failure)
