"""The verb: a recipient unsubscribes by the link in a mail (RFC 8058)."""

from mailbbgun.database.db import Database
from mailbbgun.events import log
from mailbbgun.events.kinds import Kind
from mailbbgun.messages import repo as messages
from mailbbgun.suppressions import repo
from mailbbgun.suppressions.links import UnsubscribeLink
from mailbbgun.suppressions.repo import Entry
from mailbbgun.suppressions.suppress import suppress
from mailbbgun.suppressions.targets import concerning

#: The reason of entries that recipients make.
UNSUBSCRIBED = "unsubscribed"


def unsubscribe(database: Database, link: UnsubscribeLink) -> bool:
    """Suppress the recipient of a link, unless it is suppressed for ever; return whether the tenant had none before.

    To repeat it changes nothing. The message's timeline tells of it. Raises :class:`DatabaseUnavailable`.
    """
    tenant_id, test, target = link.tenant_id, link.test, concerning(link.address)[0]
    with database.read(tenant_id, tests_only=test) as session:
        known = repo.by_target(session, tenant_id, test, target)
    if known is not None and known.expires_at is None:
        return False
    done = suppress(database, tenant_id, [Entry(target=target, reason=UNSUBSCRIBED)], test=test, patience=0.0)
    with database.write(tenant_id, tests_only=test) as session:
        if messages.exists(session, tenant_id, link.message_id, tests_only=test):  # retention deletes messages
            event = log.event(tenant_id, link.message_id, None, Kind.UNSUBSCRIBED, {"address": link.address})
            log.append(session, [event])
            log.log_after_commit(session, [event], [None])
    return done.first
