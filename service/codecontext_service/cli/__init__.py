"""The command line: `codecontext`."""
