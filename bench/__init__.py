"""The bench: how many messages a second, and what each costs, beside others that send mail, into the same sink in the same run.

``run.py`` is the plan of a run, ``turns.py`` who has a turn in each round, ``phases.py`` what is measured, of anything that is a
``system.py``: ``service.py``, which is ours, and ``peers/``. ``sink.py``, ``servers.py`` and ``clients.py`` are started beside it; ``stats.py``,
``report.py`` and ``plot.py`` make of figures what is read; ``shapes.py`` is what the mail looks like, and ``against.py`` sets another commit
beside this one. ``load.py``, ``loop.py``, ``pipelined.py``, ``source.py``, ``threads.py`` and
``asyncio_sink.py`` are programs of their own, so that they do not share an interpreter with what they measure.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OURSELVES = ""
"""The user of a :class:`tests.servers.process.Sandbox` whose processes stay our own."""


class BenchError(RuntimeError):
    """The run cannot go on, or its figures would mean nothing. The text is for the person who started it."""
