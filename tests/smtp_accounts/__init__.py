"""Tests of mailbbgun/smtp_accounts."""
