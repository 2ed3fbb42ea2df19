"""Starts a kernel that runs under Python so that it publishes at once, and drops nothing.

The text of this module goes to `python -c`, in the place of `python -m` in a kernelspec: that Python may be of
another environment, without the service.
"""

import contextlib
import runpy
import sys
from typing import Any

_FLUSH_S = 0.01
"""After what time output is published, in seconds; ipykernel's own is 0.2."""


def _drop_nothing() -> None:
    """Has the first socket that publishes, which is the kernel's, keep what its reader has not taken yet."""
    import zmq

    make = zmq.Context.socket

    def socket(context: Any, kind: int, *args: Any, **options: Any) -> Any:
        made = make(context, kind, *args, **options)
        if kind in (zmq.PUB, zmq.XPUB):
            made.setsockopt(zmq.SNDHWM, 0)
            zmq.Context.socket = make  # the code's own sockets are its own matter
        return made

    zmq.Context.socket = socket


def _publish_at_once() -> None:
    from ipykernel.iostream import OutStream

    OutStream.flush_interval = _FLUSH_S


if __name__ == "__main__":
    for prepare in (_drop_nothing, _publish_at_once):
        with contextlib.suppress(ImportError):  # a kernel may be without
            prepare()
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
