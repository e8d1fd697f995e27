"""The bench: measures this service and other mail systems on one machine, in the same run.

All systems send into the same sink. ``run.py`` plans a run, ``turns.py`` lists what each system
does in a round, and ``phases.py`` measures it. ``stats.py``, ``report.py`` and ``plot.py`` turn
figures into tables and drawings. ``against.py``, ``backlog.py``, ``many_connections.py`` and
``slow_clients.py`` are other measurements, each with an option of its own. ``trickle.py`` measures
the latency of a few messages for ``many_connections.py``. ``figures.py``, ``templates.py`` and
``webhooks.py`` are programs of their own. So is ``bounces.py``, which measures no time but how many
reports are understood.

``processes/`` starts, watches and stops what is measured: this service, its servers, the sink.
``programs/`` are the clients and the messages they send: separate programs, so that they do not
share an interpreter with what they load. ``peers/`` are the other mail systems.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OURSELVES = ""
"""User name for a :class:`tests.servers.process.Sandbox` whose processes keep our own user."""


class BenchError(RuntimeError):
    """The run cannot continue, or its figures would be meaningless.

    The text is shown to the user.
    """
