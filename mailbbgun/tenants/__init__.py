"""Tenants and their API keys: who asks, and what that caller may do.

In: a key, as it stands in a request. Out: a :class:`~mailbbgun.core.caller.Caller`. Promises that a key revoked or expired, or a tenant
suspended, counts in every process within a second, and that the database holds nothing a key could be made of.
"""
