"""What is TypeScript's own, beside what holds for JavaScript."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from codecontext import CodeContext, CodeContextClient, Execution


@pytest.fixture
def run(client: CodeContextClient) -> Iterator[object]:
    """Runs code in a fresh TypeScript context."""
    context: CodeContext = client.create_code_context("typescript")

    def run(code: str) -> Execution:
        return client.run_code(code, context=context, timeout=30)

    yield run
    client.delete_code_context(context, force=True)


def test_types_are_stripped(run) -> None:
    """Annotations, interfaces and generics have no effect, and names persist."""
    run("interface Point { x: number }\nconst move = <T extends Point>(p: T): number => p.x + 1")
    assert run("move({ x: 1 } as Point)").text == "2"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("enum Colour { Red, Green }\nColour.Green", "1"),
        ("enum Flag { A = 1 << 0, B = 1 << 1, Both = A | B }\n[Flag.Both, Flag[2]]", "[ 3, 'B' ]"),
        ("enum Word { Yes = 'yes' }\nWord.Yes", "'yes'"),
        ("const enum Size { Small = 4 }\nSize.Small", "4"),
        ("namespace N { export const x: number = 5 }\nN.x", "5"),
        (
            (
                "namespace A.B { export function f(): number { return 1 } }\n"
                "namespace A { export const two = A.B.f() + 1 }\nA.two"
            ),
            "2",
        ),
        (
            (
                "class P { constructor(private x: number, readonly y = 2, public z?: string) {}\n"
                "  sum(): number { return this.x + this.y } }\nnew P(1).sum()"
            ),
            "3",
        ),
        (
            (
                "abstract class Q { abstract f(): number }\n"
                "class R extends Q { override f() { return 6 } }\nnew R().f()"
            ),
            "6",
        ),
        ("import fs = require('fs')\ntypeof fs.readFileSync", "'function'"),
        ("declare const nowhere: number\nlet x!: number; x = <any>7; x! satisfies number", "7"),
        ("function same<T>(x: T): T\nfunction same(x: any) { return x }\nsame<number>(8)", "8"),
    ],
)
def test_what_is_more_than_types(run, code: str, text: str) -> None:
    """What needs code made for it works too: enums, namespaces, parameter properties and the rest."""
    assert run(code).text == text


def test_enums_and_namespaces_persist(run) -> None:
    """Enums, namespaces and classes of one run are there in the next one, and a namespace can be extended."""
    run(
        "enum E { A, B }\nnamespace N { export const x = 5 }\nclass P { constructor(public a: E) {} }"
    )
    assert run("[E[new P(E.B).a], N.x]").text == "[ 'B', 5 ]"
    assert run("namespace N { export const y = 6 }\n[N.x, N.y]").text == "[ 5, 6 ]"


def test_imports(run) -> None:
    """Import statements load values and JSON, whatever types they bring; those of types alone load nothing."""
    run(
        "require('fs').writeFileSync('one.mts', 'export type T = string; export const two: number = 2')"
    )
    run("require('fs').writeFileSync('data.json', '[3]')")
    code = (
        "import type { U } from './missing.mts';\n"
        "import { two, type T } from './one.mts';\n"
        "import './one.mts';\n"
        "import data from './data.json' with { type: 'json' };\n"
        "const named: T = 'x';\n"
        "[two, data[0], named]"
    )
    assert run(code).results[0].json == [2, 3, "x"]


@pytest.mark.parametrize("before", ["let a: number = 1\n", "enum E {\n  A,\n\n  B }\n"])
def test_errors_name_the_line_that_was_written(run, before: str) -> None:
    """The line of an error is that of the code as it was written, where stripping moves lines too."""
    line = before.count("\n") + 2
    raised = run(f"{before}function f(x: number): never {{\n  throw new Error(`${{x}}`) }}\nf(1)")
    assert (raised.error.value, raised.error.line_number) == ("1", line)


def test_an_interrupt_while_types_are_stripped(client: CodeContextClient) -> None:
    """An interrupt while the first types are stripped ends that run, and leaves what strips them whole."""
    for number in range(12):
        context = client.create_code_context("typescript")
        code = "let endless: boolean = true; while (endless) {}"
        stopped = client.run_code(code, context=context, timeout=0.0001 + number / 1000)
        assert (stopped.outcome, stopped.state_kept) == ("TIMED_OUT", True)
        assert client.run_code("2 as number", context=context).text == "2"
        client.delete_code_context(context)


def test_syntax_errors_raise(run) -> None:
    """What can't be parsed ends as RAISED, with its line."""
    unparsed = run("let a: number = 1\nlet b: = 2")
    assert (unparsed.outcome, unparsed.error.name) == ("RAISED", "SyntaxError")
    assert unparsed.error.line_number == 2


def test_stacks_name_the_lines_of_the_code(run) -> None:
    """The `stack` of an error has the lines as they were written, in a later run too, and no frame of ours."""
    moved = "enum A { X }\n\n\nfunction f() { return new Error('x').stack }\nconsole.log(f())"
    assert run(moved).stdout == "Error: x\n    at f (<cell-1>:4:23)\n    at <cell-1>:5:13\n"
    assert (
        run("console.log(f())").stdout
        == "Error: x\n    at f (<cell-1>:4:23)\n    at <cell-2>:1:13\n"
    )
