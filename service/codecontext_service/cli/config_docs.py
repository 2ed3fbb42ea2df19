"""`config-docs`: the reference of the server's options, made from `Config`."""

from __future__ import annotations

from codecontext_service.cli.output import write
from codecontext_service.config import Config
from codecontext_service.config_loading import RUNTIME_SHORTCUTS, Option, options_of
from codecontext_service.runtime_config import RuntimeConfig

_HEAD = """\
# Configuration of the server

<!-- Generated: `codecontext config-docs > docs/configuration.md`. Edit config.py or runtime_config.py. -->

`codecontext serve` takes each option from the first of these that sets it:

1. its flag: `--max-contexts 10`
2. its environment variable: `CODECONTEXT_MAX_CONTEXTS=10`
3. the TOML file that `--config` or `CODECONTEXT_CONFIG` names: `max_contexts = 10`
4. its default

Times are seconds; as text they may have units: `500ms`, `10m`, `1h30m`, `2d`. Sizes are bytes; as
text they may have units: `64KiB`, `512MiB`, `2GiB`. In flags and variables several values are
separated by commas; flags may be repeated instead, and those of true or false have an opposite
(`--no-insecure`). In the file, texts are quoted and lists are `["a", "b"]`.

A value that can't be used ends the server with status 2 and a line that names the option. So does
an unknown key in the file. Environment variables that begin with `CODECONTEXT_` and name no option
are left alone: Kubernetes sets some for a service of that name.

```toml
listen = ["127.0.0.1:50051", "unix:/run/codecontext/socket"]
idle_timeout_s = "30m"
max_code_bytes = "2MiB"

[runtimes.python]        # changes the built-in one
pool_size = 8

[runtimes.science]       # adds another one
interpreter = "/opt/science/bin/python"
preload = ["numpy", "scipy"]
```

## Options
"""

_RUNTIMES = """\
## Runtimes

Each runtime is a table `[runtimes.NAME]` of the file. A table of a built-in runtime's name
(`python`) changes that one, any other adds one after the built-in ones. `--pool-size` and
`--preload` (and `CODECONTEXT_POOL_SIZE`, `CODECONTEXT_PRELOAD`) set these options of the default
Python runtime: the first one whose language is `python`.
"""


def render() -> str:
    """The reference as Markdown, with a newline at its end."""
    parts = [_HEAD]
    parts += [_entry(option, flag=True) for option in options_of(Config)]
    parts.append(_RUNTIMES)
    for option in options_of(RuntimeConfig):
        parts.append(_entry(option, flag=option.name in RUNTIME_SHORTCUTS))
    return "\n".join(parts)


def config_docs() -> int:
    """Print the reference of the server's options."""
    write(render().removesuffix("\n"))
    return 0


def _entry(option: Option, *, flag: bool) -> str:
    default = option.default_text
    shown = default if default.startswith("the ") else f"`{default}`" if default else "empty"
    names = f" · `{option.flag}` · `{option.env}`" if flag else ""
    return f"### `{option.name}`\n\nDefault: {shown}{names}\n\n{option.description}\n"
