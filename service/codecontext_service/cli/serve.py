"""`serve`: runs the server. Its options are those of `Config`."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from codecontext_service.cli.failures import refuse
from codecontext_service.config import Config
from codecontext_service.config_error import ConfigError
from codecontext_service.config_loading import (
    RUNTIME_SHORTCUTS,
    Option,
    load_config,
    options_of,
)
from codecontext_service.runtime_config import RuntimeConfig

_GROUP = Group("Options", sort_key=1)
_RUNTIME_GROUP = Group("Default Python runtime", sort_key=2)


def _metavar(option: Option) -> str | None:
    if option.name.endswith("_s"):
        return "TIME"
    if option.name.endswith("_bytes"):
        return "SIZE"
    if option.type is int:
        return "COUNT"
    return {"listen": "ADDRESS", "preload": "A,B"}.get(option.name)


def _field(option: Option, group: Group) -> tuple[str, Any, Any]:
    kind: Any = {bool: bool, tuple[str, ...]: tuple[str, ...]}.get(option.type, str)  # type: ignore[call-overload]  # types as keys
    if group is _RUNTIME_GROUP:
        kind = str
    parameter = Parameter(
        name=option.flag,
        help=option.description,
        group=group,
        negative=None if kind is bool else (),
        metavar=_metavar(option),
        show_default=lambda _: option.default_text or '""',
    )
    return option.name, Annotated[kind | None, parameter], dataclasses.field(default=None)


# Everything is text here, and None where the flag is not given: config_loading reads flags and the
# environment by the same rules.
ServeFlags: Any = dataclasses.make_dataclass(
    "ServeFlags",
    [
        *(_field(option, _GROUP) for option in options_of(Config)),
        *(
            _field(option, _RUNTIME_GROUP)
            for option in options_of(RuntimeConfig)
            if option.name in RUNTIME_SHORTCUTS
        ),
    ],
    frozen=True,
    namespace={"__module__": __name__},
)
NO_FLAGS = ServeFlags()


def serve(
    *,
    config: Path | None = None,
    flags: Annotated[ServeFlags, Parameter(name="*")] = NO_FLAGS,
) -> int:
    """Run the server until SIGTERM or Ctrl-C; a second one ends it at once.

    Each option may also be set in the environment (`CODECONTEXT_MAX_CONTEXTS` for --max-contexts)
    and in a TOML file (`max_contexts = 10`), which has the runtimes too (`[runtimes.NAME]`); flags
    win over the environment, and the environment over the file. Times are seconds, or 10m, 1h30m;
    sizes are bytes, or 64KiB, 2GiB.

    Args:
        config: The TOML file; CODECONTEXT_CONFIG names it too.
        flags: The options of `Config`, as given.
    """
    try:
        loaded = load_config(flags=vars(flags), environ=os.environ, file=config)
    except ConfigError as error:
        refuse(str(error))

    from codecontext_service.logs import configure_logging
    from codecontext_service.server import app

    configure_logging(loaded.log_level, loaded.log_format)
    status: int = app.serve(loaded)
    return status
