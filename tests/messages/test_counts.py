"""The number of messages of each status is kept by triggers. It is right whatever changes messages."""

import random
import threading
from collections import Counter
from datetime import UTC, datetime

from alembic import command
from sqlalchemy import delete, func, insert, select, text, update

from mailbbgun import schema
from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.database.db import Database
from mailbbgun.messages import repo
from mailbbgun.messages.models import MESSAGES, MessageCount
from mailbbgun.messages.status import STATUSES
from mailbbgun.services import Services
from tests.accept.conftest import services as services  # the fixture

MESSAGE = {
    "subject": "s", "sender": "a@b.test", "mail_from": "a@b.test", "message_id": "<1@b>", "priority": 5,
    "smtputf8": False, "size": 1,
    "tags": [], "metadata": {}, "raw": b"x",
}  # fmt: skip


def add(db: Database, status: str, number: int) -> None:
    rows = [MESSAGE | {"id": new_id(), "created_at": datetime.now(UTC), "status": status} for _ in range(number)]
    with db.write() as session:
        session.execute(insert(MESSAGES), rows)


def kept(db: Database) -> dict[str | None, int]:
    with db.read() as session:
        wanted = [
            repo.Wanted(tenant_id=DEFAULT_TENANT, limit=0, offset=0, after=None, status=status)
            for status in (None, *STATUSES)
        ]
        return {one.status: repo.page(session, one)[1] for one in wanted}


def counted(db: Database) -> dict[str | None, int]:
    with db.read() as session:
        there = Counter(session.scalars(select(MESSAGES.c.status)))
    return {None: there.total()} | {status: there[status] for status in STATUSES}


def test_the_counts_are_right_whatever_is_done_to_messages(services: Services) -> None:
    dice = random.Random(7)
    for step in range(60):
        status, other = dice.sample(STATUSES, 2)
        some = select(MESSAGES.c.id).where(MESSAGES.c.status == status).limit(dice.randrange(4))
        if step % 3 == 0:
            add(services.db, status, dice.randrange(1, 9))
        with services.db.write() as session:
            if step % 3 == 1:
                session.execute(update(MESSAGES).where(MESSAGES.c.id.in_(some)).values(status=other, size=2))
            elif step % 7 == 0:
                session.execute(delete(MESSAGES).where(MESSAGES.c.id.in_(some)))
            elif step % 5 == 0:
                repo.sum_up_counts(session)
        assert kept(services.db) == counted(services.db), step


def test_a_message_that_is_rolled_back_is_not_counted(services: Services) -> None:
    add(services.db, "PENDING", 3)
    try:
        with services.db.write() as session:
            session.execute(update(MESSAGES).values(status="ERROR"))
            raise RuntimeError
    except RuntimeError:
        assert kept(services.db) == {None: 3, "PENDING": 3, "DELIVERED": 0, "ERROR": 0, "CANCELLED": 0}


def test_summing_up_beside_writers_and_each_other_loses_nothing_and_leaves_few_rows(services: Services) -> None:
    failed: list[BaseException] = []

    def work(status: str) -> None:
        try:
            for step in range(30):
                add(services.db, status, 2)
                if step % 3 == 0:
                    with services.db.write() as session:
                        repo.sum_up_counts(session)
                assert kept(services.db)[None] >= 2 * step
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=work, args=(status,)) for status in STATUSES]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not failed
    with services.db.write() as session:
        repo.sum_up_counts(session)
    assert kept(services.db) == {None: 240} | dict.fromkeys(STATUSES, 60)
    with services.db.read() as session:
        assert session.scalar(select(func.count()).select_from(MessageCount)) == 4


def test_the_migration_counts_the_messages_that_there_are(services: Services) -> None:
    add(services.db, "PENDING", 5)
    add(services.db, "ERROR", 2)
    config = schema.configuration()
    with services.db.write() as session:
        config.attributes["connection"] = session.connection()
        command.downgrade(config, "0001")
    with services.db.write() as session:
        session.execute(text("UPDATE messages SET status = 'CANCELLED' WHERE status = 'ERROR'"))
    schema.upgrade(services.db)
    assert (
        kept(services.db) == counted(services.db) == {None: 7, "PENDING": 5, "DELIVERED": 0, "ERROR": 0, "CANCELLED": 2}
    )
