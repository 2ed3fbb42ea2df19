"""Jupyter kernels: what is theirs alone, beside what test_languages.py holds of each language."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.kernels import NEEDS_KERNELS
from support.languages import DENO, IPYKERNEL, NATIVE
from support.processes import workspace_of

from codecontext import (
    CodeContext,
    CodeContextClient,
    CodeContextError,
    ContextFailedError,
    UnimplementedError,
)

pytestmark = NEEDS_KERNELS


@pytest.fixture(scope="module")
def ipykernel(client: CodeContextClient) -> Iterator[CodeContext]:
    """A context of ipykernel that the tests share."""
    context = client.create_code_context(runtime=IPYKERNEL.runtime)
    yield context
    client.delete_code_context(context, force=True)


@pytest.fixture(scope="module")
def deno(client: CodeContextClient) -> Iterator[CodeContext]:
    """A context of Deno's kernel that the tests share."""
    context = client.create_code_context(runtime=DENO.runtime)
    yield context
    client.delete_code_context(context, force=True)


def test_kernels_are_listed(client: CodeContextClient) -> None:
    """The server lists each kernel with its language, and takes none for a language that it has itself."""
    runtimes = {runtime.name: runtime for runtime in client.get_server_info().runtimes}
    for dialect in (IPYKERNEL, DENO):
        assert dialect.runtime is not None
        kernel = runtimes[dialect.runtime]
        assert kernel.language == dialect.language
        assert not kernel.is_default


def test_what_kernels_cannot_is_refused(client: CodeContextClient, deno: CodeContext) -> None:
    """A fork and variables for one run are refused with a reason, and nothing has run."""
    with pytest.raises(CodeContextError) as refused:
        client.fork_code_context(deno)
    assert refused.value.reason == "FORK_UNSUPPORTED"
    with pytest.raises(UnimplementedError, match="env_vars"):
        client.run_code("globalThis.ran = 1", context=deno, env_vars={"A": "b"})
    assert client.run_code("typeof ran", context=deno).text == '"undefined"'


def test_results_and_displays(client: CodeContextClient, ipykernel: CodeContext) -> None:
    """Results, displays, their updates and clears come as they do from Python itself."""
    code = (
        "from IPython.display import HTML, clear_output\n"
        "display(HTML('<b>1</b>'), display_id='one')\n"
        "display(HTML('<b>2</b>'), display_id='one', update=True)\n"
        "clear_output(wait=True)\n"
        "display({'image/png': 'AAEC', 'text/plain': 'a picture'}, raw=True)\n"
        "6 * 7"
    )
    events = [each for each in client.run_code_stream(code, context=ipykernel) if each.sequence > 1]
    kinds = [each.WhichOneof("event") for each in events]
    expected = ["result", "display_update", "clear_output", "result", "result", "completed"]
    assert kinds == expected
    execution = client.get_execution(events[0].execution_id)
    assert execution.results[-2].png == b"\x00\x01\x02"
    assert (execution.results[-1].text, execution.results[-1].is_main_result) == ("42", True)


def test_results_of_another_language(client: CodeContextClient, deno: CodeContext) -> None:
    """A kernel that is not Python's shows values and HTML, and its errors have a name and a line."""
    assert client.run_code("({ a: [1, 2] })", context=deno).text == "{ a: [ 1, 2 ] }"
    shown = client.run_code("Deno.jupyter.html`<b>${6 * 7}</b>`", context=deno)
    assert shown.results[0].html == "<b>42</b>"
    failed = client.run_code("const one: number = 1\n\nnull.x", context=deno)
    assert failed.error is not None
    assert (failed.outcome, failed.error.name) == ("RAISED", "TypeError")


def test_kernels_read_what_other_languages_wrote(
    client: CodeContextClient, ipykernel: CodeContext, deno: CodeContext
) -> None:
    """A kernel reads the files of other languages in its sandbox, which may come later."""
    for dialect, kernel in ((IPYKERNEL, ipykernel), (DENO, deno)):
        for writer in NATIVE:
            other = client.create_code_context(writer.language, sandbox_id=kernel.sandbox_id)
            client.run_code(writer.save("shared.txt", f"from {writer.name}"), context=other)
            client.delete_code_context(other)
            read = client.run_code(dialect.load("shared.txt"), context=kernel)
            assert read.stdout.strip() == f"from {writer.name}"


def test_no_display_is_dropped(client: CodeContextClient, ipykernel: CodeContext) -> None:
    """However fast a kernel publishes, each display comes, in order, and none with another run."""
    code = "for number in range(3000): display(number)"
    execution = client.run_code(code, context=ipykernel)
    assert [each.text for each in execution.results] == [str(number) for number in range(3000)]


