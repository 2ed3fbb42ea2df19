"""The tests' side of an arena."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from support.machine import why_no_landlock, why_no_namespaces

from .modes import Mode

_TESTS = Path(__file__).parents[1]
_PROOFS = {"namespaces": why_no_namespaces, "landlock": why_no_landlock}


class Unable(Exception):
    """This machine can't do something; the text says what, and `proof` why it can't, if anything shows that."""

    def __init__(self, what: str, proof: str = "") -> None:
        super().__init__(what)
        self.proof = proof


class Arena:
    """A process that has entered an arena, with a server in it: see `driver.py`."""

    def __init__(self, mode: Mode, log: Path) -> None:
        """Starts it, and waits until the server is there.

        Args:
            mode: How the server is run.
            log: Where its standard error goes.

        Raises:
            Unable: This machine can't have it.
        """
        if mode.root and os.getuid():
            raise Unable("only root can run a server as root", proof="this is not root")
        self.mode = mode
        self._log = log
        with log.open("wb") as error:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "security.driver", mode.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=error,
                env={**os.environ, "PYTHONPATH": str(_TESTS)},
                text=True,
                bufsize=1,
            )
        greeting = self._answer()
        if "unable" in greeting:
            self.close()
            raise Unable(greeting["unable"], _PROOFS[greeting["needs"]]())
        self.tier: str = greeting["tier"]
        self.guarantees = frozenset(greeting["guarantees"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.close()
            raise RuntimeError(f"the arena has ended: {self._log.read_text(errors='replace')}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def order(self, verb: str, name: str) -> dict[str, Any]:
        """Has something done there.

        Args:
            verb: `attempt`, `proof` or `chore`.
            name: Of what.

        Returns:
            How it went.

        Raises:
            Unable: It can't be done there.
            RuntimeError: Something went wrong that is no answer.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({verb: name}) + "\n")
        answer = self._answer()
        if "unable" in answer:
            raise Unable(answer["unable"])
        if "fault" in answer:
            raise RuntimeError(answer["fault"])
        return answer

    def close(self) -> None:
        """Ends it, with everything in it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(60)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()

    def __enter__(self) -> Arena:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
