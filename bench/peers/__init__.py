"""Other systems that send mail, measured like ours: same sink, messages, connections, durability.

``postfix.py`` is a mail server; ``celery.py``, ``post_office.py`` and ``design_2017.py`` are built
in Python. ``program.py`` runs each of those three as a small program in a virtual environment of
its own (``environment.py``), and ``submit.py`` hands messages to it.
"""

import os

CORES = len(os.sched_getaffinity(0))
"""How many processes a peer gets if it has one per core."""

PYTHON = ("celery", "post_office", "design_2017")
"""Peers that run in the environment of ``requirements.txt``."""

PEERS = ("postfix", *PYTHON)
