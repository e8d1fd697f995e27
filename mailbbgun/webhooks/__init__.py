"""Webhooks: events are sent to URLs that tenants name.

In: the log, and the endpoints that tenants set up. Out: signed POST requests (Standard Webhooks).
Promise: each event that an endpoint wants is sent until it is acknowledged, always with the same ``webhook-id``; an
acknowledged event is not sent again by itself. An endpoint is a place in the log, so one that is dead costs nothing
but its row. A dead or slow endpoint delays no other.

Files: ``edit`` sets endpoints up, ``sending`` makes one request of an event and signs it, ``verdict`` says what an
answer means, ``by_hand`` sends one event while a person waits, ``serving/`` is the worker's part.
"""
