"""The database: one engine, transactions, and the differences between PostgreSQL and SQLite.

Promises: a session that was opened for one tenant refuses every statement that is not limited to
that tenant. Secrets are stored encrypted. An ``Idempotency-Key`` is committed together with what it
created.

Files: `db` has transactions and the parents of all tables, `engines` the connections, `refusal` the
reasons for which a server refuses us. `ready` executes statements of hot paths, for which `sql` has
building blocks. `texts` has SQL about texts, and `deadline` limits how long a query may take.
`tenant_filter` is the check of statements. `crypto` encrypts, `reencrypt` changes the key.
`idempotency` (with `models`) stores idempotency keys.
"""
