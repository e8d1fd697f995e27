"""Claims on real rows: what they come with, what becomes of them if an error follows, and their results' events."""

from uuid import uuid4

import pytest
from sqlalchemy import select, update

from mailbbgun.attachments.inspection import Inspector
from mailbbgun.core.clock import rfc3339
from mailbbgun.core.errors import DatabaseUnavailable
from mailbbgun.deliver.claim import Loaded, claim
from mailbbgun.deliver.context import WorkerContext, policy
from mailbbgun.deliver.deliver import take
from mailbbgun.deliver.retry import judge
from mailbbgun.events.changes import holding, record
from mailbbgun.events.models import Event
from mailbbgun.messages.models import MESSAGES
from mailbbgun.messages.outgoing import ComposedMessages
from mailbbgun.smtp.outcome import Deferred, Phase
from mailbbgun.smtp.reply import Reply
from tests.waiting import wait_until

pytestmark = pytest.mark.both

LATER = Reply(452, "4.5.3", "later")
BYTES = bytes(range(256)) + b"\\\\101 \\x \\" + "größer".encode()


@pytest.mark.parametrize(
    "raw",
    [b"", b"Subject: x\r\n\r\nplain\r\n", b"\\", BYTES, BYTES * 40],
    ids=["empty", "plain", "backslash", "bytes", "long"],
)
def test_a_claim_of_many_recipients_comes_with_each_message_byte_for_byte(store, owner, raw):
    rows = [*store.add(due=-1, recipients=3), *store.add(2, due=-1)]
    messages = {store.row(row).message_id for row in rows}
    with store.services.db.write() as session:
        session.execute(update(MESSAGES).values(raw=raw, size=len(raw), smtputf8=True, key_id=owner))
    with store.services.db.statements() as statements:
        claims, loaded = claim(statements, owner, list(messages), 60, 5.0)
    assert {one.delivery_id for one in claims} == set(rows)
    assert {(one.claim_number, one.schedule_step, one.unknowns, one.lease_ends) for one in claims} == {(1, 0, 0, 5.0)}
    assert loaded == dict.fromkeys(messages, Loaded(raw, "a@b.test", True, False, "a@b.test", owner))
    with store.services.db.statements() as statements:
        assert claim(statements, owner, list(messages), 60, 5.0) == ([], {})


def test_a_claim_comes_without_the_bytes_of_a_large_message(store, owner):
    (row,) = store.add(due=-1)
    message = store.row(row).message_id
    with store.services.db.write() as session:
        session.execute(update(MESSAGES).values(raw=b"x" * 70_000, size=70_000))
    with store.services.db.statements() as statements:
        assert claim(statements, owner, [message], 60, 0.0).messages[message].raw is None
    services = store.services
    assert (
        ComposedMessages(services.db, services.blobs, Inspector(services), services.settings.var).ready(message).whole
        == b"x" * 70_000
    )


def test_claims_are_given_back_if_the_database_goes_away_before_their_mail_can_be_grouped(store, owner, monkeypatch):
    (row,) = store.add(due=-1)
    context = WorkerContext.open(store.services, owner)

    def held(database, message_ids):
        raise DatabaseUnavailable("gone since the claim")

    monkeypatch.setattr(holding, "hold", held)
    with pytest.raises(DatabaseUnavailable):
        take(context, [store.row(row).message_id, uuid4()])  # the second one is missing
    wait_until(lambda: store.row(row).lease_owner is None, "the claim is given back")
    assert (store.row(row).attempt, store.row(row).tries, store.kinds(row)) == (1, 0, [])
    monkeypatch.undo()
    assert [one.message_id for one in take(context, [store.row(row).message_id])] == [store.row(row).message_id]
    context.close(5.0)


def test_an_event_of_a_retry_tells_when_it_is_due_and_keeps_the_order_of_its_fields(store, owner):
    (row,) = store.add(due=-1)
    message = store.row(row).message_id
    with store.services.db.statements() as statements:
        (one,), _ = claim(statements, owner, [message], 60, 0.0)
    later = judge(Deferred(LATER, Phase.DATA), one, policy(store.services.settings))
    assert record.commit_results(store.services.db, owner, [later], lambda: None) == [later]
    with store.services.db.read() as session:
        (data,) = session.scalars(select(Event.data).where(Event.delivery_id == row))
    due = store.row(row).next_attempt_at
    assert data["retry_at"] == rfc3339(due)
    assert list(data) == ["claim", "code", "reply", "phase", "cause", "class", "enhanced", "retry_in", "retry_at"]
    assert data["retry_in"] == round(later.wait)
