"""The worker process: it delivers mail until it is told to stop.

In: hints from the queue, and the clock. Out: mail, and results in the database.

``process.py`` starts and stops the threads of one process. The intake claims deliveries
(``intake.py``), one loop delivers them all (``delivery.py``, which also notices a loop that hangs),
and periodic tasks renew leases and find deliveries that were left behind (``periodic.py``). A
message that has killed workers is sent alone, by a child process (``isolated.py``). Another child
sends webhooks, while there are endpoints (``webhooks.py``).
``main.py`` is the command; it runs several processes as one by ``mailbbgun/supervisor.py``.
"""
