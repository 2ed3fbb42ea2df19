"""What a run shows goes to its channel."""

from __future__ import annotations

from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import ExecutionResult

from codecontext_service.workers.channel import (
    CLEAR,
    DISPLAY,
    MAX_NAME,
    Channel,
    to_json,
)
from codecontext_service.workers.display_records import pack_display, pack_text

from . import charts
from .bundles import encode_bundle
from .streams import ERRORS, clean

try:  # IPython 9
    from IPython.core.history import HistoryOutput
except ImportError:
    HistoryOutput = None

_SHORT = 16 * 1024
"""Up to how many characters a text is sent the short way."""


class Output:
    """Sends displays to the channel, once there is one."""

    channel: Channel | None = None

    def display(self, kind: str, data: dict[str, Any], metadata: Any, display_id: str = "") -> None:
        """Sends a display.

        Args:
            kind: `result`, `display` or `update`.
            data: Its MIME bundle.
            metadata: That of the bundle.
            display_id: By which it can be updated; empty if it can't be.
        """
        if self.channel is None:
            return
        text = data.get("text/plain")
        if (
            type(text) is str
            and len(text) <= _SHORT
            and not (len(data) > 1 or metadata or display_id)
        ):
            self.channel.send(DISPLAY, pack_text(kind, text.encode("utf-8", ERRORS)))
            return
        if (chart := charts.describe_bundle(data)) is not None:
            data = {**data, charts.CHART: chart}
        header, parts = encode_bundle(data, metadata)
        header |= {"kind": kind, "display_id": clean(display_id, MAX_NAME)}
        self.channel.send(DISPLAY, pack_display(header, parts))

    def clear(self, wait: bool) -> None:
        """Has what is shown cleared.

        Args:
            wait: Whether only once there is something new to show.
        """
        if self.channel is not None:
            self.channel.send(CLEAR, to_json({"wait": bool(wait)}))


class Publisher(DisplayPublisher):  # type: ignore[misc]
    """Takes `display()`, `update_display()` and `clear_output()`."""

    def publish(  # noqa: D102
        self,
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        source: Any = None,
        *,
        transient: dict[str, Any] | None = None,
        update: bool = False,
        **_: Any,
    ) -> None:
        display_id = str((transient or {}).get("display_id") or "")
        self.shell.output.display("update" if update else "display", data, metadata, display_id)

    def clear_output(self, wait: bool = False) -> None:  # noqa: D102
        self.shell.output.clear(wait)


class Displayhook(DisplayHook):  # type: ignore[misc]
    """Takes the value of a run's last expression."""

    exec_result: ExecutionResult | None = None
    """Gets the value too. Here no trait, which would be checked whenever it is set."""

    def __call__(self, result: object = None) -> None:
        """Shows a value, and keeps it as `_` and in `Out`."""
        self.check_for_underscore()
        if result is None or self.quiet():
            return
        data, metadata = self.compute_format_data(result)
        self.update_user_ns(result)
        self.fill_exec_result(result)
        if data:
            self.shell.output.display("result", data, metadata)
            self.log_output(data)

    def quiet(self) -> bool:
        """Whether the code says by a semicolon at its end that its value is not wanted."""
        history = self.shell.history_manager.input_hist_parsed
        code = history[-1].rstrip() if history else ""
        if "#" not in code and not code.endswith(";"):
            return False
        quiet: bool = super().quiet()
        return quiet

    def log_output(self, format_dict: dict[str, Any]) -> None:
        """Remembers what was shown, for `%history -o` and `%notebook`."""
        if HistoryOutput is None or self.shell.logger.log_output:
            super().log_output(format_dict)
            return
        history, number = self.shell.history_manager, self.prompt_count
        history.outputs[number].append(HistoryOutput("execute_result", format_dict))
        if "text/plain" in format_dict:
            history.output_hist_reprs[number] = format_dict["text/plain"]
