"""Sandboxes: what contexts live in."""
