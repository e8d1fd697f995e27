"""What a list of messages costs the database: indexes, statements, time."""

import re
from datetime import UTC, datetime

import pytest
from sqlalchemy import event, insert, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from mailbbgun.app import close, create_app
from mailbbgun.core.errors import TookTooLong
from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.database import deadline
from mailbbgun.database.deadline import at_most
from mailbbgun.messages import find, repo
from mailbbgun.messages.models import DELIVERIES, MESSAGES
from tests.messages.test_counts import MESSAGE
from tests.waiting import PATIENCE, cpu_of, growth


def test_a_list_by_recipient_walks_an_index(door):
    messages = [new_id() for _ in range(3000)]
    message = {
        "created_at": datetime.now(UTC), "status": "PENDING", "subject": "s", "sender": "a@b.test",
        "mail_from": "a@b.test",
        "message_id": "<1@b>", "priority": 5, "smtputf8": False, "size": 1, "tags": [], "metadata": {}, "raw": b"x",
    }  # fmt: skip
    delivery = {"kind": "to", "lane": "normal", "status": "PENDING"}
    asked = []
    with Session(door.services.db.engine) as session:  # never committed
        session.execute(insert(MESSAGES), [message | {"id": one} for one in messages])
        rows = [
            delivery | {"id": new_id(), "message_id": one, "address": f"User{n}@walk.example"}
            for n, one in enumerate(messages)
        ]
        session.execute(insert(DELIVERIES), rows)
        session.execute(text("ANALYZE"))
        event.listen(session.connection(), "before_cursor_execute", lambda *arguments: asked.append(arguments[2:4]))
        found, count, _ = repo.page(
            session, repo.Wanted(tenant_id=DEFAULT_TENANT, limit=10, offset=0, after=None, to="uSER7@Walk.Example")
        )
        assert ([one["id"] for one in found], count) == ([messages[7]], 1)
        explain = "EXPLAIN" if door.services.db.dialect == "postgresql" else "EXPLAIN QUERY PLAN"
        for statement, parameters in asked[:2]:  # the count and the page
            plan = str(session.connection().exec_driver_sql(f"{explain} {statement}", parameters).all())
            assert "ix_deliveries_tenant_id_domain_address_message_id" in plan
            assert not re.search(r"Seq Scan|\bSCAN\b", plan), plan


