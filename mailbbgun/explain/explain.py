"""The verb: explain where a message is. The HTTP API and the command line both use it."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select

from mailbbgun.core.addresses import in_mailbox
from mailbbgun.database.db import Database, db_now
from mailbbgun.deliver.workers import Seen, registered
from mailbbgun.events import causes
from mailbbgun.events import repo as events
from mailbbgun.events.kinds import Kind
from mailbbgun.explain.facts import DeliveryFacts, KeptMail, LastEvent
from mailbbgun.explain.reasons import explained
from mailbbgun.explain.ways import Ways, tenant_is_suspended, ways_of
from mailbbgun.mailbox_messages.repo import brought_by
from mailbbgun.messages.models import Delivery
from mailbbgun.services import Services

#: Events that are looked at, at most: the newest.
MOST_EVENTS = 500

_TELLING = frozenset(
    kind.value
    for kind in (Kind.DEFERRED, Kind.REFUSED, Kind.WAITING, Kind.OUTCOME_UNKNOWN, Kind.WORKER_LOST, Kind.DUPLICATE)
)


def explain(services: Services, tenant_id: UUID, message_id: UUID, *, tests_only: bool = False) -> dict[str, Any]:
    """Return why each delivery of a message is where it is, as ``schemas.Explanation`` shows it.

    Raises :class:`NotFound`, and :class:`DatabaseUnavailable`.
    """
    database = services.db
    message = causes.details(database, tenant_id, message_id, tests_only=tests_only)
    with database.read(tenant_id, tests_only=tests_only) as session:
        found, _, _ = events.page(
            session, tenant_id, message_id, limit=MOST_EVENTS, offset=0, after=None, tests_only=tests_only
        )
    with database.read() as session:
        now = session.scalars(select(db_now())).one()
        workers = {seen.worker.id: seen for seen in registered(session)}
    ways = ways_of(services, tenant_id, test=message["test"])
    shared = {
        "now": now,
        "suspended": tenant_is_suspended(database, tenant_id),
        "workers_alive": sum(seen.alive for seen in workers.values()),
        "useful_until": message["useful_until"],
    }
    last = _last(found)
    kept = {} if message["test"] else _kept(database, tenant_id, [one.id for one in message["deliveries"]])
    deliveries = []
    for one in message["deliveries"]:
        cause = message["causes"].get(one.id, {}).get("cause")
        told_before = shared | {"cause": cause, "kept": kept.get(one.id)}
        facts = _facts(one, ways, in_mailbox(message["sender"]), workers, last.get(one.address), told_before)
        first, *others = explained(facts)
        told = {name: getattr(first, name) for name in ("code", "text", "next", "next_at")}
        deliveries.append({"id": one.id, "address": one.address, "status": one.status, **told, "also": others})
    return {"id": message_id, "status": message["status"], "deliveries": deliveries}


def _kept(database: Database, tenant_id: UUID, ids: Sequence[UUID]) -> dict[UUID, KeptMail]:
    """Return, by delivery, the mail in the tenant's own mailboxes. Where others keep theirs, they alone may know."""
    with database.read(tenant_id) as session:
        return {one: KeptMail(*its) for one, its in brought_by(session, tenant_id, ids).items()}


def _last(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the newest event of each recipient that tells why its delivery waits."""
    last: dict[str, dict[str, Any]] = {}
    for event in found:  # newest first
        if event["kind"] in _TELLING and event["address"] is not None:
            last.setdefault(event["address"], event)
    return last


def _facts(
    one: Delivery,
    ways: Ways,
    sender: str,
    workers: Mapping[UUID, Seen],
    last: Mapping[str, Any] | None,
    shared: Mapping[str, Any],
) -> DeliveryFacts:
    seen = workers.get(one.lease_owner) if one.lease_owner else None
    data = last["data"] if last else {}
    reply = " ".join(str(part) for part in (one.reply_code, one.reply) if part is not None) or None
    return DeliveryFacts(
        **shared,
        address=one.address,
        way=ways(one.received_for or sender, one.address),
        status=one.status,
        reason=one.reason,
        attempts=one.attempts_made,
        crashes=one.crashes,
        reply=reply,
        finished_at=one.finished_at,
        next_attempt_at=one.next_attempt_at,
        published_at=one.published_at,
        scheduled=one.scheduled,
        lease_until=one.lease_until,
        worker=f"{seen.worker.host} (process {seen.worker.pid})" if seen else None,
        worker_alive=bool(seen and seen.alive),
        last=LastEvent(last["kind"], _said(data), data.get("account")) if last else None,
        duplicate_of=data.get("duplicate_of"),
    )


def _said(data: Mapping[str, Any]) -> str | None:
    return " ".join(str(data[name]) for name in ("code", "reply") if data.get(name) is not None) or None
