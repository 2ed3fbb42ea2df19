"""One context: its state, its queue, and the interpreter that it has at the moment."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from codecontext_service.domain.errors import (
    ContextExecuting,
    ContextFailed,
    ContextUnreachable,
    ExecutionNotFound,
    InputNotRequested,
    NotFound,
    NotImplementedHere,
    QuotaExceeded,
    Unanswered,
)
from codecontext_service.domain.events import Completed, Event, Outcome
from codecontext_service.domain.questions import AnswerT, Question
from codecontext_service.executions.execution import Execution, StopCause
from codecontext_service.processes.cells import Home
from codecontext_service.processes.members import Usage
from codecontext_service.processes.process import ProcessExit
from codecontext_service.runtimes.base import (
    Finished,
    Interpreter,
    InterpreterError,
    UnansweredError,
)
from codecontext_service.sandboxes.sandbox import Sandbox

from .asking import Asking
from .late_output import LateOutput
from .options import ContextLimits, ContextOptions, State

_ResultT = TypeVar("_ResultT")

_USAGE_WAIT_S = 1.0
"""How long a measurement may take: a keeper that is stopped would never answer."""


class Context:
    """A live interpreter with its state, in a process of its own.

    Everything happens on the event loop, so each method decides at one moment what is the case.
    """

    def __init__(
        self,
        id_: str,
        number: int,
        sandbox: Sandbox,
        *,
        options: ContextOptions,
        limits: ContextLimits,
        on_used: Callable[[Context], None],
        parent_id: str = "",
    ) -> None:
        """Makes a context that has no interpreter yet.

        Args:
            id_: Its id.
            number: Its place in the order of creation.
            sandbox: Where it lives.
            options: What it was created with.
            limits: What the server allows it.
            on_used: Is called when it was used, or an execution in it has ended.
            parent_id: The context that it is forked from; empty if it is created.
        """
        self.id = id_
        self.number = number
        self.parent_id = parent_id
        self.sandbox = sandbox
        self.home = Home(sandbox.cells)
        self.options = options
        self.state = State.STARTING
        self.failure = ""
        self.create_time = self.last_used_time = time.time()
        self.expire_time: float | None = None
        self.execution_count = 0
        self.current: Execution | None = None
        self.queue: deque[Execution] = deque()
        self.lifecycle = asyncio.Lock()
        """Held by whoever starts, restarts or deletes it."""
        self._limits = limits
        self._on_used = on_used
        self._interpreter: Interpreter | None = None
        self._asking = Asking(self._start_next)
        self._late = LateOutput()
        self._timers: list[asyncio.TimerHandle] = []

    # Its interpreter

    @property
    def pid(self) -> int:
        """The pid of its interpreter as this server sees it; 0 or less if it has none."""
        return 0 if self._interpreter is None else self._interpreter.pid

    def adopt(self, interpreter: Interpreter, *, execution_count: int = 0) -> None:
        """Takes an interpreter that is ready, and begins what is queued.

        Args:
            interpreter: A fresh one, or a copy of another context's.
            execution_count: How many runs have begun in it.
        """
        self._interpreter = interpreter
        self.execution_count = execution_count
        self.failure = ""
        self._late.clear()
        interpreter.listener = self
        if self.state is State.DELETING:
            return  # its delete waits for this moment, and ends the interpreter
        self.touch()
        if interpreter.alive:
            self.state = State.IDLE
            self._start_next()
        else:
            self.fail("the interpreter ended before its first run")

    def fail(self, failure: str) -> None:
        """Takes note that there is no interpreter, and ends what is queued."""
        if self.state is not State.DELETING:
            self.state = State.FAILED
            self.failure = failure
        self.end_queue(f"the context failed: {failure}")

    async def end_interpreter(self, cause: StopCause, *, keep_cell: bool) -> None:
        """Ends the interpreter and all its processes, and the execution that it runs.

        Does not end before they are gone; may be cancelled, and repeated.

        Args:
            cause: Why.
            keep_cell: Whether its cell stays, and the files in it.
        """
        interpreter = self._interpreter
        if interpreter is not None:
            if self.current is not None and self.current.stop_cause is None:
                self.current.stop_cause = cause
            if keep_cell:
                interpreter.end()
                await asyncio.shield(interpreter.vacated)
            else:
                interpreter.kill()
                await asyncio.shield(interpreter.gone)
            if self._interpreter is interpreter:
                self._interpreter = None
                interpreter.close()
        if not keep_cell and self.home.cell is not None:
            self.home.leave()
            await asyncio.shield(self.home.cell.gone)

    async def usage(self) -> Usage | None:
        """Measures what its processes use; None if there are none, or nobody answers in time."""
        if self._interpreter is None or not self._interpreter.alive:
            return None
        try:
            async with asyncio.timeout(_USAGE_WAIT_S):
                return await self._interpreter.usage()
        except (TimeoutError, OSError):
            return None

    def end_queue(self, message: str) -> None:
        """Ends every execution that has not begun."""
        queue, self.queue = self.queue, deque()
        for execution in queue:
            execution.complete(Completed(Outcome.NOT_STARTED, message, state_kept=False))

    # Executions

    @property
    def busy(self) -> Execution | None:
        """The execution that runs, or that is next."""
        return self.current or (self.queue[0] if self.queue else None)

    def submit(self, execution: Execution) -> None:
        """Accepts a run, and begins it if nothing else runs.

        Raises:
            NotFound: The context is being deleted.
            ContextFailed: It has no interpreter.
            NotImplementedHere: Its runs can't have variables of their own.
            QuotaExceeded: Too many runs wait.
        """
        self.check_usable()
        if execution.request.env:
            self._check_able("environment", "have env_vars for one run; give them at create")
        if self.busy is not None and len(self.queue) >= self._limits.max_queued:
            raise QuotaExceeded(
                f"{len(self.queue)} runs wait in context {self.id}; wait for one of them",
                quota="max_queued_executions",
                limit=self._limits.max_queued,
                subject=self.id,
            )
        self.queue.append(execution)
        self.touch()
        self._start_next()

    def _check_able(self, capability: str, what: str) -> None:
        runtime = self.options.runtime
        if capability not in runtime.capabilities:
            raise NotImplementedHere(
                f"{runtime.config.name} contexts can't {what}; GetServerInfo lists what each can do",
                language=runtime.config.language,
            )

    def check_usable(self) -> None:
        """Checks that code can run here.

        Raises:
            NotFound: The context is being deleted.
            ContextFailed: It has no interpreter.
        """
        if self.state is State.DELETING:
            raise NotFound(f"context {self.id} is being deleted", context_id=self.id)
        if self.state is State.FAILED:
            raise ContextFailed(
                f"context {self.id} has lost its state: {self.failure}; restart or delete it",
                context_id=self.id,
                failure=self.failure,
            )

    def _start_next(self) -> None:
        interpreter = self._interpreter
        if interpreter is None or not self.queue:
            return
        if self.current is None:
            # What it has written so far is no output of the run, and may be its last.
            interpreter.read_now()
        if self.current is not None or not self.queue or not interpreter.alive:
            return
        if self.state is not State.IDLE or interpreter.interrupts_pending or self._asking.busy:
            return
        execution = self.current = self.queue.popleft()
        self.state = State.EXECUTING
        self.execution_count += 1
        execution.begin(self.execution_count)
        self._late.pass_on(execution)
        request = execution.request
        interpreter.execute(
            request.code,
            env=request.env,
            execution_count=self.execution_count,
            allow_input=request.allow_input,
        )
        if request.timeout_s:
            self._later(request.timeout_s, self._on_timeout, execution)

    async def ask(self, question: Question[AnswerT], timeout_s: float) -> AnswerT:
        """Asks the idle interpreter about its names: one question at a time, and runs go first.

        Args:
            question: What is asked.
            timeout_s: How long the interpreter may work on the answer, in seconds.

        Raises:
            NotFound: The context is being deleted.
            ContextExecuting: Code runs or is queued.
            ContextFailed: It has no interpreter.
            NotImplementedHere: Its language has no answers.
            Unanswered: There is no answer.
            ContextUnreachable: The interpreter does not answer.
        """
        self._check_able(question.capability, question.capability)
        interpreter = await self._idle_interpreter("ask")
        try:
            return await self._asking.ask(interpreter, question, timeout_s)
        except UnansweredError as error:
            raise Unanswered(f"no answer: {error}", context_id=self.id) from error
        except (InterpreterError, TimeoutError) as error:
            self.check_usable()
            raise ContextUnreachable(
                f"the interpreter of context {self.id} has not answered; retry", context_id=self.id
            ) from error

    async def fork(self, work: Callable[[Interpreter], Coroutine[Any, Any, _ResultT]]) -> _ResultT:
        """Has its idle interpreter copied; a run that comes meanwhile waits. With its lifecycle lock held.

        Args:
            work: Does it, and raises what this raises.

        Raises:
            NotFound: The context is being deleted.
            ContextExecuting: Code runs or is queued.
            ContextFailed: It has no interpreter.
        """
        interpreter = await self._idle_interpreter("fork it")
        result = await self._asking.do(work(interpreter))
        self.touch()
        return result

    async def _idle_interpreter(self, verb: str) -> Interpreter:
        await self._asking.turn()
        self.check_usable()
        if self.busy is not None or self._interpreter is None:
            raise ContextExecuting(
                f"context {self.id} is not idle; {verb} when it is",
                context_id=self.id,
                **({"execution_id": self.busy.id} if self.busy is not None else {}),
            )
        return self._interpreter

    def _finish(self, completed: Completed) -> None:
        execution, self.current = self.current, None
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if self._interpreter is not None:
            self._interpreter.resume()
        if execution is not None:
            execution.complete(completed)
        self.touch()

    def touch(self) -> None:
        """Takes note that it is used."""
        self.last_used_time = time.time()
        self._on_used(self)

    # Stopping

    def stop(self, execution: Execution, cause: StopCause, message: str = "") -> None:
        """Asks an execution to stop: a queued one at once, a running one by an interrupt.

        Code that does not stop within the grace time is killed.
        """
        if execution in self.queue:
            self.queue.remove(execution)
            execution.complete(Completed(cause.value, message or "it was stopped before it began"))
        elif (
            execution is self.current
            and execution.stop_cause is None
            and self._interpreter is not None
        ):
            execution.stop_cause, execution.stop_message = cause, message
            self._interpreter.resume()  # it must not wait for its readers any more
            self._interpreter.interrupt()
            self._later(self._limits.interrupt_grace_s, self._on_ignored, execution)

    def _on_timeout(self, execution: Execution) -> None:
        timeout = f"the timeout of {execution.request.timeout_s:g} s passed"
        self.stop(execution, StopCause.TIMEOUT, timeout)

    def _on_ignored(self, execution: Execution) -> None:
        if execution is self.current and self._interpreter is not None:
            ignored = f"the code ignored the interrupt for {self._limits.interrupt_grace_s:g} s and was killed"
            execution.stop_message = "; ".join(filter(None, (execution.stop_message, ignored)))
            self._interpreter.end()  # a restart finds the files

    def on_abandoned(self, execution: Execution) -> None:
        """Stops an execution whose callers have all gone."""
        self.stop(execution, StopCause.INTERRUPT, "its caller went away")

    async def interrupt(
        self, execution_id: str, unknown: Callable[[], Execution]
    ) -> Execution | None:
        """Stops what runs, or the given execution, and waits until it has stopped.

        Args:
            execution_id: Which; empty means what runs.
            unknown: Finds an execution that is not in the queue, or raises.

        Returns:
            The execution; None when there was nothing to stop.

        Raises:
            ExecutionNotFound: It is not one of this context's.
            ContextUnreachable: It did not stop, and could not be killed.
        """
        execution = self.current
        if execution_id:
            mine = [
                e for e in (self.current, *self.queue) if e is not None and e.id == execution_id
            ]
            execution = mine[0] if mine else unknown()
            if execution.context_id != self.id:
                raise ExecutionNotFound(
                    f"execution {execution_id} is not one of context {self.id}",
                    execution_id=execution_id,
                )
            if execution.completed is not None:
                return None
        if execution is None:
            return None
        self.stop(execution, StopCause.INTERRUPT, "it was interrupted")
        patience = self._limits.interrupt_grace_s + 5
        done, _ = await asyncio.wait([execution.done], timeout=patience)
        if not done:
            raise ContextUnreachable(
                f"context {self.id} does not answer; retry", context_id=self.id
            )
        return execution

    def send_input(
        self, execution: Execution, sequence: int, text: str, *, end_of_file: bool
    ) -> None:
        """Answers a request for input.

        Raises:
            InputNotRequested: The execution does not wait for this answer.
        """
        request = execution.input_requests.pop(sequence, None)
        if request is None or execution is not self.current or self._interpreter is None:
            raise InputNotRequested(
                f"execution {execution.id} does not wait for an answer to event {sequence}",
                execution_id=execution.id,
            )
        self._interpreter.reply_input(request.number, text, end_of_file=end_of_file)

    def on_flow(self, execution: Execution, flowing: bool) -> None:
        """Lets the interpreter wait for the readers of its execution, or go on."""
        if self._interpreter is None or execution is not self.current:
            return
        if execution.stop_cause is None:  # else it must not wait for them any more
            (self._interpreter.resume if flowing else self._interpreter.pause)()

    def _later(
        self, delay_s: float, callback: Callable[[Execution], None], execution: Execution
    ) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(delay_s, callback, execution))

    # What the interpreter says

    def on_event(self, event: Event) -> None:
        """Takes what the run has made, or between runs keeps it for the next."""
        if self.current is not None:
            self.current.add(event)
        else:
            self._late.add(event)

    def on_finished(self, finished: Finished) -> None:
        """Takes the end of the run."""
        execution = self.current
        if execution is None:
            return
        cause = execution.stop_cause
        if cause is not None and finished.interrupted:
            outcome, message = cause.value, execution.stop_message
        else:
            outcome, message = (Outcome.RAISED if finished.raised else Outcome.SUCCEEDED), ""
        if self.state is State.EXECUTING:
            self.state = State.IDLE
        self._finish(
            Completed(
                outcome,
                message,
                state_kept=True,
                cpu_time_s=finished.cpu_time_s,
                peak_memory_bytes=finished.peak_memory_bytes,
            )
        )
        self._start_next()

    def on_interrupts_sent(self) -> None:
        """Begins what waits, now that no interrupt can hit it by mistake."""
        self._start_next()

    def _exceeded(self, exit_: ProcessExit) -> str:
        limits = self.options.limits
        if exit_.exceeded == "memory":
            return f"its processes used more than {limits.memory_bytes} bytes of memory"
        if exit_.exceeded == "cpu_time":
            return f"its processes used more than {limits.cpu_time_s:g} s of CPU time"
        return ""

    def on_ended(self, exit_: ProcessExit, failure: str | None) -> None:
        """Takes the end of the interpreter, asked for or not."""
        execution = self.current
        cause = execution.stop_cause if execution is not None else None
        # A limit first: what takes long to end for it has closed its channel before.
        how = self._exceeded(exit_) or failure or str(exit_)
        outcome, message = Outcome.CRASHED, how
        if exit_.exceeded == "memory":
            outcome = Outcome.OUT_OF_MEMORY
        elif execution is not None and cause is not None:
            outcome, message = cause.value, execution.stop_message or cause.words or how
        self._finish(
            Completed(
                outcome,
                message,
                state_kept=False,
                cpu_time_s=exit_.cpu_time_s,
                peak_memory_bytes=exit_.peak_memory_bytes,
            )
        )
        if self.state in (State.IDLE, State.EXECUTING):
            self.fail(message)
            if self._interpreter is not None:
                self._interpreter.end()  # what it has left behind
