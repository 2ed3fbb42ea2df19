"""Which kernelspecs become runtimes, and what is said of those that can't."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.kernels import write_kernelspec

from codecontext_service.config import Config
from codecontext_service.config_error import ConfigError
from codecontext_service.runtime_config import RuntimeConfig
from codecontext_service.runtimes.jupyter import Jupyter
from codecontext_service.runtimes.kernelspecs import Kernelspec, with_kernels


def config_of(folder: Path, *runtimes: RuntimeConfig) -> Config:
    """Returns options with these runtimes beside Python, and kernelspecs in a folder."""
    return Config(runtimes=(RuntimeConfig(), *runtimes), jupyter_paths=(str(folder),))


def test_each_kernelspec_found_is_a_runtime(tmp_path: Path) -> None:
    """A kernelspec becomes a runtime of its language, with a name that runtimes may have."""
    write_kernelspec(tmp_path, "My Shell", argv=["/bin/sh", "{connection_file}"], language="Shell")
    runtimes = {each.name: each for each in with_kernels(config_of(tmp_path)).runtimes}
    found = runtimes["jupyter-my-shell"]
    assert (found.language, found.pool_size) == ("shell", 0)
    assert found.kernelspec == str(tmp_path / "kernels" / "My Shell")


@pytest.mark.parametrize(
    "spec",
    [
        {"argv": [], "language": "x"},
        {"argv": ["/bin/sh"]},
        {"argv": ["/no/such/program"], "language": "x"},
    ],
    ids=["no command", "no language", "no program"],
)
def test_what_is_no_kernelspec_is_left_out(
    tmp_path: Path, spec: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """A kernelspec that was only found, and can't be used, is left out, and the log says why."""
    write_kernelspec(tmp_path, "bad", **spec)
    names = {each.name for each in with_kernels(config_of(tmp_path)).runtimes}
    assert "jupyter-bad" not in names
    assert str(tmp_path / "kernels" / "bad") in caplog.text


def test_none_is_looked_for_without_the_option(tmp_path: Path) -> None:
    """Without `jupyter_kernels` only the runtimes that name a kernelspec are kernels."""
    write_kernelspec(tmp_path, "sh", argv=["/bin/sh"], language="shell")
    named = RuntimeConfig(name="mine", kernelspec="SH", preload=())
    config = replace(config_of(tmp_path, named), jupyter_kernels=False)
    assert [each.name for each in with_kernels(config).runtimes] == ["python", "mine"]


def test_a_kernelspec_that_is_named_is_not_found_again(tmp_path: Path) -> None:
    """A runtime may name a kernelspec, by its name or its folder, and has that one's language."""
    write_kernelspec(tmp_path, "sh", argv=["/bin/sh"], language="shell")
    named = RuntimeConfig(name="mine", kernelspec=str(tmp_path / "kernels" / "sh"), preload=())
    runtimes = with_kernels(config_of(tmp_path, named)).runtimes
    assert [each.name for each in runtimes if each.language == "shell"] == ["mine"]


def test_an_unknown_name_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    """A runtime that names a kernelspec that is not there is refused, and those that are there are named."""
    write_kernelspec(tmp_path, "there", argv=["/bin/sh"], language="shell")
    named = RuntimeConfig(name="mine", kernelspec="absent", preload=())
    with pytest.raises(ConfigError, match=r"runtimes\.mine\.kernelspec: .*'absent'.*there"):
        with_kernels(config_of(tmp_path, named))


def test_a_kernel_is_shown_where_it_is_installed(tmp_path: Path) -> None:
    """What a kernel's program is installed with is shown in cells, and its folder; nothing above that."""
    program = tmp_path / "opt" / "bin" / "kernel"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    write_kernelspec(tmp_path, "it", argv=[str(program)], language="x")
    folder = tmp_path / "kernels" / "it"
    assert Kernelspec.read(folder).shown("python") == {str(folder), str(tmp_path / "opt")}


@pytest.mark.parametrize(
    ("spec", "survives"),
    [
        ({"argv": ["/opt/bin/python3.11", "-m", "kernel"]}, True),
        ({"argv": ["/bin/sh"], "interrupt_mode": "message"}, True),
        ({"argv": ["/bin/sh"], "interrupt_mode": "signal"}, False),
        ({"argv": ["/bin/sh"]}, False),
    ],
)
def test_an_interrupt_is_promised_where_it_is_known_to_end_the_run_alone(
    tmp_path: Path, spec: dict[str, object], survives: bool
) -> None:
    """A kernel's runtime lists `interrupt` where the kernelspec says more than that it gets SIGINT."""
    write_kernelspec(tmp_path, "it", language="x", **spec)
    runtime = RuntimeConfig(name="it", kernelspec=str(tmp_path / "kernels" / "it"), preload=())
    expected = {"input", "complete", "inspect"} | ({"interrupt"} if survives else set())
    assert set(Jupyter().capabilities(runtime)) == expected
