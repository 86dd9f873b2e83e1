"""Tests of the lease scheduler."""
