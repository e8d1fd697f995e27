"""Looks after sending domains: a worker does this now and then.

Keys whose records have appeared in the DNS begin to sign without anybody asking, and keys that were
replaced long ago are removed.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from mailbbgun.database.db import Database
from mailbbgun.domains import edit, repo
from mailbbgun.domains.dns.look import Plan, look
from mailbbgun.domains.models import SendingDomain
from mailbbgun.relays.mx import Resolver
from mailbbgun.settings.settings import Settings

#: Domains that one round asks about.
BATCH = 5

#: For so long after a key was made, the time between two looks for its record. After a month the
#: record will hardly come, and only people look.
WAITS = (
    (timedelta(hours=2), timedelta(minutes=2)),
    (timedelta(days=30), timedelta(hours=1)),
)

log = logging.getLogger("mailbbgun.domains")


def look_after(database: Database, settings: Settings, resolver: Callable[[], Resolver]) -> None:
    """Remove keys that were replaced DKIM_KEEP_DAYS ago; ask the DNS about domains whose keys wait.

    Two workers do not ask about the same domain. Raises :class:`DatabaseUnavailable`.
    """
    now = datetime.now(UTC)
    with database.write() as session:
        removed = repo.remove_retired(session, now - timedelta(days=settings.DKIM_KEEP_DAYS))
        due = [one for one in repo.unseen(session, now, WAITS, BATCH) if repo.claim_check(session, one, now)]
    for selector in removed:
        log.info("dkim_key_removed", extra={"selector": selector})
    for domain in due:
        with database.read(domain.tenant_id) as session:
            plan = edit.plan(session, settings, domain, edit.keys_of(session, domain))
        _look(database, domain, plan, resolver())


def _look(database: Database, domain: SendingDomain, plan: Plan, resolver: Resolver) -> None:
    report = look(plan, resolver)
    with database.write(domain.tenant_id) as session:
        if repo.domain(session, domain.tenant_id, domain.id) is None:
            return
        for key in edit.note(session, domain, report):
            told = {"domain": domain.name, "selector": key.selector, "tenant_id": domain.tenant_id}
            log.info("dkim_key_activated", extra=told)
