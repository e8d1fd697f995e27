"""The servers a tenant's mail leaves through: which, how, and how fast.

In: what a tenant says of a provider, or the name of one we know (``presets``); then the mail that waits. Out: the accounts that fit a mail, in
the order to try them (``account``), and when each may be used. Promises: no password leaves here but to who may see it; what one account's limits
allow holds for all workers and processes together, by one clock; asking never holds a sender up.

Files: `api` and `schemas` are the resources under ``/smtp-accounts``. Behind them `edit` creates and changes accounts, `connection_test`
tests one step by step, and `health` tells how they work. `presets` knows well-known providers. `models` has the table, `repo` its queries.
For mail, `account` is one account and says which mail it fits, `cache` keeps the accounts of tenants in a worker, and `sender` says as whom
they send.

How fast an account may send is counted by the room `limits`. To which hosts and ports it may connect is decided by `core/net.py`.
"""
