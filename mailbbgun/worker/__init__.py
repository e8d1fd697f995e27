"""The worker process: it delivers mail until it is told to stop.

In: hints from the queue, and the clock. Out: mail, and results in the database. ``process.py`` starts and stops what
one process does: the intake claims (``intake.py``), senders deliver (``senders.py``), periodic tasks keep leases and
find what was left behind (``periodic.py``), and a message that has killed workers goes alone, in a child process
(``isolated.py``). ``supervisor.py`` makes several processes one; ``main.py`` is the command.
"""
