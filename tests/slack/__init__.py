"""Tests of messages to Slack."""
