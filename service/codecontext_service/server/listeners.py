"""The addresses that a server listens on."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

from codecontext_service.config import Config
from codecontext_service.config_error import ConfigError

if TYPE_CHECKING:
    import grpc


def bind(server: grpc.aio.Server, config: Config) -> list[str]:
    """Binds a server to its addresses.

    Returns:
        The addresses, with the ports that were taken where 0 was asked for.

    Raises:
        ConfigError: An address can't be bound.
    """
    bound = []
    for address in config.listen:
        if address.startswith("unix:"):
            _remove_stale_socket(Path(address.removeprefix("unix:")))
        try:
            port = server.add_insecure_port(address)
        except RuntimeError as error:
            raise ConfigError(f"listen: {address} can't be bound: is it in use?") from error
        if address.startswith("unix:"):
            Path(address.removeprefix("unix:")).chmod(0o600)
            bound.append(address)
        else:
            bound.append(f"{address.rpartition(':')[0]}:{port}")
    return bound


def _remove_stale_socket(path: Path) -> None:
    """Removes the socket of a server that was killed; nothing else that may be there."""
    try:
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
    except FileNotFoundError:
        pass
