"""The tenant filter: which statements it refuses, also if our queries forget the tenant."""

import re
import types
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy import Executable, Uuid, bindparam, delete, exists, false, func, insert, select, text, true, update
from sqlalchemy.orm import aliased

import mailbbgun.events.changes.record
import mailbbgun.events.repo
import mailbbgun.messages.repo
import mailbbgun.oversight.api
from mailbbgun import schema
from mailbbgun.core.caller import KeyKind, Scope
from mailbbgun.core.errors import UnfilteredQuery
from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.database.compiled import CompiledStatement
from mailbbgun.database.db import Database
from mailbbgun.database.sql import recordset
from mailbbgun.deliver.models import RegisteredWorker
from mailbbgun.events.models import Event
from mailbbgun.http.provided import provided
from mailbbgun.messages.models import DELIVERIES, MESSAGES, Delivery, Message, MessageCount
from mailbbgun.services import Services
from mailbbgun.settings.settings import Settings
from mailbbgun.smtp_accounts.models import SMTPAccount
from mailbbgun.tenants import keys
from mailbbgun.tenants.models import ACTIVE, Tenant
from tests.conftest import application

pytestmark = pytest.mark.both

OURS, THEIRS = uuid4(), uuid4()
OTHER = aliased(Delivery)
GIVEN = recordset("postgresql", "given", {"id": Uuid(), "tenant_id": Uuid()})

ALLOWED = {
    "names its tenant": select(Message.id).where(Message.tenant_id == OURS),
    "and more": select(Message.id).where(Message.status == "x", Message.tenant_id == OURS, Message.id == new_id()),
    "a conjunction": select(Message.id).where((Message.tenant_id == OURS) & (Message.status == "x")),
    "the table itself": select(MESSAGES.c.id).where(MESSAGES.c.tenant_id == OURS),
    "a join": select(Event.id)
    .join(Delivery, (Delivery.id == Event.delivery_id) & (Delivery.tenant_id == OURS))
    .where(Event.tenant_id == OURS),
    "a subquery": select(Message.id).where(
        Message.tenant_id == OURS, Message.id.in_(select(Delivery.message_id).where(Delivery.tenant_id == OURS))
    ),
    "an outer join": select(Event.id)
    .outerjoin(Delivery, (Delivery.id == Event.delivery_id) & (Delivery.tenant_id == OURS))
    .where(Event.tenant_id == OURS),
    "an alias": select(OTHER.id).where(OTHER.tenant_id == OURS),
    "an update": update(DELIVERIES).where(DELIVERIES.c.tenant_id == OURS).values(status="x"),
    "a delete": delete(Message).where(Message.tenant_id == OURS),
    "nobody's table": select(RegisteredWorker.id),
}
REFUSED = {
    "names none": select(Message.id).where(Message.id == new_id()),
    "names another": select(Message.id).where(Message.tenant_id == THEIRS),
    "names all but another": select(Message.id).where(Message.tenant_id != THEIRS),
    "or anything": select(Message.id).where((Message.tenant_id == OURS) | (Message.status == "x")),
    "a column with itself": select(Message.id).where(Message.tenant_id == Message.tenant_id),
    "counts all": select(func.count()).select_from(Message),
    "a join": select(Event.id).join(Delivery, Delivery.id == Event.delivery_id).where(Event.tenant_id == OURS),
    "an outer join that says it for what it joins": select(Event.id).outerjoin(
        Delivery, (Delivery.id == Event.delivery_id) & (Delivery.tenant_id == OURS)
    ),
    "an outer join that says it in its condition": select(Event.id).outerjoin(
        Delivery, (Delivery.id == Event.delivery_id) & (Delivery.tenant_id == OURS) & (Event.tenant_id == OURS)
    ),
    "a subquery": select(Message.id).where(Message.tenant_id == OURS, Message.id.in_(select(Delivery.message_id))),
    "a subquery that says it for the other": select(Message.id).where(
        Message.id.in_(select(Delivery.message_id).where(Delivery.tenant_id == OURS))
    ),
    "exists": select(RegisteredWorker.id).where(exists().where(Message.id == RegisteredWorker.id)),
    "an alias": select(OTHER.id).where(OTHER.status == "x"),
    "a table beside its alias": select(OTHER.id).where(Delivery.tenant_id == OURS, Delivery.id == OTHER.id),
    "words": text("SELECT id FROM messages"),
    "a common table expression": select(select(Message.id).cte("all_of_them").c.id),
    "a union": select(Message.id).where(Message.tenant_id == OURS).union(select(Message.id)),
    "an update": update(DELIVERIES).values(status="x"),
    "an update by a subquery": update(DELIVERIES)
    .where(DELIVERIES.c.id.in_(select(Delivery.id).where(Delivery.tenant_id == OURS)))
    .values(kind="x"),
    "a delete": delete(Message).where(Message.id == new_id()),
}

