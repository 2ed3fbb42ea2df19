"""`codecontext.publish()`: what code says of a file that its caller is to take."""

from __future__ import annotations

import importlib.machinery
import mimetypes
import os
import stat
import sys
import types
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from codecontext_service.workers.file_names import show

FILE = "application/vnd.codecontext.file+json"
"""The type of a result that names a file."""

_NAME = "codecontext"


class Publisher:
    """Tells of files in the workspace."""

    workspace = ""
    """Its directory; set once the context has one."""

    def __init__(self, shell: InteractiveShell) -> None:
        """Makes a publisher.

        Args:
            shell: Whose displays tell of the files.
        """
        self._shell = shell

    def publish(self, path: str | os.PathLike[str], mime_type: str | None = None) -> None:
        """Gives a file of the workspace to the caller: a result names it, its content stays where it is.

        Args:
            path: The file.
            mime_type: What it holds; by default what its name says.

        Raises:
            FileNotFoundError: There is none.
            ValueError: It is outside of the workspace, or no regular file.
        """
        found = os.stat(path)
        real = os.path.realpath(os.fsencode(path))
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{os.fspath(path)!r} is no regular file")
        inside = os.path.relpath(real, os.path.realpath(os.fsencode(self.workspace)))
        if inside.split(b"/")[0] == b"..":
            raise ValueError(
                f"{os.fspath(path)!r} is outside of the workspace {self.workspace}: copy it there"
            )
        shown = show(inside)
        kind = mime_type or mimetypes.guess_type(shown)[0] or "application/octet-stream"
        self._shell.display_pub.publish(
            {
                FILE: {"path": shown, "size_bytes": found.st_size, "mime_type": kind},
                "text/plain": f"{shown} ({found.st_size:,} bytes)",
            }
        )


def provide(shell: InteractiveShell) -> Publisher:
    """Makes `publish` part of a module `codecontext`, which code may import or just use.

    Where the client of that name is installed it is loaded once something else of it is wanted: it brings
    grpc, whose threads no process has that is forked.
    """
    publisher = Publisher(shell)
    module = _Module(_NAME, "What code in a context may ask of the service.")
    module.publish = publisher.publish  # type: ignore[attr-defined]
    client = importlib.machinery.PathFinder.find_spec(_NAME)
    if client is not None and client.submodule_search_locations is not None:
        module.__path__ = list(client.submodule_search_locations)
    sys.modules[_NAME] = module
    shell.user_ns[_NAME] = module
    shell.user_ns_hidden[_NAME] = module
    return publisher


class _Module(types.ModuleType):
    """The module `codecontext` in a context, which becomes the client when that is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        client = importlib.machinery.PathFinder.find_spec(_NAME)
        if client is None or client.loader is None or vars(self).get("__spec__") is not None:
            raise AttributeError(f"module {_NAME!r} has no attribute {name!r}")
        self.__spec__, self.__file__ = client, client.origin
        client.loader.exec_module(self)
        return getattr(self, name)
