"""What is Bash's own, beside what holds for every language."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import Watch, processes_of
from support.runs import until
from support.servers import ServerProcess

from codecontext import (
    CodeContext,
    CodeContextClient,
    CodeContextError,
    Execution,
    ForkUnsupportedError,
)


@pytest.fixture
def context(client: CodeContextClient) -> Iterator[CodeContext]:
    """A fresh Bash context."""
    each = client.create_code_context("bash")
    yield each
    client.delete_code_context(each, force=True)


@pytest.fixture
def run(client: CodeContextClient, context: CodeContext):
    """Runs code in the context."""

    def run(code: str, **options: object) -> Execution:
        return client.run_code(code, context=context, **{"timeout": 30, **options})

    return run


def test_options_and_the_directory_persist(run) -> None:
    """Options, aliases and the directory of one run are those of the next, and so is `$?`."""
    run("set -f; shopt -s nullglob; alias greet='echo hello'; cd /usr; (exit 4)")
    said = run('echo "$? $PWD *"; shopt nullglob; greet you')
    assert said.stdout == "4 /usr *\nnullglob       \ton\nhello you\n"


def test_tracing_shows_the_code_alone(run) -> None:
    """`set -x` and `set -v` hold for the next runs, and show nothing that is not the code's."""
    run("set -x")
    assert run("echo traced\necho twice").stderr == "++ echo traced\n++ echo twice\n"
    assert run("set +x").stderr == "++ set +x\n"
    assert run("echo quiet").stderr == ""


def test_prompts_are_never_shown(run) -> None:
    """What an interactive shell would write before it reads a command is not the code's output."""
    run("PS1='prompt> ' PS2='more> ' PROMPT_COMMAND='echo prompted'")
    said = run("sleep 0 &\nwait", env_vars={"TWO": "a\nb"})
    assert (said.stdout, said.stderr) == ("", "")


def test_the_status_is_the_error(run) -> None:
    """A status other than 0 is an error with the status, and with the signal's name where there is one."""
    for code, value in (
        ("false", "1"),
        ("return 7", "7"),
        ("sh -c 'kill -TERM $$'", "143 (SIGTERM)"),
    ):
        failed = run(code)
        assert failed.outcome == "RAISED"
        assert failed.error is not None
        assert (failed.error.name, failed.error.value) == ("ExitStatus", value)


def test_a_runtime_where_a_status_is_no_error(tmp_path: Path) -> None:
    """With `status_raises = false` the status is the result of a run that succeeded."""
    file = tmp_path / "config.toml"
    file.write_text("[runtimes.lax]\nlanguage = 'bash'\npool_size = 0\nstatus_raises = false\n")
    with (
        ServerProcess(tmp_path / "state", "--config", str(file)) as server,
        CodeContextClient(server.target) as client,
    ):
        context = client.create_code_context(runtime="lax")
        execution = client.run_code("(exit 3)", context=context)
        assert (execution.outcome, execution.error) == ("SUCCEEDED", None)
        assert execution.results[0].json == {"exit_status": 3}
        assert client.run_code("true", context=context).results == []
        assert client.run_code("fi", context=context).outcome == "RAISED"


def test_errors_that_end_a_script_end_the_run_alone(run) -> None:
    """An unset variable under `set -u`, or `${x:?}`, ends the run; the shell lives on."""
    run("kept=still")
    assert run("set -u; echo $unset; echo after").stdout == ""
    assert run("set +u; : ${unset:?is missing}; echo after").stdout == ""
    assert run("echo $kept").stdout == "still\n"


def test_set_e_ends_the_shell(run, client: CodeContextClient, context: CodeContext) -> None:
    """Under `set -e` a command that fails ends the shell, as anywhere, and the outcome says so."""
    failed = run("set -e; echo before; (exit 5); echo after")
    assert (failed.outcome, failed.stdout) == ("CRASHED", "before\n")
    assert "status 5" in failed.outcome_message
    client.restart_code_context(context)


def test_a_trap_decides(run) -> None:
    """A trap for INT takes the interrupt, and the code goes on if it wants to."""
    code = "trap 'echo trapped; done=1' INT; until [[ ${done-} ]]; do :; done; echo over"
    went_on = run(code, timeout=0.3)
    assert (went_on.outcome, went_on.stdout) == ("SUCCEEDED", "trapped\nover\n")
    assert run("trap - INT; echo on").stdout == "on\n"


