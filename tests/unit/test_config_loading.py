"""Flags, environment and file make one configuration, and say clearly what they can't use."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from codecontext_service.config import Config
from codecontext_service.config_error import ConfigError
from codecontext_service.config_loading import load_config, options_of
from codecontext_service.runtime_config import RuntimeConfig, built_in_runtimes


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "codecontext.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_defaults() -> None:
    """Nothing given gives the dataclass's own defaults."""
    assert load_config() == Config()


@pytest.mark.parametrize("cls", [Config, RuntimeConfig])
def test_every_option_is_described(cls: type[Config] | type[RuntimeConfig]) -> None:
    """Each field is an option with a description, so that none is left out of help and
    reference."""
    options = options_of(cls)
    assert {option.name for option in options} == {field.name for field in fields(cls)} - {
        "name",
        "runtimes",
    }
    assert all(option.description.endswith(".") for option in options)


@pytest.mark.parametrize("option", options_of(Config), ids=lambda option: option.name)
def test_default_as_text_is_the_default(option) -> None:
    """The default that help and reference show means the same value when it is given."""
    assert option.from_text(option.default_text, option.flag) == option.default


def test_precedence(write) -> None:
    """A flag wins over the environment, that over the file, and that over the default."""
    file = write("max_contexts = 1\nmax_queued_executions = 1\njournal_events = 1")
    environ = {"CODECONTEXT_MAX_CONTEXTS": "2", "CODECONTEXT_MAX_QUEUED_EXECUTIONS": "2"}
    config = load_config(flags={"max_contexts": "3", "insecure": None}, environ=environ, file=file)
    assert (config.max_contexts, config.max_queued_executions, config.journal_events) == (3, 2, 1)
    assert config.deleted_ids == Config().deleted_ids


def test_file_from_environment(write) -> None:
    """CODECONTEXT_CONFIG names the file, unless a flag does."""
    environ = {"CODECONTEXT_CONFIG": str(write("max_contexts = 7"))}
    assert load_config(environ=environ).max_contexts == 7


def test_foreign_variables_are_left_alone() -> None:
    """The client's own variable and those that Kubernetes sets for a service are no options."""
    environ = {
        "CODECONTEXT_TARGET": "elsewhere:1",
        "CODECONTEXT_PORT": "tcp://10.0.0.1:50051",
        "CODECONTEXT_SERVICE_HOST": "10.0.0.1",
    }
    assert load_config(environ=environ) == Config()


def test_values_of_each_type() -> None:
    """Lists, truth values, times and sizes are read from flags and the environment alike."""
    environ = {
        "CODECONTEXT_LISTEN": "127.0.0.1:0, unix:/run/a",
        "CODECONTEXT_INSECURE": "true",
        "CODECONTEXT_IDLE_TIMEOUT_S": "1h30m",
    }
    config = load_config(flags={"max_code_bytes": "2MiB"}, environ=environ)
    assert config.listen == ("127.0.0.1:0", "unix:/run/a")
    assert config.insecure is True
    assert config.idle_timeout_s == 5400
    assert config.max_code_bytes == 2 << 20


def test_repeated_flag_replaces_the_environment() -> None:
    """Repeated flags are the whole list: what a weaker source says is not added."""
    config = load_config(
        flags={"listen": ("127.0.0.1:1", "127.0.0.1:2")},
        environ={"CODECONTEXT_LISTEN": "127.0.0.1:3"},
    )
    assert config.listen == ("127.0.0.1:1", "127.0.0.1:2")


def test_false_flag_wins() -> None:
    """A flag that says no is given, not absent."""
    config = load_config(flags={"insecure": False}, environ={"CODECONTEXT_INSECURE": "1"})
    assert config.insecure is False


def test_toml_types(write) -> None:
    """The file has TOML's own types; times and sizes may be text with a unit."""
    file = write(
        'listen = ["127.0.0.1:0"]\ninsecure = true\nttl_s = 5\nidle_timeout_s = "10m"\n'
        'max_code_bytes = "64KiB"\nlog_level = "debug"'
    )
    config = load_config(file=file)
    assert config.listen == ("127.0.0.1:0",)
    assert config.ttl_s == 5.0
    assert isinstance(config.ttl_s, float)
    assert config.idle_timeout_s == 600
    assert config.max_code_bytes == 65_536


def test_runtimes_of_the_file(write) -> None:
    """A table changes the built-in runtime of its name; others come after the built-in ones."""
    file = write(
        '[runtimes.science]\ninterpreter = "/opt/py"\npreload = ["scipy"]\n'
        "[runtimes.python]\npool_size = 9"
    )
    python, *_, science = load_config(file=file).runtimes
    assert python == RuntimeConfig(pool_size=9)
    assert science == RuntimeConfig(name="science", interpreter="/opt/py", preload=("scipy",))


def test_shortcuts_of_the_default_runtime(write) -> None:
    """--pool-size and --preload set the default Python runtime alone, over file and environment."""
    file = write("[runtimes.other]\npool_size = 1\n[runtimes.python]\npool_size = 2")
    config = load_config(
        flags={"pool_size": "7"}, environ={"CODECONTEXT_PRELOAD": "json,math"}, file=file
    )
    assert [each for each in config.runtimes if each.language == "python"] == [
        RuntimeConfig(pool_size=7, preload=("json", "math")),
        RuntimeConfig(name="other", pool_size=1),
    ]


