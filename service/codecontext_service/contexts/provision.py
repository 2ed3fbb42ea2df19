"""Interpreters for contexts: fresh, configured, and within the time that a create may take."""

from __future__ import annotations

import asyncio

from codecontext_service.domain.errors import FieldViolation, InvalidArgument, RuntimeUnavailable
from codecontext_service.domain.limits import Limits
from codecontext_service.domain.network import Network
from codecontext_service.processes.bootstrap import clean_environment
from codecontext_service.runtimes.base import (
    Interpreter,
    InterpreterError,
    Runtime,
    Setup,
    WorkingDirectoryError,
)

from .context import Context


async def provide(context: Context, timeout_s: float) -> Interpreter:
    """Starts an interpreter for a context, with its working directory and environment.

    Args:
        context: Whose options hold.
        timeout_s: How long it may take, in seconds.

    Returns:
        The interpreter, ready to run. A caller that is cancelled leaves none behind.

    Raises:
        InvalidArgument: It can't work in the directory.
        RuntimeUnavailable: None could be started.
    """
    options = context.options
    try:
        async with asyncio.timeout(timeout_s):
            setup = _setup(context)
            interpreter = await options.runtime.acquire(context.home, setup)
            try:
                await interpreter.configure(setup)
            except BaseException:
                _discard(interpreter)
                raise
    except WorkingDirectoryError as error:
        raise InvalidArgument(FieldViolation("cwd", f"{options.cwd}: {error}")) from error
    except (InterpreterError, TimeoutError) as error:
        name = options.runtime.config.name
        why = str(error) or options.runtime.failure or "it took too long"
        raise RuntimeUnavailable(
            f"no {name} interpreter could be started: {why}", runtime=name
        ) from error
    return interpreter


def usual_setup(runtime: Runtime, workspace: str, limits: Limits) -> Setup:
    """Returns what a context is configured with that asks for nothing of its own.

    Args:
        runtime: Its runtime.
        workspace: Its sandbox's workspace.
        limits: The server's defaults.
    """
    return Setup(workspace, _environment(runtime, workspace, Network.NONE), limits)


def _setup(context: Context) -> Setup:
    options = context.options
    network = context.sandbox.options.network
    environment = _environment(options.runtime, context.sandbox.workspace, network)
    if context.sandbox.temporary is not None:
        environment["TMPDIR"] = context.sandbox.temporary
    return Setup(options.cwd, environment | dict(options.env), options.limits)


def _environment(runtime: Runtime, workspace: str, network: Network) -> dict[str, str]:
    base = clean_environment(runtime.config.interpreter)
    extra = {
        "HOME": workspace,
        "CODECONTEXT_WORKSPACE": workspace,
        # A sandbox's own user has no name in the machine's list.
        "USER": "sandbox",
        "LOGNAME": "sandbox",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        # By default each context's first figure would bring 5 MB of JavaScript.
        "PLOTLY_RENDERER": "plotly_mimetype",
        # What pip installs goes to the sandbox, and not to the environment of the runtime.
        "PIP_PREFIX": f"{workspace}/.local",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    if network is Network.NONE:
        extra["PIP_NO_INDEX"] = "1"  # it would look for one for long
    return base | extra


def _discard(interpreter: Interpreter) -> None:
    interpreter.end()
    interpreter.vacated.add_done_callback(lambda vacated: interpreter.close())
