"""Several languages at work on the same files: each context has its own language, and all share a sandbox.

Start a server first (`make serve`), or give the address of one: `python languages.py HOST:PORT`.
"""

from __future__ import annotations

import sys

from codecontext import CodeContextClient

STEPS = (
    ("bash", "printf '%s\\n' 'cups,minutes' 2,4 3,5 1,7 >tea.csv; wc -l <tea.csv"),
    (
        "javascript",
        """\
const { readFileSync, writeFileSync } = require('fs');
const [, ...lines] = readFileSync('tea.csv', 'utf8').trim().split('\\n');
const rows = lines.map((line) => line.split(',').map(Number));
writeFileSync('tea.json', JSON.stringify(rows));
rows""",
    ),
    (
        "typescript",
        """\
const rows: number[][] = JSON.parse(require('fs').readFileSync('tea.json', 'utf8'));
const total = (column: number): number => rows.reduce((sum, row) => sum + row[column], 0);
`${total(0)} cups in ${total(1)} minutes`""",
    ),
    ("python", "import json; sorted(json.load(open('tea.json')))"),
    ("bash", "grep coffee tea.csv"),
)
"""The steps: in which language, and the code. The last one fails: a status other than 0 is Bash's error."""


def main(target: str) -> None:
    """Runs each step in a context of its language, and says what comes of it."""
    with CodeContextClient(target) as client:
        sandbox = client.sandboxes.create(ttl=600)
        try:
            for language, code in STEPS:
                context = client.create_code_context(language, sandbox_id=sandbox)
                execution = client.run_code(code, context=context)
                shown = execution.error or execution.text or execution.stdout.strip()
                print(f"{language}: {execution.outcome.name} {shown}")
        finally:
            client.sandboxes.destroy(sandbox, force=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051")
