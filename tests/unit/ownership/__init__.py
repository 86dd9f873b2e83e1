"""Tests: unit/ownership."""
