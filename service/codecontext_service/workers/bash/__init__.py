"""The interpreter of a Bash context: a resident shell, and the worker that speaks for it."""
