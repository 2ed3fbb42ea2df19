"""Results of executions: put together from their events, and their images as files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codecontext_service.cli.failures import refuse
from codecontext_service.units import format_size

if TYPE_CHECKING:
    from codecontext.v1 import execution_pb2

_EXTENSIONS = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/svg+xml": "svg",
    "application/pdf": "pdf",
}


@dataclass
class RichResult:
    """One result with all of its representations."""

    data: dict[str, str | bytes] = field(default_factory=dict)
    """Each representation by MIME type: text as str, binary ones as bytes."""

    metadata: dict[str, Any] = field(default_factory=dict)
    """The result's metadata."""

    is_main_result: bool = False
    """Whether it is the value of the last expression."""

    display_id: str = ""
    """The name under which it may be updated."""

    @property
    def text(self) -> str | None:
        """Its plain text."""
        text = self.data.get("text/plain")
        return text if isinstance(text, str) else None

    @property
    def images(self) -> dict[str, bytes]:
        """Its images by MIME type."""
        return {
            kind: content.encode("utf-8", "replace") if isinstance(content, str) else content
            for kind, content in self.data.items()
            if kind in _EXTENSIONS
        }


class ResultJoiner:
    """Puts results together that came in several events because of their size."""

    def __init__(self) -> None:
        self._open: RichResult | None = None

    def add(self, event: execution_pb2.Result) -> RichResult | None:
        """Takes the next event.

        Args:
            event: A result, whole or in part.

        Returns:
            The whole result, or None if more of it is to come.
        """
        from google.protobuf.json_format import MessageToDict

        result = self._open or RichResult()
        for part in event.parts:
            content: Any = part.text if part.WhichOneof("content") == "text" else part.data
            before: Any = result.data.get(part.mime_type, type(content)())
            result.data[part.mime_type] = before + content
        result.metadata.update(MessageToDict(event.metadata))
        result.is_main_result |= event.is_main_result
        result.display_id = result.display_id or event.display_id
        self._open = result if event.continued else None
        return None if event.continued else result


class ImageFiles:
    """Saves images as `image-1.png`, `image-2.svg`, …, or names them if there is no directory.

    Args:
        directory: Where to; it is made if it is not there. Files of these names are replaced.

    Raises:
        SystemExit: The directory can't be used.
    """

    def __init__(self, directory: Path | None) -> None:
        if directory is not None:
            try:
                directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                refuse(f"--images: {directory}: {error.strerror}")
        self._directory = directory
        self._count = 0
        self.failed = False
        """Whether an image could not be saved."""

    def add(self, result: RichResult) -> list[str]:
        """Takes the images of a result.

        Args:
            result: The result.

        Returns:
            A line for each image: where it is, or why it could not be saved.
        """
        lines = []
        for kind, content in result.images.items():
            size = format_size(len(content))
            if self._directory is None:
                lines.append(f"[{kind}, {size}; save with --images DIR]")
                continue
            self._count += 1
            path = self._directory / f"image-{self._count}.{_EXTENSIONS[kind]}"
            try:
                path.write_bytes(content)
                lines.append(f"[{kind}, {size}: {path}]")
            except OSError as error:
                self.failed = True
                lines.append(f"[{kind}, {size}: not saved to {path}: {error.strerror}]")
        return lines
