"""Exports: all messages, events or statistics of a tenant as one file, however many there are.

In: the filters of the lists. Out: CSV or NDJSON. Promise: memory does not grow with the rows, and a slow
client keeps no thread, since each page is read when the client has taken the one before; no cell of a
CSV is a formula to a spreadsheet; a few exports run at once in one process, and others are told to wait.

Files: ``pages`` reads the rows of each kind, ``writing`` makes lines of them, ``running`` counts the exports
that run; ``api`` and ``schemas`` are the HTTP side.
"""
