"""One sweep: what every worker does each ``SWEEP_SECONDS``."""

from mailbbgun.services import Services
from mailbbgun.sweep.hints import OVERDUE, hint_again, nearly_empty, overdue
from mailbbgun.sweep.replay import replay_dead, settle_expired

PASSES = 20  # of a thousand; a wiped broker with 100,000 pending is whole again after five sweeps


def sweep(services: Services) -> None:
    """Settle claims whose worker is gone, then hint again what no hint is on its way for.

    Raises :class:`QueueUnavailable`, :class:`DatabaseUnavailable`; what was done until then is done.
    """
    replay_dead(services.db, services.settings)
    settle_expired(services.db, services.settings)
    hint_again(services.db, services.queue, overdue())
    for _ in range(PASSES):
        lost = nearly_empty(services.db, services.queue, OVERDUE)
        for stranded in lost:
            hint_again(services.db, services.queue, stranded, passes=1)
        if not lost:
            return