def test_what_the_code_puts_in_the_place_of_the_shells_own(run) -> None:
    """Functions and aliases named like what ends a run don't keep it from ending, interrupted or not."""
    run(
        "kept=still; builtin() { :; }; printf() { :; }; set() { :; }; unset() { :; }; source() { :; }"
    )
    assert run("echo $kept").stdout == "still\n"
    run("alias builtin=: printf=: source=: exec=: unset=:")
    assert run("echo $kept").stdout == "still\n"
    code = "PROMPT_COMMAND='echo prompted' PS1='prompt> '; builtin() { :; }; while :; do :; done"
    assert run(code, timeout=0.2).outcome == "TIMED_OUT"
    assert (said := run("echo $kept")).stdout == "still\n"
    assert "prompt" not in said.stderr


@pytest.mark.parametrize(
    "code",
    [
        "while :; do sleep 0.001; done",
        "while :; do (sleep 0.001); done | cat",
        "sleep 60 & wait",
        "set -x; PROMPT_COMMAND='echo prompted'; while sleep 60; do :; done",
        "cat <(sleep 60)",
        "x=$(sleep 60)",
        "set -m; while sleep 60 | cat; do :; done",
    ],
)
def test_what_never_ends_is_stopped_and_the_state_stays(run, code: str) -> None:
    """Loops of the shell and all that it waits for are interrupted; the shell keeps its state, and goes on."""
    run("kept=7")
    for timeout in (0.1, 0.2):
        stopped = run(code, timeout=timeout)
        assert (stopped.outcome, stopped.state_kept) == ("TIMED_OUT", True)
        assert [run("echo $kept").stdout for _ in range(3)] == ["7\n"] * 3


def test_an_interrupt_leaves_background_jobs_alone(run) -> None:
    """Where each job has a process group of its own, an interrupt is for the one in the foreground."""
    run("set -m; sleep 60 & sleep 61 &")
    assert run("sleep 62", timeout=0.2).outcome == "TIMED_OUT"
    assert run("jobs -r | wc -l").stdout.strip() == "2"
    assert run("wait", timeout=0.2).outcome == "TIMED_OUT"
    assert run("jobs -r | wc -l; kill %1 %2").stdout.strip() == "2"


def test_output_of_background_jobs_comes_late(
    run, client: CodeContextClient, context: CodeContext
) -> None:
    """What a background job writes between two runs comes with the next one."""
    run("mkfifo gate told; (read x <gate; echo late; echo >told) &")
    other = client.create_code_context("bash", sandbox_id=context.sandbox_id)
    client.run_code("echo >gate; read x <told", context=other)
    client.delete_code_context(other)
    assert run("echo now").stdout == "late\nnow\n"


JOBS = """\
sleep 600 &
nohup sleep 601 >/dev/null 2>&1 & disown
(sleep 602 & sleep 603 &)
coproc sleep 604
set -m; sleep 605 &
trap '' HUP TERM INT; sleep 606 &
trap - HUP TERM INT
jobs -r | wc -l"""


@pytest.mark.parametrize("last", ["exit 3", "kill -KILL $$", None])
def test_background_jobs_end_with_their_shell(
    server: ServerProcess,
    run,
    client: CodeContextClient,
    context: CodeContext,
    last: str | None,
) -> None:
    """Background jobs of every kind are gone after a restart, whether the shell had ended before or not."""
    assert run(JOBS).stdout == "4\n"
    _, *inside = processes_of(server, context)  # the first is the keeper
    with Watch(inside) as watch:
        assert len(watch.living()) >= 9
        if last is not None:
            assert run(last).outcome == "CRASHED"
        client.restart_code_context(context)
        assert watch.living() == []
    assert run("jobs | wc -l").stdout == "0\n"


def test_read_takes_what_was_given(run) -> None:
    """`read` knows prompts, passwords, arrays and single characters; the rest of a line waits for the next."""
    asked: list[tuple[str, bool]] = []
    lines = iter(["secret", "one two  three", "abc", "\\n $(id)"])

    def answer(prompt: str, password: bool) -> str:
        asked.append((prompt, password))
        return next(lines)

    code = """\
read -rsp 'Password: ' word; echo "[$word]"
read -a words; echo "${#words[@]} ${words[2]}"
read -n 1 first; read rest; echo "$first-$rest"
read -r raw; echo "[$raw]"
"""
    said = run(code, on_input=answer)
    assert said.stdout == "[secret]\n3 three\na-bc\n[\\n $(id)]\n"
    assert asked == [("Password: ", True), ("", False), ("", False), ("", False)]


