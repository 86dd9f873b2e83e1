"""A node that drains: what moves, where to, and when it is done."""
