"""Slack: a message to a channel, instead of mail to a recipient.

Files: `relay` keeps the contract of relays, `client` does the requests, `answers` says what an
answer means, and `errors` is the table of Slack's errors. `medium` tells messages to Slack from mail.
"""
