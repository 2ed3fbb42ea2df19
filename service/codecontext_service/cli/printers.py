"""Shows the events of an execution while they come: as a terminal does, or as lines of JSON."""

from __future__ import annotations

import base64
import codecs
import json
import sys
from datetime import UTC
from typing import TYPE_CHECKING, Any, Protocol

from codecontext_service.cli.failures import say
from codecontext_service.cli.results import ImageFiles, ResultJoiner, RichResult
from codecontext_service.units import format_size

if TYPE_CHECKING:
    from codecontext.v1 import execution_pb2


class Printer(Protocol):
    """What shows events."""

    def show(self, event: execution_pb2.ExecutionEvent) -> None:
        """Shows one event.

        Args:
            event: The event.

        Raises:
            BrokenPipeError: Nobody reads the output any more.
        """


def outcome_name(outcome: execution_pb2.ExecutionOutcome.ValueType) -> str:
    """The outcome's name without its prefix, for instance `RAISED`.

    Args:
        outcome: The value of the enum.
    """
    from codecontext.v1 import execution_pb2

    try:
        return execution_pb2.ExecutionOutcome.Name(outcome).removeprefix("EXECUTION_OUTCOME_")
    except ValueError:  # from a newer server
        return str(outcome)


class TextPrinter:
    """Shows events as a terminal does.

    Output goes to standard output and standard error as the bytes that came; results as their
    text to standard output; errors and remarks to standard error.

    Args:
        images: What becomes of images.
        prompt: What stands before the text of a main result, with the execution count as `{}`.
    """

    def __init__(self, images: ImageFiles, prompt: str = "") -> None:
        self._images = images
        self._prompt = prompt
        self._count = 0
        self._joiner = ResultJoiner()
        self.at_line_start = True
        """Whether what was written last ended a line."""

    def show(self, event: execution_pb2.ExecutionEvent) -> None:
        """Shows one event."""
        kind = event.WhichOneof("event")
        if kind == "started":
            self._count = event.started.execution_count
        elif kind == "stdout":
            self._write(sys.stdout.buffer, event.stdout)
        elif kind == "stderr":
            self._write(sys.stderr.buffer, event.stderr)
        elif kind in ("result", "display_update"):
            whole = self._joiner.add(event.result if kind == "result" else event.display_update)
            if whole is not None:
                self._show_result(whole)
        elif kind == "clear_output":
            if sys.stdout.isatty():
                self._write(sys.stdout.buffer, b"\r\x1b[2K")
        elif kind == "error":
            lines = event.error.traceback or [f"{event.error.name}: {event.error.value}"]
            self._line(sys.stderr.buffer, "\n".join(lines))
        elif kind == "gap":
            self._show_gap(event.gap)
        elif kind == "completed":
            self._show_end(event.completed)

    def end_line(self) -> None:
        """Ends the line that the output left open, if any."""
        if not self.at_line_start:
            self._write(sys.stdout.buffer, b"\n")

    def _show_result(self, result: RichResult) -> None:
        if result.text is not None:
            prompt = self._prompt.format(self._count) if result.is_main_result else ""
            gap = "\n" if prompt and "\n" in result.text else ""
            self._line(sys.stdout.buffer, prompt + gap + result.text)
        for line in self._images.add(result):
            self._line(sys.stderr.buffer, line)
        if result.text is None and not result.images:
            for kind, content in result.data.items():
                data = content.encode("utf-8", "replace") if isinstance(content, str) else content
                line = f"[{kind}, {format_size(len(data))}; `run --json` shows it]"
                self._line(sys.stderr.buffer, line)

    def _show_gap(self, gap: execution_pb2.Gap) -> None:
        from codecontext.v1 import execution_pb2

        reason = execution_pb2.GapReason.Name(gap.reason).removeprefix("GAP_REASON_")
        size = format_size(gap.bytes)
        self._line(
            sys.stderr.buffer, f"[output is missing here: {gap.events} events, {size}, {reason}]"
        )

    def _show_end(self, completed: execution_pb2.ExecutionCompleted) -> None:
        outcome = outcome_name(completed.outcome)
        if outcome in ("SUCCEEDED", "RAISED"):
            return
        if not self.at_line_start:
            self._write(sys.stderr.buffer, b"\n")
        text = f"{outcome}: {completed.message}" if completed.message else outcome
        if not completed.state_kept:
            text += " (the state is lost)"
        say(text)

    def _line(self, stream: Any, text: str) -> None:
        start = "" if self.at_line_start else "\n"
        self._write(stream, (start + text + "\n").encode("utf-8", "replace"))

    def _write(self, stream: Any, data: bytes) -> None:
        stream.write(data)
        stream.flush()
        if data:
            self.at_line_start = data.endswith((b"\n", b"\r", b"\x1b[2K"))


class JsonPrinter:
    """Shows each event as one line of JSON on standard output.

    `event` names its kind, the rest are the fields of the proto; output is text (with replacements
    where it is no UTF-8), binary representations are base64, a result that came in several events
    is one line.
    """

    def __init__(self) -> None:
        self._joiner = ResultJoiner()
        self._decoders = {
            kind: codecs.getincrementaldecoder("utf-8")("replace") for kind in ("stdout", "stderr")
        }

    def show(self, event: execution_pb2.ExecutionEvent) -> None:
        """Shows one event."""
        from google.protobuf.json_format import MessageToDict

        kind = event.WhichOneof("event") or "unknown"
        fields: dict[str, Any]
        if kind in self._decoders:
            fields = {"text": self._decoders[kind].decode(getattr(event, kind))}
        elif kind in ("result", "display_update"):
            whole = self._joiner.add(getattr(event, kind))
            if whole is None:
                return
            fields = _result_fields(whole)
        elif kind == "completed":
            for stream, decoder in self._decoders.items():
                if rest := decoder.decode(b"", final=True):
                    self._write(stream, event, {"text": rest})
            fields = {
                "outcome": outcome_name(event.completed.outcome),
                "message": event.completed.message,
                "state_kept": event.completed.state_kept,
                "duration_s": event.completed.duration.ToTimedelta().total_seconds(),
                "cpu_time_s": event.completed.cpu_time.ToTimedelta().total_seconds(),
                "peak_memory_bytes": event.completed.peak_memory_bytes,
            }
        elif kind == "unknown":  # from a newer server
            fields = {}
        else:
            fields = MessageToDict(
                getattr(event, kind),
                preserving_proto_field_name=True,
                always_print_fields_with_no_presence=True,
            )
            for name, value in fields.items():
                if isinstance(value, str) and name in ("execution_count", "events", "bytes"):
                    fields[name] = int(value)  # int64 is a string in the proto's JSON
        self._write(kind, event, fields)

    def _write(
        self, kind: str, event: execution_pb2.ExecutionEvent, fields: dict[str, Any]
    ) -> None:
        line: dict[str, Any] = {
            "event": kind,
            "execution_id": event.execution_id,
            "sequence": event.sequence,
            "time": event.time.ToDatetime(UTC).isoformat(),
        }
        if event.late:
            line["late"] = True
        sys.stdout.write(json.dumps(line | fields) + "\n")
        sys.stdout.flush()


def _result_fields(result: RichResult) -> dict[str, Any]:
    return {
        "data": {
            kind: base64.b64encode(content).decode() if isinstance(content, bytes) else content
            for kind, content in result.data.items()
        },
        "metadata": result.metadata,
        "is_main_result": result.is_main_result,
        "display_id": result.display_id,
    }
