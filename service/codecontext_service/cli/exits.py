"""What the exit status says. Programs rely on these numbers."""

from __future__ import annotations

OK = 0
"""All went well; the code that was run succeeded."""

CODE_FAILED = 1
"""The code raised, crashed, ran out of memory, or was interrupted by someone else."""

USAGE = 2
"""The command line or the configuration is wrong; nothing was done."""

SERVICE_FAILED = 3
"""The service can't be reached, refused the call, or ended the run itself (deleted context,
restart, stopped server)."""

TIMED_OUT = 124
"""The code ran into its `--timeout`, as with timeout(1)."""

INTERRUPTED = 130
"""Ctrl-C stopped it, as in a shell."""

PIPE_CLOSED = 141
"""The reader of the output went away, as in a shell."""

_OF_OUTCOMES = {
    "SUCCEEDED": OK,
    "RAISED": CODE_FAILED,
    "INTERRUPTED": CODE_FAILED,
    "CRASHED": CODE_FAILED,
    "OUT_OF_MEMORY": CODE_FAILED,
    "TIMED_OUT": TIMED_OUT,
}


def of_outcome(outcome: str) -> int:
    """The exit status for how an execution ended.

    Args:
        outcome: The outcome's name without its prefix, for instance `RAISED`.
    """
    return _OF_OUTCOMES.get(outcome, SERVICE_FAILED)
