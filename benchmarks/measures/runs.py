"""Runs, one client and one context: from an empty call to a plot; by the bare stub and by the client."""

from __future__ import annotations

import contextlib
import json

import grpc
from calls import EMPTY_CALL, Floor, create, delete, languages, run
from effort import Effort
from figures import Expectation, Figures
from processes import ask, helper, read_line, server
from snippets import SNIPPETS

from codecontext import CodeContextClient
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub

EXPECTATIONS = (
    Expectation("RunCode('1+1')", 1.8, EMPTY_CALL),
    Expectation("RunCode('1+1')", 3.0, EMPTY_CALL, percentile=99),
    Expectation("RunCode('1+1'), javascript", 1.5, EMPTY_CALL),
    Expectation("RunCode('echo 2'), bash", 1.8, EMPTY_CALL),
)

_PYTHON = SNIPPETS["python"]


def measure(figures: Figures, effort: Effort) -> None:
    """Measures each kind of run in turns with an empty call, and with what a run is made of."""
    with contextlib.ExitStack() as stack:
        floors = stack.enter_context(helper("calls"))
        shell = stack.enter_context(helper("shell"))
        served = stack.enter_context(server())
        read_line(shell)
        floor = Floor(stack.enter_context(grpc.insecure_channel(read_line(floors))))
        stub = CodeContextServiceStub(stack.enter_context(grpc.insecure_channel(served.target)))
        client = stack.enter_context(CodeContextClient(served.target))
        contexts = {
            language: create(stub, language) for language in languages(stub) if language in SNIPPETS
        }
        python = contexts["python"]
        answer = run(stub, python, "1+1")
        assert answer.execution.results[0].parts[0].text == "2", answer
        for into in effort.rounds(figures, 2000):
            with into.timed(EMPTY_CALL):
                floor.call()
            for language, context_id in contexts.items():
                code = SNIPPETS[language].run
                name = f"RunCode('{code}')" + ("" if language == "python" else f", {language}")
                with into.timed(name, floor=EMPTY_CALL):
                    run(stub, context_id, code)
            with into.timed("client.run_code('1+1')", floor=EMPTY_CALL):
                client.run_code("1+1", context=python)
            with into.timed(f"RunCode('{_PYTHON.print}')", floor=EMPTY_CALL):
                run(stub, python, _PYTHON.print)
            for name, seconds in json.loads(ask(shell, "1")).items():
                into.add(name, seconds)
        run(stub, python, _PYTHON.before)
        for into in effort.rounds(figures, 200):
            with into.timed("RunCode, a table of 100 rows", floor="the table's HTML in process"):
                run(stub, python, _PYTHON.table)
            into.add("the table's HTML in process", float(ask(shell, "table")))
        for into in effort.rounds(figures, 30):
            with into.timed("RunCode, a plot"):
                run(stub, python, _PYTHON.plot)
        for into in effort.rounds(figures, 60):
            context_id = create(stub)
            with into.timed("RunCode('1+1'), first in its context", floor=EMPTY_CALL):
                run(stub, context_id, "1+1")
            delete(stub, context_id)
