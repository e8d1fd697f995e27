"""Routing decides which way a delivery leaves, and when.

In: claimed transactions. Out: the transaction whose turn it is, on a route that has a free
connection and that no circuit breaker holds back. Promise: a slow or dead destination holds back
only its own mail.

Files: `routes` finds the candidate routes of a message. `send_queue` holds transactions until a
connection is free, and lets tenants take turns; `lines` are what they wait in, `pace` how fast a
route goes, `kinds` bounds all routes of a kind together. `circuit_breaker` pauses a route, and so its
SMTP account, for `CIRCUIT_PAUSE_SECONDS` or `REFUSED_PAUSE_SECONDS`; which replies of a server count as
failures is in `smtp/outcome.py`. `come_back_times` spreads deliveries that wait for one route.
`ways_out` reads from the settings where mail leaves by default.
"""
