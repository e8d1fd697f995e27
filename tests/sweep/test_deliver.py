"""What comes of an attempt that an error of ours ends, and of a claim that a suspended tenant's mail escapes."""

from collections.abc import Sequence
from contextlib import closing
from uuid import uuid4

import pytest
from sqlalchemy import update

from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.deliver.claim import Claim, put_early_back
from mailbbgun.deliver.context import WorkerContext
from mailbbgun.deliver.deliver import send, take
from mailbbgun.deliver.transaction import Transaction
from mailbbgun.drivers.loop import Loop
from mailbbgun.events.changes import holding
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Deferred, Delivered, Outcome, Unknown
from mailbbgun.smtp.reply import Reply
from mailbbgun.smtp.transaction import AfterDot, BeforeDot
from mailbbgun.sweep.hints import hint_again, unhinted
from mailbbgun.tenants.models import ACTIVE, SUSPENDED, TENANTS

TAKEN, LATER = Reply(250, "2.0.0", "taken"), Reply(452, "4.5.3", "later")


class Breaks:
    """A relay that sends to one recipient after the other, until it raises an error.

    ``replies`` are those to the dots: None for a dot that was not answered.
    """

    def __init__(self, replies: Sequence[Reply | None]) -> None:
        self.replies = replies

    async def attempt(self, envelope: Envelope, before_dot: BeforeDot, after_dot: AfterDot) -> dict[str, Outcome]:
        for recipient, reply in zip(envelope.recipients, self.replies, strict=False):
            assert await before_dot((recipient,))
            if reply is not None:
                await after_dot((recipient,), reply)
        raise RuntimeError("a bug")


def sent(context: WorkerContext, transaction: Transaction, envelope: Envelope) -> dict[str, Outcome]:
    """Send with a loop whose turns end with the journal's, as a worker's do."""
    outcomes: dict[str, Outcome] = {}

    async def to_its_end() -> None:
        outcomes.update(await send(context, transaction, envelope))

    with closing(Loop()) as loop:
        loop.start(to_its_end())
        while len(loop):
            context.journal_turns.end()
            loop.turn(0.0)
    return outcomes


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)  # nothing of this is in the database
def test_what_a_server_has_answered_before_an_error_of_ours_is_known(store, owner, monkeypatch):
    context = WorkerContext.open(store.services, owner)
    names, ends = ("taken@b.test", "later@b.test", "sent@b.test", "unsent@b.test"), context.clock.boot() + 60
    claims = [Claim(uuid4(), uuid4(), uuid4(), name, "normal", 1, 0, 0, ends) for name in names]
    monkeypatch.setattr(context.routes, "relay", lambda _route: Breaks([TAKEN, LATER, None]))
    transaction = Transaction(claims[0].message_id, "f@x.test", False, b"x", "smarthost", claims)
    outcomes = sent(context, transaction, Envelope("f@x.test", names, b"x", False))
    assert [type(outcomes[name]) for name in names] == [Delivered, Deferred, Unknown, Deferred]
    assert outcomes["taken@b.test"].reply == TAKEN
    context.close(5.0)


@pytest.mark.parametrize("store", ["postgresql"], indirect=True)  # SQLite has one writer at a time
def test_mail_of_a_tenant_that_becomes_active_while_its_hint_is_taken_is_hinted_again(store, owner, monkeypatch):
    (row,) = store.add(due=-5, hinted=-3)
    message, hold = store.row(row).message_id, holding.hold

    def is_now(status: str) -> None:
        with store.services.db.write() as session:
            session.execute(update(TENANTS).where(TENANTS.c.id == DEFAULT_TENANT).values(status=status))

    def held(database, message_ids):
        is_now(ACTIVE)  # by an administrator, after the claim's statement
        return hold(database, message_ids)

    is_now(SUSPENDED)
    context = WorkerContext.open(store.services, owner)
    monkeypatch.setattr(holding, "hold", held)
    assert take(context, [message]) == []
    with store.services.db.statements() as statements:
        put_early_back(statements, [message])  # as the intake does with what it could not claim
    hint_again(store.services.db, store.services.queue, unhinted())
    assert store.hints() == [message]
    context.close(5.0)
