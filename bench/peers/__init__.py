"""What else people send mail with, measured as we are: the same sink, messages, connections, durability and counting.

``postfix.py`` is the mail server; ``celery.py``, ``post_office.py`` and ``design_2017.py`` are what is built in Python. Each of those three
is a small program of its own, run by ``program.py`` in an environment of its own (``environment.py``); ``submit.py`` hands their messages in.
"""

import os

CORES = len(os.sched_getaffinity(0))
"""How many processes a peer gets that has some per core."""

PYTHON = ("celery", "post_office", "design_2017")
"""Peers that live in the environment of ``requirements.txt``."""

PEERS = ("postfix", *PYTHON)
