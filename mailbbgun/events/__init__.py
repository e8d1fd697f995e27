"""Events: what happened to messages and deliveries. The only room that changes a status.

In: results of accept, of workers and of the sweep, and what people do. Out: the log of events, and a printed
line for each.
Promise: a status and its event are written in one transaction. A result whose claim is no longer its
worker's changes nothing. An event is never changed.

Files: ``kinds`` lists the kinds of events, ``models`` has their table. ``log`` appends events and
prints their lines. The folder ``changes`` changes statuses, each with its event. ``timeline`` shows a message's
events for ``api`` and the command line, with the queries in ``repo`` and the shapes of ``schemas``.
"""
