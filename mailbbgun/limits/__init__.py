"""Every counter that says "not now": requests a minute, messages a day, the same mail again, and permits to send by
an SMTP account.

Counters are in memory, in the database or in Redis. Promise: all processes together stay within a
limit (of requests without Redis: all processes of one machine). If the server that counts does not
answer, mail is accepted all the same, and the log says so.

Files: `stores` chooses where to count, by ``REDIS_URL``.

* Requests: `request_rates` knows the limits of keys, tenants and addresses. `windows` counts the
  requests of the last minute in memory, `redis_windows` in Redis.
* Messages a day: `quota`. The same mail again: `duplicates` (with `models`).
* Mail of an account: `rate_limiter` gives the mail of one process its permits. It asks a permit
  store, whose contract and arithmetic are in `permits`: `database_permits` (with `models`), or
  `redis_permits`.

An account's limits are set in `smtp_accounts`.
"""