FOR_ALL = {
    "inserted with a tenant": insert(MESSAGES).values(id=bindparam("id"), tenant_id=bindparam("tenant_id")),
    "inserted from given rows with a tenant": insert(MESSAGES).from_select(
        ["id", "tenant_id"], select(GIVEN.c.id, GIVEN.c.tenant_id)
    ),
    "a table that nobody owns": update(RegisteredWorker).values(beat_at=func.now()),
    "named by its tenant": select(Message.id).where(Message.tenant_id == bindparam("tenant")),
    "named by id": update(DELIVERIES).where(DELIVERIES.c.id == bindparam("delivery")).values(status="x"),
    "by ids": delete(Message).where(Message.id.in_(select(GIVEN.c.id)), Message.status == "x"),
    "by ids of given rows": update(DELIVERIES).where(DELIVERIES.c.message_id == GIVEN.c.id).values(status="x"),
    "joined with what is named by id": select(Message.id)
    .join(Delivery, Delivery.message_id == Message.id)
    .where(Delivery.id == bindparam("id")),
    "outer joined by its key": select(Event.id)
    .outerjoin(Delivery, Delivery.id == Event.delivery_id)
    .where(Event.id == bindparam("id")),
    "by ids found by ids": update(DELIVERIES).where(
        DELIVERIES.c.id.in_(select(select(Delivery.id).where(Delivery.message_id == GIVEN.c.id).cte("chosen").c.id))
    ),
}
NOT_FOR_ALL = {
    "inserted without a tenant": insert(MESSAGES).values(id=bindparam("id"), status="x"),
    "inserted without a tenant, beside one that has": insert(DELIVERIES)
    .from_select(["id", "tenant_id"], select(GIVEN.c.id, GIVEN.c.tenant_id))
    .add_cte(insert(MESSAGES).from_select(["id"], select(GIVEN.c.id)).cte("m")),
    "copied from all": insert(MESSAGES).from_select(["id", "tenant_id"], select(Delivery.id, Delivery.tenant_id)),
    "all": select(Message.id),
    "all of a status": update(DELIVERIES).where(DELIVERIES.c.status == bindparam("status")).values(kind="x"),
    "one by id, or any": select(Message.id).where((Message.id == bindparam("id")) | (Message.status == "x")),
    "any but one": select(Message.id).where(Message.id != bindparam("id")),
    "an id that is itself": select(Message.id).where(Message.id == Message.id),
    "two tables by each other's keys": select(Message.id).join(Delivery, Delivery.message_id == Message.id),
    "by ids of all of another table": select(Message.id).where(Message.id.in_(select(Delivery.message_id))),
    "an outer join that names only what it joins": select(Event.id).outerjoin(
        Delivery, (Delivery.id == Event.delivery_id) & (Delivery.id == bindparam("id"))
    ),
    "an outer join that names the other": select(Event.id).outerjoin(
        Delivery, (Delivery.id == Event.delivery_id) & (Event.id == bindparam("id"))
    ),
    "words": text("INSERT INTO messages (id) VALUES (:id)"),
    "a subquery": update(RegisteredWorker).values(beat_at=select(func.max(Message.created_at)).scalar_subquery()),
    "a delete": delete(Message),
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path_factory.mktemp('filter')}/x.db")
    schema.upgrade(opened)
    yield opened
    opened.close()


@pytest.mark.parametrize("statement", ALLOWED.values(), ids=ALLOWED.keys())
def test_a_statement_that_names_its_tenant_is_executed(database: Database, statement: object) -> None:
    for _ in range(2):  # its form is analysed, then remembered
        with database.write(OURS) as session:
            session.execute(statement)


@pytest.mark.parametrize("statement", REFUSED.values(), ids=REFUSED.keys())
def test_a_statement_that_does_not_is_refused_each_time_but_only_in_a_session_of_a_tenant(
    database: Database, statement: object
) -> None:
    for _ in range(2):
        with pytest.raises(UnfilteredQuery), database.write(OURS) as session:
            session.execute(statement)
    with database.write() as session:
        session.execute(statement)
        session.rollback()


def test_one_form_of_statement_is_judged_by_its_value_each_time(database: Database) -> None:
    for tenant, mine in ((OURS, OURS), (THEIRS, THEIRS)):
        with database.read(mine) as session:
            session.execute(select(Message.id).where(Message.tenant_id == tenant))
    with pytest.raises(UnfilteredQuery), database.read(OURS) as session:
        session.execute(select(Message.id).where(Message.tenant_id == THEIRS))


