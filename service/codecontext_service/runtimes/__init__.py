"""How an interpreter of a kind starts, and the interpreters that are kept ready."""
