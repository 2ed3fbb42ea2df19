"""Whether contexts are contained: attempts to get out, and ordinary work that must go on."""
