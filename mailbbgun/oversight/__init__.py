"""Oversight: what people see of pending deliveries, and what they change by hand.

In: requests of the API and commands of ``bin/mailbbgun``. Out: figures, and changes through
``events.changes.record``. Promise: a delivery that a worker is sending is not changed.

Files: ``api`` cancels a message or tries it again, over HTTP; ``intervene`` does both, for the
command line too; ``backlog`` counts the pending deliveries and says why they are pending.
"""
