"""Runs the command line: `python -m codecontext_service.cli`."""

from codecontext_service.cli.app import main

main()
