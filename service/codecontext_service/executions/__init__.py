"""Executions: their journals, what they gather to, and how they end."""
