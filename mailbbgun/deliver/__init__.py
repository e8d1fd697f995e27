"""Deliver: claims deliveries that are due, sends them, and records how each attempt ended.

In: hints from the queue. Out: results, through ``events/changes/record.py``. Promises: one worker at a time
has a delivery in hand. Nothing is sent without a journal line before its final dot. A result is
committed, or else the journal still has it.

Only ``events/changes/record.py`` clears a lease: with the result of its claim, whether ``results`` or, for
a worker that is dead or stops, ``sweep/replay.py`` brings that. ``Leases.void_all`` forbids further
dots while this process stops.

Files: `deliver` is the column of verbs; read it first. `context` holds everything they need.
`claim` claims deliveries, `transaction` is what is sent at once, `leases` renews and checks the
leases of this process. `journal` records what was sent, for all connections of a turn of the loop at
once (`journal_turns`), `retry` turns an outcome into a result
by the schedule `RETRY_DELAYS`, `results` commits results. `preparing/` groups claims into transactions,
and opens what is sent, with its files. `workers`, with its table in `models`, is the register of live workers.
"""