def test_read_from_elsewhere_asks_nobody(run) -> None:
    """`read` from a pipe, a file or a here-string is the builtin, and programs find an empty input."""
    code = "printf 'a\\nb\\n' | while read x; do echo got $x; done; read y <<<there; echo $y; cat; echo end"
    assert run(code, allow_input=True).stdout == "got a\ngot b\nthere\nend\n"


def test_what_is_left_of_input_goes_with_its_run(run) -> None:
    """The rest of a line that nobody read is not the next run's input, and never code."""
    run("read -n 1 first", on_input=lambda *_: "x; echo injected")
    said = run('read line; echo "[$line]"', on_input=lambda *_: "fresh")
    assert said.stdout == "[fresh]\n"


def test_large_code_and_large_variables(run) -> None:
    """Code of a megabyte and variables of a hundred kilobytes come whole."""
    code = f"text='{'x' * 1_000_000}'\necho ${{#text}}"
    assert run(code).stdout == "1000000\n"
    value = "é'\n" * 30_000
    assert run('printf %s "$BIG" | wc -c', env_vars={"BIG": value}).stdout.strip() == str(
        len(value.encode())
    )


def test_code_with_a_nul(run) -> None:
    """Code that no shell can read is a syntax error, and nothing of it runs."""
    failed = run("echo before\0")
    assert (failed.outcome, failed.stdout) == ("RAISED", "")
    assert failed.error is not None
    assert failed.error.name == "SyntaxError"
    assert run("echo on").stdout == "on\n"


@pytest.mark.parametrize("fd", [59, 60, 61, 62, 63])
def test_code_that_closes_the_shells_own_descriptors(
    run, client: CodeContextClient, context: CodeContext, fd: int
) -> None:
    """A shell without its own descriptors works or fails its context; no run hangs, and a restart helps."""
    run(f"exec {fd}>&-")
    state = client.get_code_context(context).state
    if state != "FAILED":
        assert run("read -t 1 x; echo on").outcome in {"SUCCEEDED", "RAISED", "CRASHED"}
    client.restart_code_context(context)
    assert run("echo on").stdout == "on\n"


def test_what_programs_inherit(run) -> None:
    """Programs get nothing that leads to the worker: neither its channel nor the shell's socket."""
    links = run("for fd in $(ls /proc/self/fd); do readlink /proc/self/fd/$fd; done").stdout
    assert "socket" not in links


def test_programs_have_the_usual_signals(run) -> None:
    """A program whose reader has gone ends in silence, as in any shell, and SIGINT finds programs."""
    said = run("yes | head -n 1; echo ${PIPESTATUS[0]}")
    assert (said.stdout, said.stderr) == ("y\n141\n", "")
    ignored = run("grep SigIgn /proc/self/status").stdout.split()[1]
    assert int(ignored, 16) & 0b1000000000010 == 0  # SIGINT and SIGPIPE


def test_what_bash_can_not_do(client: CodeContextClient, context: CodeContext) -> None:
    """Completions, inspections and forks are refused with a reason, and GetServerInfo lists none of them."""
    (info,) = (each for each in client.get_server_info().runtimes if each.language == "bash")
    assert set(info.capabilities) == {"interrupt", "input", "environment"}
    assert info.version
    for ask in (client.complete_code, client.inspect_code):
        with pytest.raises(CodeContextError, match="bash contexts can't") as caught:
            ask(context, "ec", 2)
        assert caught.value.reason == "NOT_IMPLEMENTED"
    with pytest.raises(ForkUnsupportedError):
        client.fork_code_context(context)


def test_the_pool_is_filled_again(server: ServerProcess, client: CodeContextClient) -> None:
    """More creates than the pool has all get a shell of their own, and then the pool is full again."""
    contexts = [client.create_code_context("bash") for _ in range(6)]
    for number, each in enumerate(contexts):
        client.run_code(f"mine={number}", context=each)
    told = [client.run_code("echo $mine", context=each).stdout for each in contexts]
    assert told == [f"{number}\n" for number in range(6)]
    for each in contexts:
        client.delete_code_context(each)

    def full() -> bool:
        (info,) = (each for each in client.get_server_info().runtimes if each.language == "bash")
        return info.pool_ready == info.pool_size

    until(full)
