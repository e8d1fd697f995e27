"""Events: what happened to a message and its deliveries, append-only, and the only place that writes a status.

In: results of accept, delivery, sweep and people. Out: rows, one log line each. Promise: a status and the event that tells of it
are written in one transaction, and a result whose claim is no longer its worker's changes nothing.
"""
