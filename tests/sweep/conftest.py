"""Rows as workers leave them behind, on each database."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import insert, select

from mailbbgun import schema
from mailbbgun.core.ids import new_id
from mailbbgun.database.db import db_now
from mailbbgun.events.models import Event
from mailbbgun.messages.models import Delivery, Message
from mailbbgun.services import Services, build
from mailbbgun.settings.load import load
from tests import tables


@dataclass(frozen=True)
class Store:
    """Inserts deliveries, one for each message, and reads them."""

    services: Services

    def add(
        self,
        count: int = 1,
        *,
        lane: str = "normal",
        due: float = 0,
        hinted: float | None = None,
        recipients: int = 1,
        **columns: Any,
    ) -> list[UUID]:
        """Insert pending messages; ``due`` and ``hinted`` are seconds from now.

        Returns the ids of their deliveries.
        """
        messages = [new_id() for _ in range(count)]
        deliveries = [new_id() for _ in range(count * recipients)]
        message = {
            "created_at": datetime.now(UTC), "status": "PENDING", "subject": "s", "sender": "a@b.test",
            "mail_from": "a@b.test", "message_id_header": "<1@b>", "priority": 5, "smtputf8": False, "size": 1,
            "tags": [], "meta": {}, "raw": b"x",
        }  # fmt: skip
        times = {"next_attempt_at": db_now(due), "published_at": None if hinted is None else db_now(hinted)}
        if "leased" in columns:
            times["lease_until"] = db_now(columns.pop("leased"))
        delivery = {"address": "a@b.test", "kind": "to", "lane": lane, "status": "PENDING"} | columns
        with self.services.db.write() as session:
            session.execute(insert(Message), [message | {"id": one} for one in messages])
            rows = [
                delivery | {"id": one, "message_id": messages[number // recipients]}
                for number, one in enumerate(deliveries)
            ]
            session.execute(insert(Delivery.__table__).values(**times), rows)
        return deliveries

    def claimed(self, owner: UUID, *, leased: float = 100, **columns: Any) -> Delivery:
        """Insert one delivery that a worker holds."""
        (identifier,) = self.add(lease_owner=owner, leased=leased, **{"attempt": 1} | columns)
        return self.row(identifier)

    def row(self, identifier: UUID) -> Delivery:
        """Read one delivery."""
        with self.services.db.read() as session:
            return session.scalars(select(Delivery).where(Delivery.id == identifier)).one()

    def kinds(self, identifier: UUID) -> list[str]:
        """Return the kinds of a delivery's events."""
        with self.services.db.read() as session:
            return list(session.scalars(select(Event.kind).where(Event.delivery_id == identifier).order_by(Event.id)))

    def hints(self) -> list[UUID]:
        """Take every hint from the queue; return their messages."""
        consumer, found = self.services.queue.consumer(5000), []
        while taken := consumer.take(5000, 0.0):
            consumer.settle(taken)
            found += [hint.message_id for hint in taken]
        consumer.close()
        return found


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Fresh tables and the embedded queue."""
    given = {
        "MAILBBGUN_VAR": str(tmp_path),
        "MAILBBGUN_HOSTNAME": "mail.example.com",
        "MAILBBGUN_RETRY_DELAYS": "600,600,1800",
    }
    server = database = None
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        database = tables.database_of(server)
        given["MAILBBGUN_DATABASE_URL"] = server.url(database)
    built = build(load(given))
    tables.put_into(built.db)
    schema.upgrade(built.db)
    yield Store(built)
    built.close()
    if server is not None:
        server.drop_database(database)


@pytest.fixture
def owner() -> UUID:
    return uuid4()
