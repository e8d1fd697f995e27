"""The bench: how many messages a second, and what each costs, beside a bare ``smtplib`` loop into the same sink in the same run.

``run.py`` is the plan of a run; ``phases.py`` what is measured; ``service.py``, ``sink.py`` and ``clients.py`` what is started;
``load.py``, ``loop.py`` and ``asyncio_sink.py`` are programs of their own, so that they do not share an interpreter with what they measure.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OURSELVES = ""
"""The user of a :class:`tests.servers.process.Sandbox` whose processes stay our own."""


class BenchError(RuntimeError):
    """The run cannot go on, or its figures would mean nothing. The text is for the person who started it."""
