"""The Python interpreter: IPython's semantics, without Jupyter's processes."""
