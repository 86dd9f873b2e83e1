"""The lease scheduler against a model."""