def test_a_list_costs_the_same_statements_whatever_its_length(door, tag):
    for _ in range(20):
        door.send(tags=[tag], to=["ann@example.com", "ben@example.com"])
    statements = []
    event.listen(door.services.db.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    with door.services.db.read() as session:
        messages, _, _ = repo.page(
            session, repo.Wanted(tenant_id=DEFAULT_TENANT, limit=20, offset=0, after=None, tag=tag)
        )
    assert (len(messages), sum(one.startswith("SELECT") for one in statements)) == (20, 3)


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        ({"to": "uSER7@D7.Example"}, "ix_deliveries_tenant_id_domain_address_message_id"),
        ({"domain": "d7.example"}, "ix_deliveries_tenant_id_domain_address_message_id"),
        ({"reason": "parked"}, "ix_deliveries_tenant_id_reason_message_id"),
        ({"sender": "SHOP7@d7.example"}, "ix_messages_tenant_id_from_id"),
        ({"message_id_header": "7@d7.example"}, "ix_messages_tenant_id_message_id"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_each_filter_walks_its_index(door, wanted, index):
    messages = [new_id() for _ in range(3000)]
    asked = []
    with Session(door.services.db.engine) as session:  # never committed
        same = MESSAGE | {"status": "PENDING", "created_at": datetime.now(UTC)}
        rows = [
            same | {"id": one, "sender": f"Shop <Shop{n}@d{n}.example>", "message_id": f"<{n}@d{n}.example>"}
            for n, one in enumerate(messages)
        ]
        session.execute(insert(MESSAGES), rows)
        delivery = {"kind": "to", "lane": "normal", "status": "PENDING"}
        rows = [
            delivery
            | {
                "id": new_id(),
                "message_id": one,
                "address": f"User{n}@d{n}.example",
                "reason": "parked" if n == 7 else None,
            }
            for n, one in enumerate(messages)
        ]
        session.execute(insert(DELIVERIES), rows)
        session.execute(text("ANALYZE"))
        event.listen(session.connection(), "before_cursor_execute", lambda *arguments: asked.append(arguments[2:4]))
        shown, count, _ = repo.page(
            session, repo.Wanted(tenant_id=DEFAULT_TENANT, limit=10, offset=0, after=None, **wanted)
        )
        assert ([one["id"] for one in shown], count) == ([messages[7]], 1)
        explain = "EXPLAIN" if door.services.db.dialect == "postgresql" else "EXPLAIN QUERY PLAN"
        for statement, parameters in asked[:2]:  # the count and the page
            plan = str(session.connection().exec_driver_sql(f"{explain} {statement}", parameters).all())
            assert index in plan
            assert not re.search(r"Seq Scan|\bSCAN (?:messages|deliveries)\b", plan), plan


def test_a_list_by_subject_searches_a_bounded_number_of_messages(door, tag, monkeypatch):
    monkeypatch.setattr(repo, "SEARCHED", 3)
    sent = [door.send(to=f"{tag}@example.com", subject=f"{tag} {n}") for n in range(5)]
    with door.services.db.read() as session:

        def searched(**wanted):
            shown, count, _ = repo.page(
                session, repo.Wanted(tenant_id=DEFAULT_TENANT, limit=10, offset=0, after=None, subject=tag, **wanted)
            )
            assert count == len(shown)
            return [str(one["id"]) for one in shown]

        assert searched() == sent[:1:-1]
        assert searched(to=f"{tag}@example.com") == sent[::-1]


@pytest.mark.parametrize("letter", ["a", "ä"])
def test_a_part_that_differs_from_each_subject_only_at_its_end_costs_little_more(door, letter):
    with Session(door.services.db.engine) as session:  # never committed
        same = MESSAGE | {"status": "PENDING", "created_at": datetime.now(UTC), "subject": letter * 256}
        session.execute(insert(MESSAGES), [same | {"id": new_id()} for _ in range(1000)])

        def cost(length: int) -> float:
            """CPU seconds of a search. PostgreSQL's are its own."""
            wanted = repo.Wanted(
                tenant_id=DEFAULT_TENANT, limit=10, offset=0, after=None, subject=letter * length + "b"
            )
            return cpu_of(lambda: repo.page(session, wanted))

        assert growth(cost, 1, 199, turns=3, least=0.005) < 16  # with GLOB it was a hundred


def test_a_list_that_the_database_works_on_for_too_long_is_given_up(door, monkeypatch):
    monkeypatch.setattr(find, "LIST_SECONDS", 0.1)
    monkeypatch.setattr(deadline, "_STEPS", 1)
    app = create_app(door.services.settings)
    try:
        client = app.test_client()
        with door.services.db.write() as session:
            if door.services.db.dialect == "postgresql":
                session.execute(text("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE"))
            else:  # on SQLite, a reader does not wait for a lock
                monkeypatch.setattr(find, "LIST_SECONDS", 0.0)
            answer = client.get("/messages?subject=x")
        told = (
            f"It takes the database longer than {find.LIST_SECONDS:g} s to find these messages; "
            "narrow the list by `since` and `until`, or by `to`."
        )
        assert (answer.status_code, answer.json["error"]) == (
            503,
            {"status": 503, "code": "took_too_long", "message": told},
        )
        monkeypatch.undo()
        assert client.get("/messages?subject=x").status_code == 200  # the connection still works
    finally:
        close(app)


def test_an_endless_statement_is_cancelled_and_other_errors_are_not_changed(door):
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT (i + 1) % 1000 FROM n) SELECT count(*) FROM n"
    with (
        door.services.db.read() as session,
        pytest.raises(TookTooLong, match="too long"),
        at_most(session, 0.1, "too long"),
    ):
        session.execute(text(endless))
    with door.services.db.read() as session, pytest.raises(DBAPIError), at_most(session, PATIENCE, ""):
        session.execute(text("SELECT * FROM nowhere"))
