"""The actor directory against a model."""
