"""Rich results: one thing in several representations."""

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Self

from google.protobuf.json_format import MessageToDict

from codecontext.v1 import execution_pb2

CHART_MIME_TYPE = "application/vnd.codecontext.chart+json"

_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "text/plain": "text",
        "text/html": "html",
        "text/markdown": "markdown",
        "text/latex": "latex",
        "image/svg+xml": "svg",
        "application/json": "json",
        "image/png": "png",
        "image/jpeg": "jpeg",
        "application/javascript": "javascript",
        CHART_MIME_TYPE: "chart",
    }
)


def _is_json(mime_type: str) -> bool:
    return mime_type == "application/json" or mime_type.endswith("+json")


FILE_MIME_TYPE = "application/vnd.codecontext.file+json"

Fetch = Callable[[str, "str | Path | BinaryIO | None"], Any]
"""Downloads a file by its path in the workspace, into a target or, without one, into memory."""


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file in the workspace that code has published."""

    path: str
    """Its path in the workspace."""
    size_bytes: int
    """Its size when it was published."""
    mime_type: str
    """What it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A rich result: the value of the last expression, a display, a plot.

    In a notebook it shows itself as it would have shown where it was made.
    """

    data: Mapping[str, str | bytes] = field(hash=False)
    """Its representations by MIME type: text types as str, binary types as bytes."""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Metadata of the representations, by MIME type, and of the whole."""
    is_main_result: bool = False
    """Whether it is the value of the code's last expression."""
    display_id: str | None = None
    """The name under which it may be updated; None if it has none."""
    is_update: bool = False
    """Whether it is a new content for an earlier result of the same `display_id`."""
    fetch: Fetch | None = field(default=None, repr=False, compare=False)
    """How the client that it came from downloads the file that it names; see `download`."""

    @classmethod
    def from_proto(
        cls, *messages: execution_pb2.Result, metadata: Mapping[str, Any] | None = None
    ) -> Self:
        """Returns a result from its message, or from the several messages that it came in.

        Args:
            messages: All but the last have `continued` set; a part's content goes on in the part
                of the same type in the next one.
            metadata: Overrides the metadata of the messages.
        """
        pieces: dict[str, list[str] | list[bytes]] = {}
        merged: dict[str, Any] = {}
        for message in messages:
            for part in message.parts:
                is_binary = part.WhichOneof("content") == "data"
                content: Any = part.data if is_binary else part.text
                pieces.setdefault(part.mime_type, []).append(content)
            merged.update(MessageToDict(message.metadata))
        data = {
            mime_type: (b"" if isinstance(contents[0], bytes) else "").join(contents)  # type: ignore[arg-type]
            for mime_type, contents in pieces.items()
        }
        return cls(
            data=data,
            metadata=merged if metadata is None else metadata,
            is_main_result=any(message.is_main_result for message in messages),
            display_id=next((m.display_id for m in messages if m.display_id), None),
        )

    def formats(self) -> list[str]:
        """Returns what it has: names of properties (`text`, `png`, …), else MIME types."""
        return [_NAMES.get(mime_type, mime_type) for mime_type in self.data]

    def _text(self, mime_type: str) -> str | None:
        content = self.data.get(mime_type)
        return content.decode(errors="replace") if isinstance(content, bytes) else content

    def _bytes(self, mime_type: str) -> bytes | None:
        content = self.data.get(mime_type)
        return content.encode() if isinstance(content, str) else content

    def _json(self, mime_type: str) -> Any:
        content = self.data.get(mime_type)
        return None if content is None else json.loads(content)

    @property
    def text(self) -> str | None:
        """The plain text; None if there is none."""
        return self._text("text/plain")

    @property
    def html(self) -> str | None:
        """The HTML; None if there is none."""
        return self._text("text/html")

    @property
    def markdown(self) -> str | None:
        """The Markdown; None if there is none."""
        return self._text("text/markdown")

    @property
    def latex(self) -> str | None:
        """The LaTeX; None if there is none."""
        return self._text("text/latex")

    @property
    def svg(self) -> str | None:
        """The SVG image, as text; None if there is none."""
        return self._text("image/svg+xml")

    @property
    def json(self) -> Any:
        """The JSON value, parsed; None if there is none.

        Raises:
            ValueError: the code that made it called something JSON that is not.
        """
        return self._json("application/json")

    @property
    def png(self) -> bytes | None:
        """The PNG image; None if there is none."""
        return self._bytes("image/png")

    @property
    def jpeg(self) -> bytes | None:
        """The JPEG image; None if there is none."""
        return self._bytes("image/jpeg")

    @property
    def javascript(self) -> str | None:
        """The JavaScript; None if there is none."""
        return self._text("application/javascript")

    @property
    def chart(self) -> dict[str, Any] | None:
        """The description of a chart, parsed; None if there is none.

        Its format is told in `docs/charts.md`; `chart["type"]` is what it shows.

        Raises:
            ValueError: the code that made it called something a chart that is no JSON object.
        """
        chart = self._json(CHART_MIME_TYPE)
        if chart is not None and not isinstance(chart, dict):
            raise ValueError(f"a chart is a JSON object, and this is none: {str(chart)[:100]}")
        return chart

    @property
    def file(self) -> PublishedFile | None:
        """The file in the workspace that it names, from `codecontext.publish()`; None if it names none.

        Raises:
            ValueError: the code that made it called something a file that is none.
        """
        file = self._json(FILE_MIME_TYPE)
        if file is None:
            return None
        try:
            return PublishedFile(str(file["path"]), int(file["size_bytes"]), str(file["mime_type"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"a file has path, size_bytes and mime_type: {file}") from error

    def download(self, target: str | Path | BinaryIO | None = None) -> Any:
        """Downloads the file that it names, as it is now.

        Args:
            target: The path of a local file, or an open binary file; by default the content is
                returned.

        Returns:
            The content, or, with a target, the file's `FileInfo`. With the asynchronous client, an
            awaitable of that.

        Raises:
            ValueError: it names no file, or came from no client.
            OSError: the local file can't be written.
            CodeContextError: as with `client.files.download`.
        """
        file = self.file
        if file is None:
            raise ValueError(
                "this result names no file: `codecontext.publish()` makes one that does"
            )
        if self.fetch is None:
            raise ValueError("this result came from no client: use its client.files.download")
        return self.fetch(file.path, target)

    def __str__(self) -> str:
        return self.text if self.text is not None else f"<{', '.join(self.formats())}>"

    def _repr_mimebundle_(
        self, include: Iterable[str] | None = None, exclude: Iterable[str] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Shows it in a notebook, where binary content is base64 and JSON is parsed."""
        bundle = {
            mime_type: _for_notebook(mime_type, content)
            for mime_type, content in self.data.items()
            if (include is None or mime_type in include)
            and (exclude is None or mime_type not in exclude)
        }
        return bundle, dict(self.metadata)


def _for_notebook(mime_type: str, content: str | bytes) -> Any:
    if isinstance(content, bytes):
        return base64.b64encode(content).decode("ascii")
    if _is_json(mime_type):
        try:
            return json.loads(content)
        except ValueError:
            return content
    return content
