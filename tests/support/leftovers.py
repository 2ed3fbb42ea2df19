"""What a context may have started, and what its end must end."""

from __future__ import annotations

from codecontext import CodeContext, CodeContextClient, Outcome

_PIPE = "import os, signal, subprocess\nready, told = os.pipe()\n"
_DAEMON = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in {ignored}:
            signal.signal(number, signal.SIG_IGN)
        os.write(told, b'x')
        while True:
            signal.pause()
    os._exit(0)
"""
_STARTED = "\nos.read(ready, 1)\nprint('begun', flush=True)"

LEFTOVERS = {
    "daemon": _DAEMON.format(ignored="()"),
    "deaf daemon": _DAEMON.format(
        ignored="set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}"
    ),
    "stopped child": """
if os.fork() == 0:
    os.write(told, b'x')
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(0)
""",
    "50 children": """
children = [
    subprocess.Popen(['sleep', '1000'], start_new_session=bool(n % 2)) for n in range(50)
]
os.write(told, b'x')
""",
    "fork loop": """
for number in range(4):
    if os.fork() == 0:
        os.write(told, b'x')
        while True:
            if os.fork():
                os._exit(0)
            if number % 2:
                os.setsid()
""",
    "zombies": """
for _ in range(20):
    if os.fork() == 0:
        os._exit(0)
os.write(told, b'x')
""",
}


def start(client: CodeContextClient, context: CodeContext, leftover: str) -> None:
    """Has a context start something that lives on."""
    run = client.run_code(_PIPE + LEFTOVERS[leftover] + _STARTED, context=context)
    assert run.outcome is Outcome.SUCCEEDED, run.error
