"""Tenants (customers of the service) and their API keys: who makes a request and what they may do.

In: the key that a request shows. Out: a :class:`~mailbbgun.core.caller.Caller`.

Promises: every process heeds a revoked or expired key, or a suspended tenant, within a second. The
database holds only keyed hashes, so no key can be recovered from it.
"""
