"""Limits of requests a minute, of messages a day, and of what SMTP accounts may send.

Files: `request_rates` limits requests. It counts them with `windows` in memory or `redis_windows`.
`quota` limits the messages a day of a tenant. `rate_limiter` gives senders permits under the limits
of SMTP accounts. It gets them from a permit store: `permits` is the contract, `database_permits`
(with `models`) and `redis_permits` are its drivers, and `stores` chooses between them.

Promise: all processes together stay within a limit. If Redis does not answer, requests are accepted
all the same and the log says so.
"""
