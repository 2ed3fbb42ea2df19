"""The server's side of the processes below it: launcher, zygotes, keepers."""
