"""Protocol stubs of ``codecontext.v1``: generated code, made by ``scripts/generate_protos.py``."""
