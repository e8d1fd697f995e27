"""Deliver: takes hints, claims what is due, sends it, and writes down how it ended.

In: hints from the queue. Out: results, through ``events.record``. Promise: a delivery is in one worker's hands at a time, nothing is
sent without a journal line before its final dot, and a result is committed or found again in the journal.
``deliver.py`` is the column of verbs to read first.
"""
