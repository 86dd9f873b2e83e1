"""The driver: a user's program, its core, and the node process that it starts or finds."""
