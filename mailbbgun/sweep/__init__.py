"""The sweep finds deliveries that were left behind, and puts them back on their way.

In: the database, the journals of dead workers, the depth of the queue. Out: results for claims
whose worker is gone, and hints for deliveries without one. Promise: a delivery that is due and
that nobody holds is hinted again; a healthy backlog is not.

Every worker does this by the clock. Each second a *tick* hints deliveries that are due and have no
hint (``hints.unhinted``). Each ``SWEEP_SECONDS`` a *sweep* settles the claims of dead workers and
hints deliveries whose hints are late or lost (``sweep.sweep``).

In small steps of its own, it also goes through the store of files, and deletes those that no row knows.

Files: `sweep` is one sweep, `hints` finds deliveries without a hint, `replay` settles claims by the
journal, `mend` makes queues that the broker lost, `orphans` deletes files without rows, and `requeue` is
the command ``bin/requeue-pending``.
"""
