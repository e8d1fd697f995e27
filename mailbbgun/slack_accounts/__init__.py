"""Slack accounts: the bots and incoming webhooks that a tenant's messages to Slack go through.

In: a bot token, or the URL of an incoming webhook. Out: the account that a message goes through.
Promises: tokens and URLs are stored encrypted, and never shown; workers use a change with the next
message.

Files: `api` and `schemas` are the resources under ``/slack/accounts``. `edit` creates and changes
accounts, `connection_test` tests one. `models` has the table, `repo` its queries.
"""
