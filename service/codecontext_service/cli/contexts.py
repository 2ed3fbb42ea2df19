"""`create`, `ls`, `rm`, `fork`, `interrupt` and `restart`: contexts and what becomes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from codecontext_service.cli import exits
from codecontext_service.cli.failures import connected, refuse, report, say
from codecontext_service.cli.options import (
    CLIENT_DEFAULTS,
    LANGUAGE,
    NAME_VALUE,
    ClientOptions,
    duration,
    pairs,
)
from codecontext_service.cli.output import age, write, write_json, write_table
from codecontext_service.units import parse_size

if TYPE_CHECKING:
    from codecontext import CodeContext, ResourceLimits

State = Literal["STARTING", "IDLE", "EXECUTING", "DELETING", "FAILED"]


def create(
    *,
    language: Annotated[str | None, LANGUAGE] = None,
    runtime: str | None = None,
    cwd: str | None = None,
    env: Annotated[list[str] | None, NAME_VALUE] = None,
    label: Annotated[list[str] | None, NAME_VALUE] = None,
    sandbox: str | None = None,
    idle_timeout: str | None = None,
    ttl: str | None = None,
    memory: str | None = None,
    cpu_time: str | None = None,
    cpus: float | None = None,
    client: ClientOptions = CLIENT_DEFAULTS,
) -> int:
    """Create a context and print its id.

    Args:
        language: Its language; `python` if neither this nor --runtime is given.
        runtime: Its runtime, by name: `codecontext info` lists them.
        cwd: Its working directory: absolute, and there on the server.
        env: An environment variable of its interpreter; may be given several times.
        label: A label to find it by; may be given several times.
        sandbox: The sandbox to live in, by id; without it the context gets a private one.
        idle_timeout: Delete it when nothing ran in it for this long: seconds, or 10m, 1h; 0 is
            never.
        ttl: Delete it this long after its creation, whatever it does; 0 is never.
        memory: Memory that it may use: bytes, or 512MiB, 2GiB.
        cpu_time: CPU time that it may use in all its life: seconds, or 10m.
        cpus: Share of processors: 1.0 is one whole core.
        client: How to reach the server.
    """
    if language and runtime:
        refuse("give either --language or --runtime: a runtime has a language")
    env_vars = pairs(env, "--env")
    labels = pairs(label, "--label")
    idle_timeout_s = duration(idle_timeout, "--idle-timeout")
    ttl_s = duration(ttl, "--ttl")
    limits = _limits(memory, cpu_time, cpus)
    with connected(client) as connection:
        context = connection.create_code_context(
            language,
            runtime=runtime,
            cwd=cwd,
            env_vars=env_vars,
            labels=labels,
            sandbox_id=sandbox,
            idle_timeout=idle_timeout_s,
            ttl=ttl_s,
            resource_limits=limits,
        )
    if client.json:
        write_json(context)
    else:
        write(context.id)
    return exits.OK


def ls(
    *,
    language: Annotated[str | None, LANGUAGE] = None,
    state: State | None = None,
    sandbox: str | None = None,
    label: Annotated[list[str] | None, NAME_VALUE] = None,
    quiet: Annotated[bool, Parameter(name=("--quiet", "-q"), negative=())] = False,
    client: ClientOptions = CLIENT_DEFAULTS,
) -> int:
    """List contexts, the oldest first. With --json: one object on each line.

    Args:
        language: Only those of this language.
        state: Only those in this state.
        sandbox: Only those in this sandbox, by id.
        label: Only those that have this label; may be given several times, then all must hold.
        quiet: Print the ids alone, one on each line.
        client: How to reach the server.
    """
    labels = pairs(label, "--label")
    with connected(client) as connection:
        listing = connection.list_code_contexts(
            language=language, state=state, sandbox_id=sandbox, labels=labels
        )
        contexts = list(listing)
    if listing.unreachable:
        say(f"missing are those of the hosts {', '.join(sorted(listing.unreachable))}")
    if client.json:
        for context in contexts:
            write_json(context)
    elif quiet:
        for context in contexts:
            write(context.id)
    else:
        head = ("ID", "RUNTIME", "STATE", "RUNS", "QUEUED", "AGE", "EXPIRES", "LABELS")
        write_table(head, [_row(context) for context in contexts])
    return exits.OK


def rm(
    *ids: str,
    force: Annotated[bool, Parameter(name=("--force", "-f"), negative=())] = False,
    all: Annotated[bool, Parameter(name=("--all", "-a"), negative=())] = False,  # noqa: A002  # the flag's name
    client: ClientOptions = CLIENT_DEFAULTS,
) -> int:
    """Delete contexts; when this succeeds, every process and file of theirs is gone.

    After a failure it goes on with the others, and the exit status is 3. Prints the ids that it
    deleted.

    Args:
        ids: The contexts' ids.
        force: End what runs in them; without it, a context that runs code is left alone.
        all: Delete all contexts on the server that you may list.
        client: How to reach the server.
    """
    if bool(ids) == all:
        refuse("give the ids of contexts, or --all alone" if all else "give an id, or --all")
    from codecontext import CodeContextError, ContextNotFoundError

    failed = False
    with connected(client) as connection:
        wanted = [context.id for context in connection.list_code_contexts()] if all else ids
        for context_id in wanted:
            try:
                connection.delete_code_context(context_id, force=force)
            except CodeContextError as error:
                if all and isinstance(error, ContextNotFoundError):
                    continue  # went by itself meanwhile
                report(error, client)
                failed = True
                continue
            if client.json:
                write_json({"deleted": context_id})
            else:
                write(context_id)
    return exits.SERVICE_FAILED if failed else exits.OK


def fork(
    context_id: str,
    /,
    *,
    count: int = 1,
    label: Annotated[list[str] | None, NAME_VALUE] = None,
    idle_timeout: str | None = None,
    ttl: str | None = None,
    memory: str | None = None,
    cpu_time: str | None = None,
    cpus: float | None = None,
    allow_threads: Annotated[bool, Parameter(negative=())] = False,
    client: ClientOptions = CLIENT_DEFAULTS,
) -> int:
    """Copy an idle context with all its state, and print the ids of the copies.

    The copies share the files of the context, and live on by themselves.

    Args:
        context_id: The context's id.
        count: How many copies, 1 to 64.
        label: A label of the copies; may be given several times.
        idle_timeout: As in `create`; that of the context by default.
        ttl: As in `create`, from now on; that of the context by default.
        memory: As in `create`; that of the context by default.
        cpu_time: As in `create`; that of the context by default.
        cpus: As in `create`; that of the context by default.
        allow_threads: Copy it although it has threads, which the copies will not have.
        client: How to reach the server.
    """
    labels = pairs(label, "--label")
    idle_timeout_s = duration(idle_timeout, "--idle-timeout")
    ttl_s = duration(ttl, "--ttl")
    limits = _limits(memory, cpu_time, cpus)
    if count < 1:  # for the service 0 is what was not given
        refuse("--count: must be 1 or more")
    with connected(client) as connection:
        forks = connection.fork_code_context(
            context_id,
            count=count,
            labels=labels,
            idle_timeout=idle_timeout_s,
            ttl=ttl_s,
            resource_limits=limits,
            allow_threads=allow_threads,
        )
    if forks.lost_threads:
        say(f"without the threads {', '.join(forks.lost_threads)}")
    for each in forks:
        if client.json:
            write_json(each)
        else:
            write(each.id)
    return exits.OK


def interrupt(
    context_id: str,
    /,
    *,
    execution: str | None = None,
    client: ClientOptions = CLIENT_DEFAULTS,
) -> int:
    """Stop what a context runs, and keep its state. Prints what was stopped.

    Args:
        context_id: The context's id.
        execution: Stop this execution, running or queued, instead of what runs now.
        client: How to reach the server.
    """
    with connected(client) as connection:
        stopped = connection.interrupt_code_context(context_id, execution_id=execution)
    if client.json:
        write_json(stopped)
    elif stopped.execution_id:
        lost = "" if stopped.state_kept else "; the state is lost"
        write(f"{stopped.execution_id} ended as {stopped.outcome}{lost}")
    else:
        write("nothing runs")
    return exits.OK


def restart(context_id: str, /, *, client: ClientOptions = CLIENT_DEFAULTS) -> int:
    """Give a context a fresh interpreter: its state is lost, its id and its files stay.

    Args:
        context_id: The context's id.
        client: How to reach the server.
    """
    with connected(client) as connection:
        context = connection.restart_code_context(context_id)
    if client.json:
        write_json(context)
    else:
        write(context.id)
    return exits.OK


def _limits(memory: str | None, cpu_time: str | None, cpus: float | None) -> ResourceLimits | None:
    if memory is None and cpu_time is None and cpus is None:
        return None
    try:
        memory_bytes = parse_size(memory) if memory is not None else None
    except ValueError as error:
        refuse(f"--memory: {error}")
    cpu_time_s = duration(cpu_time, "--cpu-time")
    from codecontext import ResourceLimits

    return ResourceLimits(memory_bytes=memory_bytes, cpu_time=cpu_time_s, cpus=cpus)


def _row(context: CodeContext) -> tuple[str, ...]:
    return (
        context.id,
        context.runtime,
        str(context.state),
        str(context.execution_count),
        str(context.queued_executions),
        age(context.create_time),
        f"in {age(context.expire_time)}" if context.expire_time else "-",
        " ".join(f"{key}={value}" for key, value in sorted(context.labels.items())),
    )
