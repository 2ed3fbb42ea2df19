"""What a signal raises in the command line, and when."""

from __future__ import annotations

import signal
import threading

import pytest

from codecontext_service.cli.interrupts import Interrupts, cleanup_on_termination, ended_by


def _wait_and_be_signalled(number: signal.Signals) -> None:
    """Waits, and takes note whether something ended that after the signal, and no exception."""
    ended = threading.Event()
    with ended_by(ended.set):
        signal.raise_signal(number)
        _outcomes.append(ended.wait(60))
        raise OSError("cancelled")


_outcomes: list[bool] = []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_wait_before_it_is_raised(number: signal.Signals) -> None:
    """A wait comes to its own end, with no exception in it that would leave the locks of gRPC held."""
    _outcomes.clear()
    before = signal.signal(number, signal.SIG_DFL)  # it may be ignored, by nohup
    try:
        with cleanup_on_termination(), pytest.raises(SystemExit) as raised:
            _wait_and_be_signalled(number)
    finally:
        signal.signal(number, before)
    assert _outcomes == [True]
    assert raised.value.code == 128 + number


def test_ctrl_c_ends_a_wait_before_it_is_raised() -> None:
    """As with other signals; and what the ended call says of it is not told."""
    _outcomes.clear()
    with Interrupts(lambda: None) as interrupts:
        interrupts.immediate = True
        with pytest.raises(KeyboardInterrupt):
            _wait_and_be_signalled(signal.SIGINT)
    assert _outcomes == [True]


def _fail() -> None:
    with ended_by(lambda: None):
        raise OSError("refused")


def test_without_a_signal_an_error_is_told() -> None:
    """What a wait raises by itself is raised, and a signal after it at once."""
    with pytest.raises(OSError, match="refused"):
        _fail()
    with cleanup_on_termination(), pytest.raises(SystemExit):
        signal.raise_signal(signal.SIGTERM)
