"""Sweep: finds what was left behind and puts it back on its way.

In: the database, dead workers' journals, the queue's depth. Out: results for claims whose worker is
gone, hints for what nobody hinted. Promise: a delivery that is due and in nobody's hands is hinted
again; a healthy backlog is not.
"""
