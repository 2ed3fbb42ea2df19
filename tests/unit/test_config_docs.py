"""The reference of the options is what `config.py` says."""

from pathlib import Path

from codecontext_service.cli.config_docs import render

REFERENCE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_reference_is_current() -> None:
    """docs/configuration.md is what `codecontext config-docs` prints now."""
    assert REFERENCE.read_text(encoding="utf-8") == render()
