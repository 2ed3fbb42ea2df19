"""The bridge to a Jupyter kernel: a process in its cell, with jupyter_client and the standard library alone."""
