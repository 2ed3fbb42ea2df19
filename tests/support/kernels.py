"""Kernelspecs for tests, of kernels whose own installer would write into the user's home."""

from __future__ import annotations

import json
import sys
from pathlib import Path

DENO = str(Path(sys.executable).parent / "deno")


def write_kernelspec(folder: Path, name: str, **spec: object) -> Path:
    """Writes a kernelspec below a folder of Jupyter's, and returns that folder."""
    path = folder / "kernels" / name
    path.mkdir(parents=True)
    (path / "kernel.json").write_text(json.dumps({"display_name": name, **spec}))
    return folder


def write_kernelspecs(folder: Path) -> Path:
    """Writes the kernelspecs that the shared server has beside those of the environment: one can't start."""
    broken = ["/bin/sh", "-c", "echo no such luck >&2; exit 7", "{connection_file}"]
    write_kernelspec(folder, "broken", argv=broken, language="broken")
    argv = [DENO, "jupyter", "--kernel", "--conn", "{connection_file}"]
    return write_kernelspec(folder, "deno", argv=argv, language="typescript")
