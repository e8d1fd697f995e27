"""Tenants (customers of the service) and their API keys: who makes a request and what they may do.

In: the key that a request shows. Out: a :class:`~mailbbgun.core.caller.Caller`.

Promises: within a second every process refuses a key that was revoked or has expired, and knows
that a tenant was suspended. The database holds only keyed hashes, so no key can be recovered from
it.
"""
