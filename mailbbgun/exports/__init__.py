"""Exports: all messages, events or statistics of a tenant as one file, however many there are.

In: the filters of the lists. Out: CSV or NDJSON. Promise: memory does not grow with the rows, since each
page is read, written and forgotten; no cell of a CSV is a formula to a spreadsheet; a few exports run
at once in one process, and others are told to wait.

Files: ``pages`` reads the rows of each kind, ``writing`` makes lines of them, ``running`` counts the exports
that run; ``api`` and ``schemas`` are the HTTP side.
"""
