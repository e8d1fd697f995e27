"""The figures that alerts watch.

In: the log of events, the state of queue, accounts and files, and what processes tell of themselves. Out: the
figures of a rule by subject. Promise: the cost does not grow with history.

Files: ``look`` finds the figures of a rule. ``counts`` reads the log into counts by minute and by hour. ``reports``
keeps the use of disks and the number of failed logins.
"""
