"""Tests of return paths and of what comes back to them."""
