"""Tests of the actor directory."""
