"""Kernelspecs for tests, of kernels whose own installer would write into the user's home."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

DENO = str(Path(sys.executable).parent / "deno")

_MISSING = [
    name for name in ("jupyter_client", "ipykernel") if importlib.util.find_spec(name) is None
] + [name for name in (DENO,) if not Path(name).exists()]

NEEDS_KERNELS = pytest.mark.skipif(
    bool(_MISSING) and os.environ.get("CI") != "true", reason=f"missing: {', '.join(_MISSING)}"
)
"""Skips what needs kernels where they are not installed; in CI that would hide a hole."""


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
