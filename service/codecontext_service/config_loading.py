"""Builds the server's configuration: flags over the environment over the TOML file over defaults.

The options are those of `Config` and nothing else: their names, types, defaults and descriptions
are read from the dataclass.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import math
import sys
import tomllib
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from codecontext_service.config import Config
from codecontext_service.config_error import ConfigError
from codecontext_service.runtime_config import RuntimeConfig, built_in_runtimes
from codecontext_service.units import format_duration, parse_duration, parse_size

ENV_PREFIX = "CODECONTEXT_"
"""What the name of each environment variable begins with."""

RUNTIME_SHORTCUTS = ("pool_size", "preload")
"""Options of the default Python runtime that may also be given as flags and in the environment."""

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})

_T = typing.TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option, as its field in the dataclass describes it."""

    name: str
    """The field's name, which is its key in the TOML file too."""

    type: object
    """The field's type."""

    default: object
    """What it is if nobody sets it."""

    description: str
    """The field's docstring, on one line."""

    @property
    def flag(self) -> str:
        """Its flag on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def env(self) -> str:
        """Its environment variable."""
        return ENV_PREFIX + self.name.upper()

    @property
    def repeatable(self) -> bool:
        """Whether it takes several values."""
        return self.type == tuple[str, ...]

    @property
    def default_text(self) -> str:
        """Its default as one would write it; empty if it is."""
        if self.name.endswith("_bytes") and isinstance(self.default, int):
            return _compact_size(self.default)
        if self.name.endswith("_s") and isinstance(self.default, float):
            return format_duration(self.default) if self.default else "0"
        if self.default == sys.executable:
            return "the server's own"
        if isinstance(self.default, tuple):
            return ",".join(map(str, self.default))
        if isinstance(self.default, bool):
            return str(self.default).lower()
        return str(self.default)

    def from_text(self, text: str, source: str) -> object:
        """Reads a value from a flag or the environment.

        Args:
            text: The value; several ones are separated by commas.
            source: Where it comes from, for the error.

        Raises:
            ConfigError: The text is no value of this option.
        """
        try:
            if self.type is bool:
                return _parse_bool(text)
            if self.repeatable:
                return tuple(item.strip() for item in text.split(",") if item.strip())
            if self.type is float:
                return parse_duration(text) if self.name.endswith("_s") else _parse_float(text)
            if self.type is int:
                return parse_size(text) if self.name.endswith("_bytes") else _parse_int(text)
        except ValueError as error:
            raise ConfigError(f"{source}: {error}") from None
        return text

    def from_toml(self, value: object, source: str) -> object:
        """Reads a value from the TOML file: of the type itself, or times and sizes as text.

        Args:
            value: The value as parsed.
            source: Where it comes from, for the error.

        Raises:
            ConfigError: It is no value of this option.
        """
        if self.repeatable and isinstance(value, list):
            if all(isinstance(item, str) for item in value):
                return tuple(value)
        elif self.type in (bool, str) and type(value) is self.type:
            return value
        elif not isinstance(value, bool) and isinstance(value, int | float):
            if self.type is float and math.isfinite(value):
                return float(value)
            if self.type is int and isinstance(value, int):
                return value
        elif isinstance(value, str) and self.name.endswith(("_s", "_bytes")):
            return self.from_text(value, source)
        raise ConfigError(f"{source}: {_show(value)} won't do; give {self._wanted}")

    @property
    def _wanted(self) -> str:
        if self.repeatable:
            return 'a list of strings, like ["…", "…"]'
        if self.name.endswith("_s"):
            return 'seconds, or a text like "10m"'
        if self.name.endswith("_bytes"):
            return 'whole bytes, or a text like "64MiB"'
        return {bool: "true or false", int: "a whole number", float: "a number"}.get(
            typing.cast(type, self.type), "a string in quotes"
        )


def options_of(cls: type[Config | RuntimeConfig]) -> tuple[Option, ...]:
    """The options of a dataclass, in its order; `runtimes` and a runtime's `name` are left out.

    Args:
        cls: The dataclass.
    """
    types = typing.get_type_hints(cls)
    descriptions = _descriptions(cls)
    return tuple(
        Option(
            name=field.name,
            type=types[field.name],
            default=field.default,
            description=descriptions[field.name],
        )
        for field in dataclasses.fields(cls)
        if field.name not in ("name", "runtimes")
    )


def load_config(
    *,
    flags: Mapping[str, str | bool | tuple[str, ...] | None] | None = None,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Config:
    """Builds and checks the configuration.

    Args:
        flags: What the command line gave, by option; None means that it did not.
        environ: The environment. Of its `CODECONTEXT_*` variables those that name no option are
            left
            alone: some belong to the client, and Kubernetes sets its own for a service of that
                name.
        file: The TOML file; without it, the one that `CODECONTEXT_CONFIG` names, if any.

    Raises:
        ConfigError: A value can't be used, or the file can't be read; the text names the option and
            what would be right.
    """
    environ = environ or {}
    if file is None and environ.get(ENV_PREFIX + "CONFIG"):
        file = Path(environ[ENV_PREFIX + "CONFIG"])
    values, runtimes = _read_file(file) if file else ({}, {})
    shortcuts: dict[str, object] = {}
    runtime_options = [
        option for option in options_of(RuntimeConfig) if option.name in RUNTIME_SHORTCUTS
    ]
    for target, options in ((values, options_of(Config)), (shortcuts, runtime_options)):
        for option in options:
            if option.env in environ:
                target[option.name] = option.from_text(environ[option.env], option.env)
            given = (flags or {}).get(option.name)
            if given is not None:
                target[option.name] = _from_flag(option, given)
    if runtimes or shortcuts:
        values["runtimes"] = _runtimes(runtimes, shortcuts)
    config: Config = _construct(Config, values)
    config.check()
    return config


def _from_flag(option: Option, given: str | bool | tuple[str, ...]) -> object:
    if isinstance(given, bool):
        return given
    if isinstance(given, str):
        return option.from_text(given, option.flag)
    parts = [option.from_text(text, option.flag) for text in given]
    return tuple(item for part in parts for item in typing.cast(tuple[str, ...], part))


def _read_file(path: Path) -> tuple[dict[str, object], dict[str, dict[str, object]]]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config: {path} can't be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config: {path} is no valid TOML: {error}") from None
    runtimes = table.pop("runtimes", {})
    if not isinstance(runtimes, dict):
        raise ConfigError(f"{path}: runtimes: write a table for each, like [runtimes.python]")
    values = _read_table(table, options_of(Config), str(path), "")
    options = options_of(RuntimeConfig)
    read = {}
    for name, runtime in runtimes.items():
        if not isinstance(runtime, dict):
            raise ConfigError(f"{path}: runtimes.{name}: write a table, [runtimes.{name}]")
        read[name] = _read_table(runtime, options, str(path), f"runtimes.{name}.")
    return values, read


def _read_table(
    table: dict[str, object], options: tuple[Option, ...], path: str, prefix: str
) -> dict[str, object]:
    known = {option.name: option for option in options}
    values = {}
    for key, value in table.items():
        option = known.get(key)
        if option is None:
            raise ConfigError(
                f"{path}: {prefix}{key}: no such option{_hint(key, prefix, list(known))}"
            )
        values[key] = option.from_toml(value, f"{path}: {prefix}{key}")
    return values


def _hint(key: str, prefix: str, known: list[str]) -> str:
    if not prefix and key in {option.name for option in options_of(RuntimeConfig)}:
        return f"; it belongs to a runtime: [runtimes.python] {key} = …"
    near = get_close_matches(key.replace("-", "_").lower(), known, n=1)
    return f"; did you mean {prefix}{near[0]}?" if near else f"; take one of: {', '.join(known)}"


def _runtimes(
    tables: dict[str, dict[str, object]], shortcuts: dict[str, object]
) -> tuple[RuntimeConfig, ...]:
    # Those of the file change built-in ones of the same name, and come after them.
    runtimes = {runtime.name: runtime for runtime in Config().runtimes}
    for name, table in tables.items():
        if name in runtimes:
            runtimes[name] = _construct(dataclasses.replace, table, runtimes[name])
        else:
            runtimes[name] = _construct(
                dataclasses.replace, {"name": name, **table}, _defaults_for(table)
            )
    if shortcuts:
        default = next(
            (runtime for runtime in runtimes.values() if runtime.language == "python"), None
        )
        if default is None:
            names = ", ".join(shortcuts)
            raise ConfigError(f"{names}: there is no Python runtime; set it in [runtimes.NAME]")
        runtimes[default.name] = _construct(dataclasses.replace, shortcuts, default)
    return tuple(runtimes.values())


def _defaults_for(table: dict[str, object]) -> RuntimeConfig:
    """Returns the built-in runtime of the same language, if there is one."""
    if "kernelspec" in table:
        return RuntimeConfig(preload=(), pool_size=0)
    language = table.get("language", RuntimeConfig().language)
    for runtime in built_in_runtimes():
        if runtime.language == language:
            return runtime
    return RuntimeConfig(preload=(), interpreter="")


def _construct(make: Callable[..., _T], values: dict[str, object], *args: object) -> _T:
    return make(*args, **values)


def _descriptions(cls: type) -> dict[str, str]:
    body = typing.cast(ast.ClassDef, ast.parse(inspect.getsource(cls)).body[0]).body
    found = {}
    for statement, after in itertools.pairwise(body):
        match statement, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = " ".join(text.split())
            case _:
                pass
    return found


def _compact_size(size: int) -> str:
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def _parse_bool(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def _parse_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is no whole number") from None


def _parse_float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is no number")
    return value


def _show(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)
