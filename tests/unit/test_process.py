"""How the server ends an interpreter's process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from codecontext_service.processes.process import Process

HOLD = "import signal; print(flush=True); signal.pause()"


async def test_a_process_may_be_killed_again_before_and_after_its_end() -> None:
    """It ends, and asking again does no harm, not even once nothing is known of it any more."""
    command = [sys.executable, "-c", HOLD]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:  # noqa: ASYNC220  # nothing else runs
        assert child.stdout is not None
        child.stdout.readline()
        process = Process(child.pid, os.pidfd_open(child.pid))
        process.kill()
        process.kill()
        assert child.wait(60) == -signal.SIGKILL
        process.kill()
        process.expect_no_report()
        await process.ended
        process.close()
        process.kill()