def test_completions_and_descriptions(client: CodeContextClient, ipykernel: CodeContext) -> None:
    """Kernels complete code and describe names."""
    # Jedi takes longer than the server waits when the machine is busy.
    code = "%config IPCompleter.use_jedi = False\nkernel_value = 'kept'"
    client.run_code(code, context=ipykernel)
    assert "kernel_value" in client.complete_code(ipykernel, "kernel_v").matches
    described = client.inspect_code(ipykernel, "kernel_value")
    assert described.found
    assert "kept" in str(described.data)


def test_several_lines_of_input(client: CodeContextClient, ipykernel: CodeContext) -> None:
    """A kernel asks as often as its code does, and what it asks for comes to the caller in order."""
    answers = iter(["one", "two"])
    code = "print('a'); first = input('1? '); print('b'); print(first + input('2? '))"
    execution = client.run_code(code, context=ipykernel, on_input=lambda *_: next(answers))
    assert (execution.outcome, execution.stdout) == ("SUCCEEDED", "a\nb\nonetwo\n")


def test_input_beside_a_thread_that_writes(
    client: CodeContextClient, ipykernel: CodeContext
) -> None:
    """What is asked for comes although a thread writes all the time, and so do interrupts."""
    code = (
        "import threading, time\n"
        "def write():\n    while not over:\n        print('.', flush=True); time.sleep(0.001)\n"
        "over = False\n"
        "threading.Thread(target=write).start()\n"
        "try: answer = input('? ')\n"
        "finally: over = True\n"
        "answer"
    )
    answered = client.run_code(code, context=ipykernel, on_input=lambda *_: "yes")
    assert (answered.outcome, answered.text) == ("SUCCEEDED", "'yes'")
    stopped = client.run_code(code, context=ipykernel, allow_input=True, timeout=0.5)
    assert (stopped.outcome, stopped.state_kept) == ("TIMED_OUT", True)


def test_a_password_is_asked_for_as_one(client: CodeContextClient, ipykernel: CodeContext) -> None:
    """`getpass` asks the caller for a password, and says that it is one."""
    code = "import getpass; getpass.getpass('word? ')"
    said = client.run_code(code, context=ipykernel, on_input=lambda *asked: str(asked))
    assert said.text == repr("('word? ', True)")


def test_a_pager_is_a_display(client: CodeContextClient, ipykernel: CodeContext) -> None:
    """What a kernel would show in a pager at a run's end is a display, as plain text."""
    execution = client.run_code("print('a')\nlen?\n1", context=ipykernel)
    result, paged = execution.results
    assert (result.text, result.is_main_result) == ("1", True)
    assert paged.text.startswith("Signature: len(obj, /)\nDocstring: ")
    assert (paged.is_main_result, execution.stdout) == (False, "a\n")


def test_output_between_runs_is_late(client: CodeContextClient, ipykernel: CodeContext) -> None:
    """What a thread of a kernel writes between two runs comes first in the next one, and is marked late."""
    code = (
        "import os, threading\nos.mkfifo('go'); os.mkfifo('gone')\n"
        "def wait():\n    open('go').read(); print('late', flush=True); open('gone', 'w').close()\n"
        "threading.Thread(target=wait).start()"
    )
    client.run_code(code, context=ipykernel)
    (workspace_of(ipykernel) / "go").write_text("")
    (workspace_of(ipykernel) / "gone").read_text()
    client.inspect_code(ipykernel, "1")  # whose answer comes after what was published before
    events = list(client.run_code_stream("print('now')", context=ipykernel))
    shown = [(event.stdout, event.late) for event in events if event.stdout]
    assert shown == [(b"late\n", True), (b"now\n", False)]


def test_a_kernel_that_an_interrupt_kills_says_so(client: CodeContextClient) -> None:
    """A kernel that can't be interrupted loses its state; the run says so, and a restart gives a new one."""
    context = client.create_code_context(runtime=DENO.runtime)
    execution = client.run_code(DENO.endless, context=context, timeout=0.2)
    assert (execution.outcome, execution.state_kept) == ("TIMED_OUT", False)
    with pytest.raises(ContextFailedError):
        client.run_code(DENO.say("on"), context=context)
    client.restart_code_context(context)
    assert client.run_code(DENO.say("on"), context=context).stdout == "on\n"
    client.delete_code_context(context)


def test_a_kernel_that_does_not_start_says_why(client: CodeContextClient) -> None:
    """A create of a kernel that ends at once fails with its status and its last words, and leaves nothing."""
    with pytest.raises(CodeContextError, match=r"exited with 7 .* no such luck") as failed:
        client.create_code_context(runtime="jupyter-broken")
    assert failed.value.reason == "RUNTIME_UNAVAILABLE"
    assert not [each for each in client.list_code_contexts() if each.runtime == "jupyter-broken"]
