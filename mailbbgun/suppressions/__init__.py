"""Suppressions: addresses and domains that a tenant's mail must not go to.

In: addresses and domains, one by one or as CSV. Out: which recipients are suppressed. Promise: once
``suppress`` has returned, no delivery to them begins; those that a worker had in hand are counted
in what it returns. Test keys have a list of their own.

Files: ``targets`` says which entries concern an address (pure); ``check`` finds the suppressed ones
among recipients, for accept and deliver; ``suppress`` adds entries and ends deliveries that wait;
``transfer`` reads and writes CSV; ``api`` and ``schemas`` are the HTTP door.
"""
