"""Code that asks for input: who is asked, who answers, and what happens when nobody does."""

from __future__ import annotations

import grpc
import pytest
from support.runs import LiveRun
from support.stubs import refusal_of

from codecontext import (
    CodeContext,
    CodeContextClient,
    InputNotRequestedError,
    Outcome,
)
from codecontext.v1 import code_context_service_pb2 as pb
from codecontext.v1.code_context_service_pb2_grpc import CodeContextServiceStub


@pytest.mark.parametrize(
    "ask", ["input('?')", "import getpass; getpass.getpass()", "import builtins; builtins.input()"]
)
def test_without_leave_asking_raises(
    client: CodeContextClient, context: CodeContext, ask: str
) -> None:
    """Asking for input in a run that does not allow it raises at once, and asks nobody."""
    events = list(client.run_code_stream(ask, context=context))
    assert not any(event.HasField("input_requested") for event in events)
    assert events[-2].HasField("error")
    assert "allow_input" in events[-2].error.value


def test_standard_input_is_at_its_end(client: CodeContextClient, context: CodeContext) -> None:
    """Reading standard input, in Python or in a child process, finds its end and waits for nobody."""
    code = "import sys, subprocess\nprint(repr(sys.stdin.read()), subprocess.run('cat').returncode)"
    execution = client.run_code(code, context=context, timeout=60)
    assert (execution.outcome, execution.stdout) == (Outcome.SUCCEEDED, "'' 0\n")
    assert client.run_code("!cat", context=context, timeout=60).outcome is Outcome.SUCCEEDED


def test_answers_arrive(client: CodeContextClient, context: CodeContext) -> None:
    """Each question has its prompt, passwords are named as such, and each answer is taken as it is."""
    asked: list[tuple[str, bool]] = []
    answers = iter(["Ada ☃ 'q' \\n", "", "s3cret"])

    def on_input(prompt: str, password: bool) -> str:
        asked.append((prompt, password))
        return next(answers)

    code = (
        "import getpass\nprint('before')\na = input('name? ')\nprint('between')\nb = input()\n"
        "c = getpass.getpass('word? ')\n(a, b, c)"
    )
    execution = client.run_code(code, context=context, on_input=on_input)
    assert execution.text == repr(("Ada ☃ 'q' \\n", "", "s3cret"))
    assert asked == [("name? ", False), ("", False), ("word? ", True)]
    assert execution.stdout == "before\nbetween\n"


def test_the_end_of_input_is_an_answer(client: CodeContextClient, context: CodeContext) -> None:
    """The end of input raises EOFError in the code."""

    def on_input(prompt: str, password: bool) -> str:
        raise EOFError

    code = "try: input()\nexcept EOFError: print('the end')"
    assert client.run_code(code, context=context, on_input=on_input).stdout == "the end\n"


def test_only_what_was_asked_can_be_answered(
    client: CodeContextClient, context: CodeContext, stub: CodeContextServiceStub
) -> None:
    """An answer to no question, to an old one, or after the end is FAILED_PRECONDITION and changes
    nothing."""
    code = "first = input('1')\nsecond = input('2')\nprint(first, second)"
    with LiveRun(client, context, code, allow_input=True) as run:
        sequence = run.asked()
        for wrong in (0, sequence - 1, sequence + 1, -1, 1 << 40):
            refusal = refusal_of(
                stub.SendInput,
                pb.SendInputRequest(execution_id=run.execution_id, sequence=wrong, text="wrong"),
            )
            assert (refusal.code, refusal.reason) == (
                grpc.StatusCode.FAILED_PRECONDITION,
                "INPUT_NOT_REQUESTED",
            )
        client.send_input(run.execution_id, "one", sequence=sequence)
        with pytest.raises(InputNotRequestedError):
            client.send_input(run.execution_id, "again", sequence=sequence)
        following = next(
            event.sequence
            for event in client.watch_execution(run.execution_id, after_sequence=sequence)
            if event.HasField("input_requested")
        )
        client.send_input(run.execution_id, "two", sequence=following)
        assert (run.outcome, run.stdout) == (Outcome.SUCCEEDED, "one two\n")
    with pytest.raises(InputNotRequestedError):
        client.send_input(run.execution_id, "late", sequence=following)


def test_whoever_watches_may_answer(client: CodeContextClient, context: CodeContext) -> None:
    """A question is an event like any other: another client that watches can answer it."""
    with LiveRun(client, context, "print(input('who? '))", allow_input=True) as run:
        run.asked()
        for event in client.watch_execution(run.execution_id):
            if event.HasField("input_requested"):
                assert event.input_requested.prompt == "who? "
                client.send_input(event, "a watcher", sequence=event.sequence)
        assert (run.outcome, run.stdout) == (Outcome.SUCCEEDED, "a watcher\n")


@pytest.mark.parametrize("how", ["interrupt", "timeout"])
def test_a_question_can_be_stopped(
    client: CodeContextClient, context: CodeContext, how: str
) -> None:
    """Code that waits for an answer can be interrupted and timed out, keeps its state, and the next
    question gets its own answer."""
    options = {"timeout": 0.2} if how == "timeout" else {}
    with LiveRun(client, context, "x = 1; input()", allow_input=True, **options) as run:
        sequence = run.asked()
        if how == "interrupt":
            client.interrupt_code_context(context)
        expected = Outcome.INTERRUPTED if how == "interrupt" else Outcome.TIMED_OUT
        assert (run.outcome, run.end().state_kept) == (expected, True)
        with pytest.raises(InputNotRequestedError):
            client.send_input(run.execution_id, "late", sequence=sequence)
    execution = client.run_code(
        "(x, input())", context=context, on_input=lambda prompt, password: "own"
    )
    assert execution.text == "(1, 'own')"


def test_leave_is_given_for_one_run(client: CodeContextClient, context: CodeContext) -> None:
    """A run that may ask gives no leave to the next one, nor to a process that the code forks."""
    client.run_code("input()", context=context, on_input=lambda prompt, password: "x")
    assert client.run_code("input()", context=context).outcome is Outcome.RAISED
    code = (
        "import os\npid = os.fork()\n"
        "if pid == 0:\n"
        "    try: input()\n"
        "    except BaseException: os._exit(7)\n"
        "    os._exit(0)\n"
        "os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])"
    )
    answered: list[str] = []
    execution = client.run_code(
        code, context=context, on_input=lambda prompt, password: answered.append(prompt) or ""
    )
    assert (execution.text, answered) == ("7", [])
