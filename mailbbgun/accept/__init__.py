"""Accept: a submission becomes a stored message, or an error that names what is wrong with it.

In: what a door was given, as fields to compose or as raw MIME with its envelope, and who gave it. Out: rows, committed, and a hint behind the
answer. Promise: what was answered with 201 survives any crash, and one ``Idempotency-Key`` makes one message.
"""
