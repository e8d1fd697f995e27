"""Statistics: how much mail a tenant sent, what became of it, and how long that took.

In: the log of events. Out: figures for each minute, hour and day. Promise: each event of the log
counts once, at the time at which it happened, whatever is killed; a row never tells of an event that
the cursor has not passed. Rows are few: they grow with time and labels, and not with mail.

Files: ``counting`` makes increments of events, ``histogram`` keeps times to deliver; ``models`` and
``repo`` keep the sums; ``follow`` reads the log, ``rebuild`` counts it again; ``period`` says which
intervals a question is about, ``figures`` answers it, ``api`` over HTTP.
"""
