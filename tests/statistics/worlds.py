"""A database with messages and events, and recounts to compare statistics with."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select

from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.database.db import Database
from mailbbgun.events import log
from mailbbgun.events.kinds import Kind
from mailbbgun.messages.models import DELIVERIES, MESSAGES
from mailbbgun.statistics.models import STATISTICS

DOMAINS = ("example.com", "example.org", "example.net")
ENDS = (
    (Kind.DELIVERED, {"account": "main"}),
    (Kind.BOUNCED, {"reason": "bounced", "account": "spare"}),
    (Kind.CANCELLED, {}),
)

Told = dict[tuple[str, str, str, int, bool], Counter[str]]


def send(db: Database, dice: random.Random, n: int, *, tenant_id: UUID = DEFAULT_TENANT, days: int = 3) -> None:
    """Store messages with deliveries and their events, at random times of the last days."""
    now = datetime.now(UTC).replace(microsecond=0)
    messages, deliveries, events = [], [], []
    for _ in range(n):
        accepted = now - timedelta(seconds=dice.randrange(days * 86_400))
        message, test = new_id(), dice.random() < 0.2
        tags = dice.sample(["a", "b", "c", "d"], dice.randrange(3))
        messages.append(
            {
                "id": message, "tenant_id": tenant_id, "created_at": accepted, "status": "DELIVERED", "subject": "=1+1",
                "sender": "shop@example.com", "mail_from": "shop@example.com", "message_id": f"<{message}@x>",
                "priority": 5, "smtputf8": False, "test": test, "size": 1, "tags": tags, "metadata": {}, "raw": b"x",
            }
        )  # fmt: skip
        its = [
            {
                "id": new_id(), "tenant_id": tenant_id, "message_id": message, "kind": "to", "lane": "normal",
                "address": f"u{n}@{dice.choice(DOMAINS)}", "status": "DELIVERED", "attempt": 1, "tries": 1,
                "crashes": 0, "unknowns": 0,
            }
            for n in range(dice.randrange(1, 3))
        ]  # fmt: skip
        deliveries += its
        events.append(_event(tenant_id, message, None, Kind.ACCEPTED, {"recipients": len(its)}, accepted))
        for one in its:
            at = accepted
            for _ in range(dice.randrange(3)):
                at += timedelta(seconds=dice.randrange(1, 100_000))
                data = {"account": "main", "retry_in": 5}
                events.append(_event(tenant_id, message, one["id"], Kind.DEFERRED, data, min(at, now)))
            kind, data = dice.choice(ENDS)
            events.append(_event(tenant_id, message, one["id"], kind, data, min(at + timedelta(seconds=1), now)))
    dice.shuffle(events)  # the log's order is not that of time
    with db.write() as session:
        session.execute(insert(MESSAGES), messages)
        session.execute(insert(DELIVERIES), deliveries)
    for start in range(0, len(events), 40):
        with db.write() as session:
            log.append(session, events[start : start + 40])


def _event(
    tenant_id: UUID, message: UUID, delivery: UUID | None, kind: Kind, data: Mapping[str, Any], at: datetime
) -> dict[str, Any]:
    return {**log.event(tenant_id, message, delivery, kind, data), "at": at}


def counted(db: Database, tenant_id: UUID = DEFAULT_TENANT) -> Told:
    """Return the counts of all rows."""
    return {name: Counter(counts) for name, (counts, _) in stored(db, tenant_id).items()}


def stored(db: Database, tenant_id: UUID = DEFAULT_TENANT) -> dict[Any, Any]:
    """Return the counts and times of all rows."""
    s = STATISTICS.c
    statement = select(s.interval, s.dimension, s.value, s.start, s.test, s.counts, s.times)
    with db.read() as session:
        found = session.execute(statement.where(s.tenant_id == tenant_id)).all()
    return {tuple(row[:5]): (row.counts, row.times) for row in found}


def recounted(db: Database, tenant_id: UUID = DEFAULT_TENANT) -> Told:
    """Count the events of a tenant in the simplest way: each by itself, from the tables."""
    told: Told = defaultdict(Counter)
    for event in _events(db, tenant_id):
        labels = [("none", ""), *(("tag", tag) for tag in event["tags"])]
        if event["kind"] == "accepted":
            recipients = event["recipients"]
            added = {"messages": 1, "accepted": len(recipients)}
            for domain, number in Counter(one.rpartition("@")[2] for one in recipients).items():
                _add(told, event, "domain", domain, {"messages": 1, "accepted": number})
        else:
            added = {event["kind"]: 1}
            if reason := event["data"].get("reason"):
                added |= {"failed": 1, f"error.{reason}": 1}
            labels.append(("domain", event["address"].rpartition("@")[2]))
            if account := event["data"].get("account"):
                labels.append(("account", account))
        for dimension, value in labels:
            _add(told, event, dimension, value, added)
    return dict(told)


def _add(told: Told, event: Mapping[str, Any], dimension: str, value: str, added: Mapping[str, int]) -> None:
    at = int(event["at"].timestamp())
    for interval, seconds in (("minute", 60), ("hour", 3600), ("day", 86_400)):
        told[interval, dimension, value, at // seconds * seconds, event["test"]].update(added)


def _events(db: Database, tenant_id: UUID) -> Iterator[dict[str, Any]]:
    with db.read() as session:
        messages = {one.id: one for one in session.execute(select(MESSAGES).where(MESSAGES.c.tenant_id == tenant_id))}
        deliveries = session.execute(select(DELIVERIES.c.id, DELIVERIES.c.message_id, DELIVERIES.c.address)).all()
        addresses = {one.id: one.address for one in deliveries}
        recipients = defaultdict(list)
        for one in deliveries:
            recipients[one.message_id].append(one.address)
        its = log.EVENTS.c
        for row in session.execute(select(its.kind, its.at, its.data, its.message_id, its.delivery_id)):
            if (message := messages.get(row.message_id)) is not None:
                yield {
                    "kind": row.kind, "at": row.at, "data": row.data, "address": addresses.get(row.delivery_id),
                    "test": message.test, "tags": message.tags, "recipients": recipients[message.id],
                }  # fmt: skip
