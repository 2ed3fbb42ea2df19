"""The shortest use: one context, its state, and an error.

Start a server first (`make serve`), or give the address of one: `python quickstart.py HOST:PORT`.
"""

from __future__ import annotations

import sys

from codecontext import CodeContextClient


def main(target: str) -> None:
    """Runs some code."""
    with CodeContextClient(target) as client:
        context = client.create_code_context()
        client.run_code("x = 20", context=context)
        execution = client.run_code("print('working'); x + 22", context=context)
        print(execution.outcome.name, execution.stdout.strip(), execution.results[0].text)

        failed = client.run_code("x / 0", context=context)
        print(failed.outcome.name, failed.error)
        client.delete_code_context(context)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051")
