"""The processes below the server: launcher, zygote, keeper and interpreter.

They import the standard library, IPython (the interpreter alone) and each other, nothing else of the
service: a runtime's interpreter may belong to another environment than the server. The server
imports from here only `channel`, the protocol between the two sides.

    server ── launcher ─┬─ zygote (one for each Python runtime)
                        └─ keeper (pid 1 of its namespace, one for each context) ── interpreter ── …

A keeper is forked by the zygote; when the zygote dies, the launcher is its parent.
"""
