"""Tests: property/ownership."""
