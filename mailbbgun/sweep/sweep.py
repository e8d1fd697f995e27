"""One sweep: what every worker does each ``SWEEP_SECONDS``."""

from mailbbgun.core.faults import fault
from mailbbgun.services import Services
from mailbbgun.sweep.hints import hint_again, lost, overdue
from mailbbgun.sweep.replay import Expired, replay_dead

PASSES = (
    10  # of a thousand, a lane and sweep: a wiped broker with 100,000 pending is whole again after ten sweeps, 150 s
)


def sweep(services: Services, expired: Expired) -> None:
    """Settle claims whose worker is gone, then hint again what no hint is on its way for.

    Raises :class:`QueueUnavailable`, :class:`DatabaseUnavailable`; what was done until then is
    done.
    """
    replay_dead(services.db, services.settings)
    expired.settle()
    fault("sweep")
    hint_again(services.db, services.queue, overdue())
    hint_again(services.db, services.queue, lost(services.db, services.queue), passes=PASSES)
