"""The verb: suppress addresses and domains, and end the deliveries to them that wait.

Two commits. The first stores the entries: from then on each claim sees them, and each delivery that
it does not see was stored before. The second looks for those and locks them, so it waits for a claim
that began before the first commit. So after both no delivery to them begins.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from mailbbgun.database.db import Database
from mailbbgun.events.changes.stopping import Stopped, stop
from mailbbgun.suppressions import repo
from mailbbgun.suppressions.repo import Entry
from mailbbgun.suppressions.targets import is_domain

#: Seconds to wait for deliveries that a worker has in hand, at most.
PATIENCE = 2.0
#: Seconds between two looks at them.
LOOK_SECONDS = 0.05
#: Entries in one commit, at most.
BATCH = 500


class Suppressed(NamedTuple):
    """What came of it. ``added`` entries are new, and ``changed`` ones existed.

    ``stopped`` deliveries were waiting and ended as ERROR. ``in_hand`` are being sent all the same.
    ``first``: the tenant had no suppressions before.
    """

    added: int
    changed: int
    stopped: int
    in_hand: int
    first: bool


def suppress(
    database: Database, tenant_id: UUID, entries: Sequence[Entry], *, test: bool = False, patience: float = PATIENCE
) -> Suppressed:
    """Suppress targets, for test messages or for all others, and end deliveries to them that wait.

    Waits up to ``patience`` seconds for those that a worker has in hand; such a delivery ends if its
    attempt fails meanwhile, and later when it is claimed again. Raises :class:`DatabaseUnavailable`.
    """
    unique = list({one.target: one for one in entries}.values())
    added, first = 0, False
    for start in range(0, len(unique), BATCH):
        with database.write(tenant_id) as session:
            added += repo.add(session, tenant_id, test, unique[start : start + BATCH])
            first = repo.note(session, tenant_id) or first
    until = time.monotonic() + patience
    ended, in_hand = _stop(database, tenant_id, unique, test)
    while in_hand and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
        more, in_hand = _stop(database, tenant_id, unique, test)
        ended += more
    return Suppressed(added, len(unique) - added, ended, in_hand, first)


def _stop(database: Database, tenant_id: UUID, entries: Sequence[Entry], test: bool) -> Stopped:
    ended = in_hand = 0
    for start in range(0, len(entries), BATCH):
        targets = [one.target for one in entries[start : start + BATCH]]
        domains = [one for one in targets if is_domain(one)]
        addresses = [one for one in targets if not is_domain(one)]
        with database.write(tenant_id, tests_only=test) as session:
            found = stop(session, tenant_id, addresses, domains, test=test)
        ended, in_hand = ended + found.ended, in_hand + found.in_hand
    return Stopped(ended, in_hand)
