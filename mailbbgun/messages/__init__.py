"""Messages: the mail that was asked for, its MIME, and one delivery for each recipient.

In: rows from accept. Out: rows, MIME bytes, and queries over messages. This room decides nothing:
rows begin as PENDING, and only ``events.changes.record`` changes a status.

Files: ``models`` has the tables, ``status`` the statuses and reasons. ``storing`` inserts accepted
messages, ``loading`` loads what they are made of, ``outgoing`` composes those that leave, and
``retention`` deletes old ones. ``publisher`` gives the queue hints. ``find`` lists and shows messages
for ``api`` and the command line, with the queries in ``repo`` and the shapes of ``schemas``;
``search`` brings filters into the form that is stored.
"""
