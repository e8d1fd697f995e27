"""Metrics for Prometheus: ``GET /metrics`` of the API, and of ``worker.py`` on METRICS_PORT.

In: what the processes of this machine count (``counters/``), and what the database, the queue and the disk say. Out:
text in Prometheus' formats. The API shows everything; a worker shows what workers of its machine count.

Promise: a scrape waits for the database at most some seconds, and works without it. However often it is asked, the
database counts its backlog once at a time, and rests ten times as long as that took.

Files: ``api`` has the route and who may use it, ``metrics`` puts the parts together, ``figures`` asks database,
queue and disk, ``exposition`` writes the text, ``serving`` is the port of workers.
"""
