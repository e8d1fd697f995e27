"""Tests of mailbbgun/queues."""
