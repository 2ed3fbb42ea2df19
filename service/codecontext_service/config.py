"""Every option of the server, its default and its meaning: the one place that documents them."""

from __future__ import annotations

import ipaddress
import resource
from dataclasses import dataclass, field, fields, replace

from codecontext_service.domain.limits import MIN_CPUS, MIN_OPEN_FILES, Limits

from .config_error import ConfigError
from .runtime_config import RuntimeConfig, built_in_runtimes

ISOLATIONS = ("auto", "cell", "uid", "landlock", "strict", "none")
"""What may be asked for of how contexts are contained."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The server's options. Times are in seconds; 0 means none where the text says so."""

    listen: tuple[str, ...] = ("127.0.0.1:50051",)
    """Addresses to listen on: `host:port` (port 0 takes a free one, and the log says which) or
    `unix:/path`. May be given several times."""

    insecure: bool = False
    """Allow a TCP address that is not loopback without credentials: whoever reaches it can run
    code."""

    state_dir: str = ""
    """Directory for the sandboxes' workspaces; empty takes a fresh one in the system's temporary
    directory, which goes with the server."""

    isolation: str = "auto"
    """How contexts are contained: `auto` takes the strongest of the tiers `cell`, `uid` and `landlock` that
    this machine allows, and does not start without any; each of these names takes that tier or does not
    start; `strict` takes cells, and does not start either without all guarantees and version 6 of Landlock;
    `none` contains nothing but processes, and listens on loopback and Unix sockets alone."""

    accept_no_isolation: bool = False
    """With the isolation `auto`, accept `none` where this machine allows nothing better: code then has
    all the rights of the server. Who asks for `none` by name has accepted it."""

    require: tuple[str, ...] = ()
    """Guarantees without which the server does not start, by name; `codecontext doctor` lists them."""

    read_only_paths: tuple[str, ...] = ()
    """Directories and files of the machine that code may read in cells, under their own names. It could
    connect to Unix sockets in them: the server does not start if it is to listen on one."""

    first_uid: int = 220_000
    """The first of the 65,536 users that sandboxes get when the server runs as root; nothing else may
    run under them. Servers on one machine may have the same: each takes as many of them as it may need."""

    allow_host_network: bool = False
    """Let callers give code the machine's own network, by the network policy HOST: its loopback, the
    services on it, and on kernels older than 6.12 the machine's abstract Unix sockets too. Without this
    code in cells has a loopback of its own and nothing else."""

    host_network_reaches_listeners: bool = False
    """With `allow_host_network`, accept TCP listeners of this server: code that has the machine's
    network can call them, and do to every context all that any caller may. Without this such a server
    does not start; it may listen on `unix:` addresses, which no code in cells reaches."""

    pid_namespaces: bool = True
    """With the isolation `none`, give each context a pid namespace of its own where the machine
    allows that. Without them its processes are held together by a keeper."""

    max_contexts: int = 1000
    """Contexts that may be there at one time."""

    max_sandboxes: int = 1000
    """Sandboxes of `CreateSandbox` that may be there at one time. Those that contexts get by themselves
    are not counted."""

    max_queued_executions: int = 64
    """Runs that may wait in one context."""

    max_code_bytes: int = 1 << 20
    """Bytes of code that one run may have."""

    max_receive_message_bytes: int = 16 << 20
    """Bytes that a message to the server may have; past them gRPC itself refuses."""

    idle_timeout_s: float = 3600.0
    """Delete a context when nothing ran in it for this long, unless it was created with another
    idle timeout; 0 means never."""

    ttl_s: float = 0.0
    """Delete a context this long after its creation, unless it was created with another time to
    live; 0 means never."""

    run_timeout_s: float = 0.0
    """End a run after this long, unless it asks for another timeout; 0 means no limit."""

    interrupt_grace_s: float = 5.0
    """How long code may ignore an interrupt before its interpreter is killed."""

    drain_grace_s: float = 30.0
    """How long running executions may go on after SIGTERM."""

    delete_deadline_s: float = 5.0
    """How long a delete waits for the end of all processes before it answers UNAVAILABLE and goes
    on by itself."""

    create_deadline_s: float = 30.0
    """How long a create waits for an interpreter before it answers UNAVAILABLE."""

    max_output_bytes: int = 1 << 30
    """Bytes that one execution may write; what comes after them is dropped and counted."""

    journal_bytes: int = 8 << 20
    """Bytes of events that one execution's journal holds."""

    journal_events: int = 10_000
    """Events that one execution's journal holds."""

    journals_bytes: int = 256 << 20
    """Bytes that the journals of all finished executions hold together; the oldest go first."""

    finished_executions: int = 100
    """Finished executions that each context keeps for late readers."""

    finished_execution_s: float = 600.0
    """How long a finished execution is kept for late readers."""

    deleted_ids: int = 100_000
    """How many deleted ids are remembered."""

    deleted_ids_s: float = 86_400.0
    """How long a deleted id is remembered."""

    memory_bytes: int = 2 << 30
    """Memory that a context's processes may use together unless it asks for another limit; past it
    they are ended. 0 means no limit."""

    max_memory_bytes: int = 0
    """The most memory that a context may ask for; 0 means any."""

    cpu_time_s: float = 0.0
    """CPU time that a context's processes may use in all its life unless it asks for another limit;
    past it they are ended. 0 means no limit."""

    max_cpu_time_s: float = 0.0
    """The most CPU time that a context may ask for; 0 means any."""

    cpus: float = 0.0
    """Share of processors that a context's processes may have together unless it asks for another
    limit: 1.0 is one whole core. 0 means no limit. Only where cells have control groups."""

    max_cpus: float = 0.0
    """The largest share of processors that a context may ask for; 0 means any."""

    open_files: int = 1024
    """Files that each process may have open unless its context asks for another limit."""

    max_open_files: int = 1 << 16
    """The most open files that a context may ask for; no more than the server itself may have."""

    file_size_bytes: int = 0
    """The largest file that a process may write unless its context asks for another limit; 0 means
    no limit."""

    max_file_size_bytes: int = 0
    """The largest file that a context may ask for; 0 means any."""
    request_ids: int = 100_000
    """Calls that have ended whose `request_id` is remembered, so that a retry gets the first call's
    answer; past that those that ended first are forgotten, and a retry of them would be a new call."""

    request_ids_bytes: int = 64 << 20
    """Bytes that the answers to these calls hold together; those that ended first go first. Answers to
    runs count nothing here: they are read from the executions that are kept."""

    request_ids_s: float = 3600.0
    """How long the `request_id` of a call is remembered after its end."""

    processes: int = 128
    """Processes and threads that a sandbox may have unless it asks for another limit; in cells only."""

    max_processes: int = 4096
    """The most processes and threads that a sandbox may ask for."""

    workspace_bytes: int = 1 << 30
    """What a sandbox's workspace may hold unless it asks for another limit; in cells only, where it
    is kept in memory."""

    max_workspace_bytes: int = 16 << 30
    """The largest workspace that a sandbox may ask for."""

    workspace_inodes: int = 65_536
    """Files and directories that a sandbox's workspace may hold unless it asks for another limit; in
    cells only."""

    max_workspace_inodes: int = 1 << 20
    """The most files and directories that a sandbox may ask for."""

    log_level: str = "info"
    """The least level that is logged: debug, info, warning or error."""

    log_format: str = "text"
    """How a log line looks: `text` (key=value) or `json`."""

    jupyter_kernels: bool = True
    """Make a runtime `jupyter-NAME` of every kernelspec that is found, where the extra `[jupyter]` is
    installed. Without this only runtimes that name a kernelspec are kernels."""

    jupyter_paths: tuple[str, ...] = ()
    """Directories in whose `kernels` folder kernelspecs are looked for, before those where Jupyter looks:
    `JUPYTER_PATH`, the user's, the environment's and the machine's."""

    runtimes: tuple[RuntimeConfig, ...] = field(default_factory=built_in_runtimes)
    """What contexts can be made from."""

    @property
    def default_limits(self) -> Limits:
        """What a context may use that asks for nothing else."""
        return self._limits("")

    @property
    def max_limits(self) -> Limits:
        """What a context may ask for at most; 0 means any."""
        return self._limits("max_")

    def _limits(self, prefix: str) -> Limits:
        limits = Limits(**{each.name: getattr(self, prefix + each.name) for each in fields(Limits)})
        possible = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        return replace(limits, open_files=min(limits.open_files, possible))

    def check(self) -> None:
        """Checks the values, each for itself and together.

        Raises:
            ConfigError: A value can't be used; the text names the option.
        """
        for name in (
            "max_contexts",
            "max_sandboxes",
            "max_code_bytes",
            "max_receive_message_bytes",
            "journal_events",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: must be 1 or more")
        for name, value in vars(self).items():
            if isinstance(value, int | float) and value < 0:
                raise ConfigError(f"{name}: must not be negative")
        self._check_limits()
        if self.isolation not in ISOLATIONS:
            raise ConfigError(f"isolation: take one of: {', '.join(ISOLATIONS)}")
        if self.isolation == "none":
            self.check_unisolated_listeners()
        for path in self.read_only_paths:
            if not path.startswith("/"):
                raise ConfigError(f"read_only_paths: {path!r} is not absolute")
        if self.journal_bytes < 1 << 16:
            raise ConfigError("journal_bytes: must be 65536 or more")
        if not self.listen:
            raise ConfigError("listen: give at least one address")
        self._check_listeners()
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise ConfigError("log_level: take one of: debug, info, warning, error")
        if self.log_format not in ("text", "json"):
            raise ConfigError("log_format: take one of: text, json")
        if not self.runtimes:
            raise ConfigError("runtimes: give at least one")
        names = [runtime.name for runtime in self.runtimes]
        if len(set(names)) != len(names):
            raise ConfigError("runtimes: each name may be given once")
        for runtime in self.runtimes:
            runtime.check()

    def _check_listeners(self) -> None:
        for address in self.listen:
            _check_address(address, insecure=self.insecure)
        tcp = [address for address in self.listen if not address.startswith("unix:")]
        if self.allow_host_network and tcp and not self.host_network_reaches_listeners:
            raise ConfigError(
                f"allow_host_network: code with the machine's network could call {tcp[0]}, which asks "
                "for no credentials; listen on unix:/path alone, or give "
                "host_network_reaches_listeners (--host-network-reaches-listeners) if that is meant"
            )

    def check_unisolated_listeners(self) -> None:
        """Checks that nobody but this machine's users reaches code that nothing contains.

        Raises:
            ConfigError: Others would.
        """
        for address in self.listen:
            host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
            if not address.startswith("unix:") and not _is_loopback(host):
                raise ConfigError(
                    f"listen: with the isolation none, {address!r} would give whoever reaches it all the "
                    "rights of this server; listen on loopback or unix:/path"
                )

    def _check_limits(self) -> None:
        for name, most in vars(self.max_limits).items():
            if most and getattr(self.default_limits, name) > most:
                raise ConfigError(f"{name}: is more than max_{name}, {most}")
        for name, least in (
            ("open_files", MIN_OPEN_FILES),
            ("max_open_files", MIN_OPEN_FILES),
            ("processes", 1),
            ("workspace_bytes", 1 << 16),
            ("workspace_inodes", 16),
        ):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: must be {least} or more")
        for name in ("cpus", "max_cpus"):
            if 0 < getattr(self, name) < MIN_CPUS:
                raise ConfigError(f"{name}: must be 0, or {MIN_CPUS} or more")


def _check_address(address: str, *, insecure: bool) -> None:
    scheme, colon, path = address.partition(":")
    if scheme == "unix" and colon:
        if not path.startswith("/"):
            raise ConfigError(f"listen: {address!r}: give an absolute path, like unix:/run/socket")
        return
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ConfigError(f"listen: {address!r} is no address; write host:port or unix:/path")
    if not insecure and not _is_loopback(host.removeprefix("[").removesuffix("]")):
        raise ConfigError(
            f"listen: {address!r} is not loopback, and there are no credentials: whoever reaches "
            "it could run code; give insecure (--insecure) if that is meant"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
