"""Mailboxes: a Maildir that is written durably and stays within its bounds."""
