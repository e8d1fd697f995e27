"""The sweep finds deliveries that were left behind, and puts them back on their way.

In: the database, the journals of dead workers, the depth of the queue. Out: results for claims
whose worker is gone, and hints for deliveries without one. Promise: a delivery that is due and
that nobody holds is hinted again; a healthy backlog is not.
"""
