"""Membership and fencing against each other, and against a naive model."""
