"""Alerts: rules about figures of the service, and notices when one is beyond its threshold and when it is back.

In: rules of tenants, the log of events, and the state of queue, accounts, disks and files. Out: events
``alert_fired`` and ``alert_resolved``, and notices by mail, Slack and HTTP. Promises: each rule is looked at by
one worker at a time; a change of an incident's state, its event and its notices are one transaction; a mail or a
Slack message about it is made once, whatever dies in between; a restart forgets nothing; looking costs a bounded
number of small statements, and nothing at all without rules.

Files: ``api`` and ``schemas`` are the resources under ``/alerts``, ``edit`` checks and changes rules. ``kinds`` says
what can be watched, in which unit, by which defaults, and the folder ``figures`` finds the figures. ``state``
decides by figures and time alone when an incident begins and ends. ``evaluate`` is the periodic task.
``notices`` writes what people get, ``send`` sends it. ``models`` has the tables, ``repo`` their queries.
"""
