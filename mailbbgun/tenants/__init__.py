"""Tenants and their API keys: who asks, and what that caller may give to others.

In: a key, as a request shows it. Out: a :class:`~mailbbgun.core.caller.Caller`. Promises: when a
key is revoked or expires, or a tenant is suspended, every process knows within a second; the
database holds nothing that a key could be made of.

Files: `authenticate` finds the caller of a request, and refuses networks that its key does not
permit. `keyring` keeps the keys in use in a process's memory. `keys` makes keys;
`database/crypto.py` hashes and compares them. `grants` decides which keys and limits a caller may
give to others. `audit` writes down who read a password. `api` has the resources under ``/tenants``
and ``/audit``, `models` the tables, `repo` the queries.

Whether a key may do what a request asks is decided elsewhere: by its scopes in `http/gate.py`, by
its senders and guests in `accept/checks.py`.
"""
