"""One sweep, which every worker does each ``SWEEP_SECONDS``."""

from mailbbgun.core.faults import fault
from mailbbgun.services import Services
from mailbbgun.sweep.hints import hint_again, lost, overdue
from mailbbgun.sweep.replay import Expired, replay_dead

#: Passes of a thousand rows, for each lane and sweep. After a broker was wiped with 100,000 pending
#: messages, ten sweeps (150 s) hint all of them again.
PASSES = 10


def sweep(services: Services, expired: Expired) -> int:
    """Settle claims whose worker is gone, then hint deliveries whose hints are late or lost.

    Returns how many messages had lost hints. Raises :class:`QueueUnavailable`,
    :class:`DatabaseUnavailable`; what was done until then stays done.
    """
    replay_dead(services.db, services.settings)
    expired.settle()
    fault("sweep")
    hint_again(services.db, services.queue, overdue())
    return hint_again(services.db, services.queue, lost(services.db, services.queue), passes=PASSES)
