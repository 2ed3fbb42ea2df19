"""What is installed: the wheel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parents[2]


def test_the_wheel_has_all_that_the_sources_have(tmp_path: Path) -> None:
    """Each file of both packages is in the wheel, those that are no Python too, such as Node's worker."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=100)
    (wheel,) = tmp_path.glob("*.whl")
    built = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    sources = {
        str(path.relative_to(root))
        for root in (ROOT / "client", ROOT / "service")
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert built == sources
    assert any(name.endswith("workers/node/worker.js") for name in built)
