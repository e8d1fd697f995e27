"""The database: one engine, transactions, ready statements, and what PostgreSQL and SQLite write differently.

Promises: a session that is opened for one tenant refuses every statement that does not name it (``tenant_filter.py``);
secrets are kept encrypted (``crypto.py``); an ``Idempotency-Key`` is committed with what it created.
"""
