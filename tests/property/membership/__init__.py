"""Membership and fencing against a model."""
