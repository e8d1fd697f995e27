"""Counts what a process does, for Prometheus, in plain integers of its memory.

In: one call for each batch of messages, attempt or reply. Out: the same numbers, in a file of this process that
a thread writes each second (``keeping.py``), for whoever answers ``GET /metrics`` on this machine (``files.py``).

Promise: counting takes less than a microsecond, waits for nothing and raises nothing. A killed process loses the
counts of its last second. The counts of a process that has ended are added up in one file, so that sums
never go back.

Files: ``counters`` has the counts, ``families`` what they are called, ``files`` the folder, ``keeping`` the thread;
``requests`` counts answers of the API.
"""