def test_a_runtime_starts_from_its_language(write) -> None:
    """A runtime of the file has the built-in options of its language where it names no others."""
    file = write("[runtimes.quiet]\nlanguage = 'bash'\nstatus_raises = false")
    quiet = load_config(file=file).runtimes[-1]
    bash = next(each for each in built_in_runtimes() if each.language == "bash")
    assert quiet == replace(bash, name="quiet", status_raises=False)


def test_an_interpreter_that_is_not_found_must_be_named(write) -> None:
    """An interpreter is an absolute path: the server looks for none while it runs."""
    file = write("[runtimes.quiet]\nlanguage = 'bash'\ninterpreter = 'bash'")
    with pytest.raises(ConfigError, match=r"runtimes\.quiet\.interpreter: give an absolute path"):
        load_config(file=file)


def test_empty_preload() -> None:
    """An empty --preload preloads nothing."""
    assert load_config(flags={"preload": ""}).runtimes[0].preload == ()


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("max_context = 1", r"max_context: no such option; did you mean max_contexts\?"),
        ("max-contexts = 1", r"max-contexts: no such option; did you mean max_contexts\?"),
        ("pool_size = 1", r"pool_size: no such option; it belongs to a runtime"),
        ("[runtimes.python]\npool = 1", r"runtimes\.python\.pool: .*runtimes\.python\.pool_size"),
        ("[runtimes.python]\nname = 'x'", r"runtimes\.python\.name: no such option"),
        ("runtimes = 1", r"runtimes: write a table for each"),
        ("runtimes.python = 1", r"runtimes\.python: write a table"),
        ("max_contexts = true", r"max_contexts: true won't do; give a whole number"),
        ("max_contexts = '3'", r"max_contexts: '3' won't do; give a whole number"),
        ("max_contexts = 1.5", r"max_contexts: 1\.5 won't do"),
        ("insecure = 1", r"insecure: 1 won't do; give true or false"),
        ("listen = 'x'", r"listen: 'x' won't do; give a list of strings"),
        ("listen = [1]", r"listen: \[1\] won't do"),
        ("ttl_s = nan", r"ttl_s: nan won't do; give seconds"),
        ("ttl_s = 'soon'", r"ttl_s: 'soon' is no length of time"),
        ("log_level = 'loud'", r"log_level: take one of: debug"),
        ("x = ", r"is no valid TOML"),
        ("[runtimes.Bad]", r"'Bad' is no name"),
        ("[runtimes.x]\nlanguage = 'cobol'", r"runtimes\.x\.language: 'cobol' is unknown"),
    ],
)
def test_bad_file(write, toml: str, message: str) -> None:
    """Each mistake in the file is an error that names the option and what would be right."""
    with pytest.raises(ConfigError, match=message):
        load_config(file=write(toml))


def test_missing_file(tmp_path: Path) -> None:
    """A file that can't be read is an error, not an empty file."""
    with pytest.raises(ConfigError, match=r"none\.toml can't be read: No such file"):
        load_config(file=tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"CODECONTEXT_MAX_CONTEXTS": "many"},
            "CODECONTEXT_MAX_CONTEXTS: 'many' is no whole number",
        ),
        ({"CODECONTEXT_INSECURE": "maybe"}, "CODECONTEXT_INSECURE: 'maybe' is neither true nor"),
        ({"CODECONTEXT_TTL_S": "-1"}, "CODECONTEXT_TTL_S: '-1' is no length of time"),
        ({"CODECONTEXT_MAX_CONTEXTS": "0"}, "max_contexts: must be 1 or more"),
        ({"CODECONTEXT_LISTEN": ","}, "listen: give at least one address"),
        ({"CODECONTEXT_LISTEN": "50051"}, "listen: '50051' is no address; write host:port"),
        ({"CODECONTEXT_LISTEN": ":50051"}, "listen: ':50051' is no address"),
        ({"CODECONTEXT_LISTEN": "127.0.0.1:65536"}, "listen: '127.0.0.1:65536' is no address"),
        ({"CODECONTEXT_LISTEN": "unix:run/a"}, "listen: 'unix:run/a': give an absolute path"),
        ({"CODECONTEXT_LISTEN": "0.0.0.0:0"}, "listen: '0.0.0.0:0' is not loopback"),
        ({"CODECONTEXT_LISTEN": "[::]:0"}, "is not loopback"),
        ({"CODECONTEXT_LISTEN": "example.org:0"}, "is not loopback"),
    ],
)
def test_bad_environment(environ: dict[str, str], message: str) -> None:
    """A variable that can't be used is an error that names it."""
    with pytest.raises(ConfigError, match=message):
        load_config(environ=environ)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:0", "127.9.9.9:1", "localhost:1", "[::1]:1", "unix:/a"]
)
def test_loopback(address: str) -> None:
    """Addresses that only this machine reaches need nothing else."""
    assert load_config(flags={"listen": (address,)}).listen == (address,)


def test_insecure() -> None:
    """An address that others reach has to be asked for out loud."""
    config = load_config(flags={"listen": ("0.0.0.0:1", "[::]:1"), "insecure": True})
    assert config.listen == ("0.0.0.0:1", "[::]:1")