TESTS = (Message.tenant_id == OURS, Message.test == true())
TEST_IDS = select(Message.id).where(*TESTS)
TESTED = {
    "test messages": select(Message.subject).where(*TESTS),
    "what belongs to them": select(Delivery.id).where(Delivery.tenant_id == OURS, Delivery.message_id.in_(TEST_IDS)),
    "those that something belongs to": select(Message.id).where(
        *TESTS, Message.id.in_(select(Delivery.message_id).where(Delivery.tenant_id == OURS))
    ),
    "an outer join": select(Event.id)
    .outerjoin(
        Delivery, (Delivery.id == Event.delivery_id) & (Delivery.tenant_id == OURS) & Delivery.message_id.in_(TEST_IDS)
    )
    .where(Event.tenant_id == OURS, Event.message_id.in_(TEST_IDS)),
    "an update": update(DELIVERIES)
    .where(DELIVERIES.c.tenant_id == OURS, DELIVERIES.c.message_id.in_(TEST_IDS))
    .values(kind="x"),
    "nobody's table": select(RegisteredWorker.id),
}
_OURS = Message.tenant_id == OURS
UNTESTED = {
    "any message": select(Message.id).where(_OURS),
    "live messages": select(Message.id).where(_OURS, Message.test == false()),
    "all but test messages": select(Message.id).where(_OURS, Message.test != true()),
    "or something else": select(Message.id).where(_OURS, (Message.test == true()) | (Message.status == "x")),
    "what belongs to any": select(Delivery.id).where(Delivery.tenant_id == OURS),
    "what belongs to any, by id": select(Delivery.id).where(
        Delivery.tenant_id == OURS, Delivery.message_id == new_id()
    ),
    "what belongs to live ones": select(Delivery.id).where(
        Delivery.tenant_id == OURS, Delivery.message_id.in_(select(Message.id).where(_OURS))
    ),
    "what belongs to no test message": select(Delivery.id).where(
        Delivery.tenant_id == OURS, Delivery.message_id.not_in(TEST_IDS)
    ),
    "an outer join": select(Event.id)
    .outerjoin(Delivery, (Delivery.id == Event.delivery_id) & (Delivery.tenant_id == OURS))
    .where(Event.tenant_id == OURS, Event.message_id.in_(TEST_IDS)),
    "an outer join that asks only for what it joins": select(Event.id)
    .outerjoin(Delivery, (Delivery.tenant_id == OURS) & Delivery.message_id.in_(TEST_IDS))
    .where(Event.tenant_id == OURS),
    "exists": select(Message.id).where(*TESTS, exists().where(Delivery.tenant_id == OURS)),
    "counts of all": select(MessageCount.n).where(MessageCount.tenant_id == OURS),
    "accounts": select(SMTPAccount.id).where(SMTPAccount.tenant_id == OURS),
    "an update": update(DELIVERIES).where(DELIVERIES.c.tenant_id == OURS).values(kind="x"),
    "a delete": delete(Message).where(_OURS),
}


@pytest.mark.parametrize("statement", TESTED.values(), ids=TESTED.keys())
def test_a_statement_that_asks_for_test_data_is_executed_in_a_session_for_test_data(
    database: Database, statement: object
) -> None:
    for _ in range(2):
        with database.write(OURS, tests_only=True) as session:
            session.execute(statement)


@pytest.mark.parametrize("statement", UNTESTED.values(), ids=UNTESTED.keys())
def test_a_statement_that_may_meet_live_data_is_refused_there_and_only_there(
    database: Database, statement: object
) -> None:
    for _ in range(2):
        with pytest.raises(UnfilteredQuery, match="live data"), database.write(OURS, tests_only=True) as session:
            session.execute(statement)
        with database.write(OURS) as session:
            session.execute(statement)
            session.rollback()


@pytest.mark.parametrize("statement", FOR_ALL.values(), ids=FOR_ALL.keys())
def test_a_statement_that_names_tenants_or_rows_by_key_can_be_compiled(statement: Executable) -> None:
    assert CompiledStatement(statement).statement is statement


@pytest.mark.parametrize("statement", NOT_FOR_ALL.values(), ids=NOT_FOR_ALL.keys())
def test_a_statement_that_reaches_rows_of_all_tenants_cannot_be_compiled(statement: Executable) -> None:
    with pytest.raises(UnfilteredQuery):
        CompiledStatement(statement)


# Every comparison that asks for the tenant, as our queries write it.
FILTER = re.compile(r"(?<![\w.])(?:\w+\.)?\w+\.tenant_id == (?:\w+\.)*\w+")
MUTATED = (mailbbgun.messages.repo, mailbbgun.events.repo, mailbbgun.events.changes.record)


