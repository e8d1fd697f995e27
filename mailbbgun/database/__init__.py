"""The database: one engine, transactions, and what PostgreSQL and SQLite write differently.

Promises: a session that is opened for one tenant refuses every statement that does not name that
tenant; secrets are stored encrypted; an ``Idempotency-Key`` is committed with what it created.

Files: `db` has transactions and the parents of all tables, `engines` the connections. `compiled`
compiles the statements of hot paths once. `sql` and `texts` are parts of statements that work on
both databases. `leasing` lets a worker lease rows of any table. `tenant_filter` refuses statements
without a tenant, `deadline` ends statements that take too long, and `refusal` recognises that a
database refuses our settings. `crypto` encrypts secrets, and `reencrypt` encrypts all of them anew
for ``bin/mailbbgun encryption rotate``. `idempotency` keeps ``Idempotency-Key`` headers and their
answers.
"""
