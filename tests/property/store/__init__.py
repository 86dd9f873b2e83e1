"""Tests: property/store."""
