"""The server's life: it starts, serves, drains and ends."""