def mutate(module: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> int:
    """Take the tenant out of every query of a module, and return how often it was there."""
    source, count = FILTER.subn("true()", Path(module.__file__ or "").read_text())
    namespace = {"__name__": module.__name__}
    exec(compile("from sqlalchemy import true\n" + source, "mutated", "exec"), namespace)  # noqa: S102 - our own source
    for name, value in namespace.items():
        if isinstance(value, types.FunctionType) and value.__module__ == module.__name__:
            monkeypatch.setattr(module, name, value)
    return count


@pytest.fixture
def app(backend: Settings) -> Iterator[Flask]:
    with application(backend) as made:
        yield made


def test_if_every_query_forgets_the_tenant_no_row_of_another_tenant_is_shown_or_changed(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = app.test_client()
    with app.app_context():
        services = provided(Services)
        tokens = {}
        for tenant in (OURS, THEIRS):
            with services.db.write() as session:
                session.add(Tenant(id=tenant, name=str(tenant), status=ACTIVE, created_at=func.now()))
                session.flush()
                tokens[tenant] = keys.create(
                    session, services.vault, tenant, keys.KeySpec(name="k", scopes=tuple(Scope))
                ).token

    def ask(method: str, path: str, tenant: UUID, **options: object) -> object:
        return client.open(path, method=method, headers={"Authorization": f"Bearer {tokens[tenant]}"}, **options)

    message = {"to": "ann@example.com", "subject": "their secret", "text": "x", "tags": ["t"]}
    theirs = ask("POST", "/messages", THEIRS, json=message).json["id"]
    calls = [("GET", f"/messages/{theirs}{path}") for path in ("", "/raw", "/events")]
    calls += [
        ("GET", f"/messages{query}") for query in ("", "?tag=t", "?to=ann@example.com", "?status=PENDING", "?limit=0")
    ]
    calls += [("DELETE", f"/messages/{theirs}"), ("POST", f"/messages/{theirs}/retry")]
    for method, path in calls:
        answer = ask(method, path, OURS)
        assert answer.status_code == (404 if theirs in path else 200)
    assert sum(mutate(module, monkeypatch) for module in MUTATED) > 12
    for method, path in calls:
        answer = ask(method, path, OURS)
        assert answer.status_code in (404, 500), (method, path)
        assert "secret" not in answer.text
        assert theirs not in answer.text.replace(f"/{theirs}", "")
    monkeypatch.undo()
    assert ask("GET", f"/messages/{theirs}", THEIRS).json["status"] == "PENDING"


@pytest.mark.parametrize("forgetful", ["test_messages", "of_test_messages"])
def test_if_queries_forget_to_ask_for_test_data_a_test_key_sees_and_changes_no_live_data(
    app: Flask, monkeypatch: pytest.MonkeyPatch, forgetful: str
) -> None:
    client, tokens = app.test_client(), {}
    with app.app_context():
        services = provided(Services)
        for kind in (KeyKind.LIVE, KeyKind.TEST):
            with services.db.write() as session:
                tokens[kind] = keys.create(
                    session, services.vault, DEFAULT_TENANT, keys.KeySpec(name="k", kind=kind, scopes=tuple(Scope))
                ).token

    def ask(method: str, path: str, kind: KeyKind, **options: object) -> object:
        return client.open(path, method=method, headers={"Authorization": f"Bearer {tokens[kind]}"}, **options)

    hello = {"to": "ann@example.com", "text": "x", "tags": ["t"]}
    live = ask("POST", "/messages", KeyKind.LIVE, json=hello | {"subject": "live secret"}).json["id"]
    ask("POST", "/messages", KeyKind.TEST, json=hello | {"subject": "test"})
    for module in (mailbbgun.messages.repo, mailbbgun.events.repo, mailbbgun.events.changes.record):
        monkeypatch.setattr(module, forgetful, lambda *_: [], raising=False)
    calls = [("GET", f"/messages/{live}{path}") for path in ("", "/raw", "/events")]
    calls += [
        ("GET", f"/messages{query}")
        for query in ("", "?tag=t", "?to=ann@example.com", "?status=PENDING", "?limit=0", "?test=false")
    ]
    calls += [("DELETE", f"/messages/{live}"), ("POST", f"/messages/{live}/retry")]
    for method, path in calls:
        answer = ask(method, path, KeyKind.TEST)
        assert "secret" not in answer.text
        assert answer.status_code in ((404, 500) if live in path else (200, 500)), (method, path)
        if answer.status_code == 200:
            assert answer.json["count"] < 2
    monkeypatch.undo()
    assert ask("GET", f"/messages/{live}", KeyKind.LIVE).json["status"] == "PENDING"
