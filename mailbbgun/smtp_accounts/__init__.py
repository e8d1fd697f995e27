"""SMTP accounts: the servers that a tenant's mail leaves through.

In: a tenant's settings of a server; then a mail that waits. Out: the accounts that may send the
mail, in the order to try them. Promises: a password is stored encrypted, and shown only to a key
with the scope ``accounts:reveal``; every process uses a change within a second.

Files: `api` and `schemas` are the resources under ``/smtp-accounts``. Behind them `edit` creates and
changes accounts, `connection_test` tests one step by step, and `health` tells how they work.
`presets` knows well-known providers. `models` has the table, `repo` its queries. For mail, `account`
is one account, and says which mail it may send; `cache` keeps accounts in a worker's memory; `sender`
says which From a tenant's accounts have.

How fast an account may send is counted by the room `limits`. To which hosts and ports it may
connect, `core/net.py` decides.
"""
