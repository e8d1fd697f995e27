"""Events: what happened to messages and deliveries. The only room that changes a status.

In: results of accept, of workers and of the sweep, and what people do. Out: events, which are never
changed, and a log line for each.
Promise: a status and its event are written in one transaction. A result whose claim is no longer its
worker's changes nothing.

Files: ``kinds`` lists the kinds of events, ``models`` has their table. ``log`` appends events and
prints their lines. ``record`` changes statuses, each with its event; ``holding`` holds the mail of suspended tenants,
and makes it due again. ``timeline`` shows a message's
events for ``api`` and the command line, with the queries in ``repo`` and the shapes of ``schemas``.
"""
