"""Events: what happened to messages and deliveries. The only room that changes a status.

In: results of accept, of workers and of the sweep, and what people do. Out: the log of events, and a printed
line for each.
Promise: a status and its event are written in one transaction. A result whose claim is no longer its
worker's changes nothing. An event is never changed. Readers meet each event once, in one order.

Files: ``kinds`` lists the kinds of events, ``models`` has their table. ``log`` appends events and
prints their lines. The folder ``changes`` changes statuses, each with its event; ``storage`` is how the databases
keep the log. ``reading`` reads it, with ``filters`` and with the events of batches (``batched``), and ``cursors``
keeps readers' places; ``following`` is what clients do with both. ``timeline`` shows a message's events, with
the queries in ``repo``. ``api`` has the routes, with the shapes of ``schemas``.
"""
