"""How the server ends an interpreter's process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from codecontext_service.processes.process import Process

HOLD = "import signal; held = bytearray(64 << 20); print(flush=True); signal.pause()"


async def test_a_process_is_killed_with_help_however_often_it_is_asked() -> None:
    """A process with much memory ends, and asking again before and after its end does no harm."""
    command = [sys.executable, "-c", HOLD]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:  # noqa: ASYNC220  # nothing else runs
        assert child.stdout is not None
        child.stdout.readline()
        process = Process(child.pid, os.pidfd_open(child.pid))
        process.kill_fast()
        process.kill_fast()
        assert child.wait(60) == -signal.SIGKILL
        process.kill_fast()
        process.expect_no_report()
        await process.ended
        process.close()
        process.kill_fast()
