"""Runs in an arena, as its pid 1: sets the stage, makes each attempt that it is told to, and says how it went.

Orders and answers are lines of JSON on standard input and output: `{"attempt": name}`, `{"proof": name}`
and `{"chore": name}`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from codecontext import CodeContext, CodeContextError, UnavailableError
from codecontext.resources import ResourceLimits
from codecontext.v1.execution_pb2 import ExecutionOutcome

from . import namespaces
from .attempt import Attempt, Report
from .attempts import ATTEMPTS
from .chores import CHORES
from .modes import Mode, mode_named
from .stage import SCRATCH, Stage

RUN_S = 60.0
"""After this long a run is ended: an attempt or a chore that hangs is a fault of its own."""

_PIDS = 400


class Driver:
    """Has a stage, and sets another one where an attempt has broken it."""

    def __init__(self, mode: Mode) -> None:
        """Sets the first stage."""
        self._mode = mode
        self.stage = Stage(mode)

    def _sound_stage(self) -> Stage:
        if self.stage.damage():
            self.stage.close()
            self.stage = Stage(self._mode)
        self.stage.next_tag()
        return self.stage

    def attempt(self, attempt: Attempt) -> dict[str, Any]:
        """Makes an attempt in a context of its own."""
        stage = self._sound_stage()
        if missing := self._missing(attempt):
            return {"unable": missing}
        promised = stage.guarantees.intersection(attempt.guarantees)
        limits = ResourceLimits(**self._kept(attempt)) if promised and attempt.limits else None
        context = stage.client.create_code_context(resource_limits=limits)
        try:
            report = self._run(context, attempt.code(stage.facts), live=attempt.live)
            if attempt.then == "delete":
                stage.client.delete_code_context(context, force=True)
            elif attempt.then == "kill":
                stage.server.process.kill()
                stage.server.process.wait()
            return self._verdict(attempt, report)
        finally:
            with contextlib.suppress(CodeContextError):
                stage.client.delete_code_context(context, force=True)

    def proof(self, attempt: Attempt) -> dict[str, Any]:
        """Has an attempt succeed without any context: as a child of a careless server would make it."""
        stage = self._sound_stage()
        if missing := self._missing(attempt):
            return {"unable": missing}
        if attempt.proof is not None:
            attempt.proof(stage)
            return self._verdict(attempt, Report(False, "done from outside"))
        held = os.open(stage.key, os.O_RDONLY)
        with subprocess.Popen(
            [sys.executable, "-c", attempt.code(stage.facts)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=stage.environment("server_env"),
            cwd=stage.folder,
            pass_fds=[held],
            text=True,
            **stage.user,
        ) as process:
            os.close(held)
            assert process.stdout is not None
            line = process.stdout.readline()
            process.kill()
        return self._verdict(attempt, _report_of(line))

    def _kept(self, attempt: Attempt) -> dict[str, int]:
        """The limits of an attempt that this server keeps; it refuses others."""
        unkept = {"uid": ("workspace_bytes", "workspace_inodes")}
        unkept["landlock"] = (*unkept["uid"], "processes")
        lacking = unkept.get(self.stage.tier, ())
        return {name: value for name, value in attempt.limits.items() if name not in lacking}

    def _missing(self, attempt: Attempt) -> str:
        lacking = [name for name in attempt.needs if self.stage.facts[name] is None]
        return f"there is no {lacking[0].replace('_', ' ')} here" if lacking else ""

    def _verdict(self, attempt: Attempt, report: Report) -> dict[str, Any]:
        if attempt.judge is not None:
            report = attempt.judge(self.stage, report)
        return {"escaped": report.escaped, "detail": report.detail, "damage": self.stage.damage()}

    def _run(self, context: CodeContext, code: str, *, live: bool) -> Report:
        """Runs code until it has reported; where it is not `live`, to its end."""
        output, ending = "", ""
        timeout = None if live else RUN_S
        try:
            with contextlib.closing(
                self.stage.client.run_code_stream(
                    code, context=context, timeout=timeout, detach=live
                )
            ) as events:
                for event in events:
                    output += event.stdout.decode(errors="replace")
                    if event.HasField("error"):
                        raise RuntimeError("\n".join(event.error.traceback))
                    if event.HasField("completed"):
                        ending = ExecutionOutcome.Name(event.completed.outcome)
                        ending = ending.removeprefix("EXECUTION_OUTCOME_")
                    if live and "\n" in output:
                        break
        except UnavailableError as error:
            return Report(False, f"the server was lost: {error}")
        if ending == "TIMED_OUT":
            raise RuntimeError(f"it hung, after it wrote {output!r}")
        if not output and ending in ("CRASHED", "OUT_OF_MEMORY"):
            return Report(False, ending)
        return _report_of(output)

    def chore(self, name: str) -> dict[str, Any]:
        """Does ordinary work in a context of its own."""
        stage = self._sound_stage()
        chore = next(each for each in CHORES if each.name == name)
        context = stage.client.create_code_context()
        try:
            execution = stage.client.run_code(chore.code, context=context, timeout=RUN_S)
        finally:
            stage.client.delete_code_context(context, force=True)
        error = "\n".join(execution.error.traceback) if execution.error else execution.stderr
        return {"outcome": str(execution.outcome.value), "detail": error}

    def greeting(self) -> dict[str, Any]:
        """Says what the server promises."""
        return {"tier": self.stage.tier, "guarantees": sorted(self.stage.guarantees)}

    def obey(self, order: dict[str, str]) -> dict[str, Any]:
        """Obeys one order; what goes wrong is in the answer."""
        try:
            if name := order.get("chore"):
                return self.chore(name)
            verb = self.attempt if "attempt" in order else self.proof
            name = order.get("attempt") or order["proof"]
            return verb(next(each for each in ATTEMPTS if each.name == name))
        except Exception as error:
            return {"fault": f"{type(error).__name__}: {error}"}
        finally:
            self.stage.reap_orphans()


def _report_of(output: str) -> Report:
    try:
        answer, _ = json.JSONDecoder().raw_decode(output, output.find('{"escaped"'))
    except ValueError as error:
        raise RuntimeError(f"it did not report, but wrote {output!r}") from error
    return Report(answer["escaped"], answer["detail"])


def _give_up(answers: IO[str], why: str, needs: str) -> None:
    answers.write(json.dumps({"unable": why, "needs": needs}) + "\n")


def main() -> None:
    """Enters an arena in the mode that the first argument names, and takes orders until there are no more."""
    orders = os.fdopen(os.dup(0))
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    try:
        namespaces.enter(Path(__file__).parents[2], SCRATCH)
    except OSError as error:
        _give_up(answers, f"no namespaces can be made here: {error}", needs="namespaces")
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever gives the orders closes them
    namespaces.pass_pids(_PIDS)
    try:
        driver = Driver(mode_named(sys.argv[1]))
    except RuntimeError as error:
        refused = "this machine does not allow the tier" in str(error)
        if not refused or "a tier does not hold what it says" in str(error):
            raise
        _give_up(answers, str(error), needs="landlock")
        return
    answers.write(json.dumps(driver.greeting()) + "\n")
    for line in orders:
        answers.write(json.dumps(driver.obey(json.loads(line))) + "\n")
    driver.stage.close()
    answers.flush()
    os._exit(0)  # and the kernel ends whatever is left in the arena


if __name__ == "__main__":
    main()
