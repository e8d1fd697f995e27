"""Tests of explanations and dry runs."""
