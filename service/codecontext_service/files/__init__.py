"""Files in the workspaces of sandboxes, reached from outside."""
