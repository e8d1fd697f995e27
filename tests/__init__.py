"""Tests mirror the tree of the package; servers/ starts the real servers they run against."""
