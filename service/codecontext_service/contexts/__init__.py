"""Contexts: what they are, what runs in them, how they come and go."""
