"""Once cancelling or suppressing has returned, no delivery begins that it was about.

A state machine draws what API, worker and sweep do, one after the other; threads do it at once.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any, ClassVar
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from sqlalchemy import func, select

from mailbbgun import schema
from mailbbgun.accept.accept import Acceptor
from mailbbgun.accept.attached import Attached
from mailbbgun.accept.fields import Fields, Options
from mailbbgun.accept.store import Store
from mailbbgun.attachments.inspection import Inspector
from mailbbgun.core.caller import ANYBODY
from mailbbgun.core.errors import Conflict
from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.deliver.claim import Claim
from mailbbgun.deliver.context import WorkerContext
from mailbbgun.deliver.deliver import take
from mailbbgun.deliver.retry import judge, released
from mailbbgun.messages.models import Delivery
from mailbbgun.messages.publisher import Publisher
from mailbbgun.oversight import intervene
from mailbbgun.services import Services, build
from mailbbgun.settings.load import load
from mailbbgun.smtp.outcome import Deferred, Delivered, Phase
from mailbbgun.smtp.reply import Reply
from mailbbgun.suppressions import repo
from mailbbgun.suppressions.repo import Entry
from mailbbgun.suppressions.suppress import suppress
from mailbbgun.sweep.hints import hint_again, scheduled, unhinted
from mailbbgun.templates.resolve import Templates
from tests import tables
from tests.waiting import wait_until

NAMES = ("ann", "ben", "cis")
_NUMBER = st.integers(0, 11)


class World:
    """Accept and one worker, in this process, on one database."""

    def __init__(self, services: Services) -> None:
        self.services, self.db = services, services.db
        self.store = Store(services.db, 60)
        self.publisher = Publisher(services.db, services.queue)
        attached = Attached(services, Inspector(services))
        templates = Templates(services.db)
        self.acceptor = Acceptor(services.settings, self.store, self.publisher, attached, templates)
        self.worker = WorkerContext.open(services)

    def accept(self, to: list[str], send_at: datetime | None = None, has_suppressions: bool = True) -> UUID:
        """Accept a message. A process may not know yet that the tenant has suppressions."""
        caller = replace(ANYBODY, has_suppressions=has_suppressions)
        given = Fields(to=to, subject="s", text="t", sender="shop@example.com")
        return UUID(self.acceptor.accept(given, caller, Options(send_at=send_at)).result().id)

    def claims(self, messages: list[UUID]) -> list[Claim]:
        """Claim what is due of these messages; return what the worker would send."""
        return [one for found in take(self.worker, messages) for one in found.claims]

    def settle(self, in_hand: int) -> None:
        """Wait until all results but those of claims in hand are written."""

        def written() -> bool:
            with self.db.read() as session:
                ours = select(func.count()).where(Delivery.lease_owner == self.worker.owner)
                return session.scalar(ours) == in_hand

        wait_until(written, "the results")

    def close(self) -> None:
        self.store.close()
        self.publisher.close()
        self.worker.close(5.0)
        self.services.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    given = {"MAILBBGUN_VAR": str(tmp_path), "MAILBBGUN_HOSTNAME": "mail.example.com"}
    server = database = None
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        database = tables.database_of(server)
        given["MAILBBGUN_DATABASE_URL"] = server.url(database)
    services = build(load(given))
    tables.put_into(services.db)
    schema.upgrade(services.db)
    made = World(services)
    yield made
    made.close()
    if server is not None:
        server.drop_database(database)


class Machine(RuleBasedStateMachine):
    """What clients were told, and whether the worker keeps to it."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.domain = f"{uuid4().hex}.test"
        self.messages: dict[UUID, set[str]] = {}
        self.later: set[UUID] = set()
        self.suppressed: set[str] = set()
        self.cancelled: set[tuple[UUID, str]] = set()
        self.in_hand: list[Claim] = []

    def address(self, name: str) -> str:
        return f"{name}@{self.domain}"

    def message(self, number: int) -> UUID | None:
        """Return one of the messages; None if there is none.

        Rules draw numbers, not messages: what is due is a matter of the clock, and Hypothesis must be
        able to draw the same again.
        """
        messages = sorted(self.messages)
        return messages[number % len(messages)] if messages else None

    @rule(names=st.sets(st.sampled_from(NAMES), min_size=1), later=st.booleans(), knows=st.booleans())
    def accept(self, names: set[str], later: bool, knows: bool) -> None:
        to = {self.address(name) for name in names}
        at = datetime.now(UTC) + timedelta(hours=1) if later else None
        message = self.world.accept(sorted(to), at, knows)
        self.messages[message] = to
        if later:
            self.later.add(message)

    @rule(number=_NUMBER)
    def cancel(self, number: int) -> None:
        if (message := self.message(number)) is None:
            return
        try:
            shown = intervene.cancel(self.world.db, DEFAULT_TENANT, message, patience=0.0).message
        except Conflict:
            return
        held = {one.address for one in self.in_hand if one.message_id == message}
        for one in shown["deliveries"]:
            if one.status == "PENDING":  # the answer says that it may still be sent
                assert one.in_hand
                assert one.address in held
            elif one.status == "CANCELLED":
                self.cancelled.add((message, one.address))

    @rule(number=_NUMBER, later=st.booleans())
    def move(self, number: int, later: bool) -> None:
        if (message := self.message(number)) is None:
            return
        at = datetime.now(UTC) + timedelta(hours=1) if later else None
        try:
            intervene.change(self.world.db, lambda *_: None, DEFAULT_TENANT, message, {"send_at": at})
        except Conflict:
            return
        if any(one.message_id == message for one in self.in_hand):
            self.later.discard(message)  # those in hand were not moved: nothing is promised of all
        elif later:
            self.later.add(message)
        else:
            self.later.discard(message)

    @rule(name=st.sampled_from([*NAMES, ""]))
    def suppress(self, name: str) -> None:
        target = self.address(name) if name else self.domain
        done = suppress(self.world.db, DEFAULT_TENANT, [Entry(target=target, reason="r")], patience=0.0)
        self.suppressed.add(target)
        about = [one for one in self.in_hand if target in (one.address, self.domain)]
        mine = [one for one in about if one.address.endswith(self.domain)]
        assert done.in_hand == len(mine)

    @rule(name=st.sampled_from([*NAMES, ""]))
    def unsuppress(self, name: str) -> None:
        target = self.address(name) if name else self.domain
        if target not in self.suppressed:
            return
        with self.world.db.write(DEFAULT_TENANT) as session:
            found = repo.by_target(session, DEFAULT_TENANT, False, target)
            assert found is not None
            assert repo.remove(session, DEFAULT_TENANT, False, found.id)
        self.suppressed.discard(target)

    @rule()
    def claim(self) -> None:
        begun = self.world.claims(sorted(self.messages))
        for one in begun:
            assert one.address not in self.suppressed
            assert self.domain not in self.suppressed
            assert (one.message_id, one.address) not in self.cancelled
            assert one.message_id not in self.later
        self.in_hand += begun
        self.world.settle(len(self.in_hand))

    @rule(number=_NUMBER, how=st.sampled_from(["delivered", "deferred", "given back"]))
    def end(self, number: int, how: str) -> None:
        if not self.in_hand:
            return
        claim = self.in_hand.pop(number % len(self.in_hand))
        if how == "given back":
            result = released(claim, 0.0)
        else:
            outcome: Any = Delivered(Reply(250, None, "ok"))
            if how == "deferred":
                outcome = Deferred(Reply(451, None, "later"), Phase.RCPT, 0.0)  # due again at once
            result = judge(outcome, claim, self.world.worker.policy)
        self.world.worker.results.put(claim, result)
        self.world.settle(len(self.in_hand))

    @rule()
    def sweep(self) -> None:
        for which in (unhinted(0.0), scheduled()):
            hint_again(self.world.db, self.world.services.queue, which)

    def teardown(self) -> None:
        for one in self.in_hand:
            self.world.worker.results.put(one, judge(Delivered(Reply(250, None, "ok")), one, self.world.worker.policy))
        self.world.settle(0)


def drawn(world: World, examples: int, steps: int) -> None:
    class Drawn(Machine):
        pass

    Drawn.world = world
    run_state_machine_as_test(
        Drawn,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


def test_nothing_begins_after_it_was_cancelled_or_suppressed_whatever_happens_before(world: World) -> None:
    drawn(world, 8, 30)


@pytest.mark.long
def test_nothing_begins_after_it_was_cancelled_or_suppressed_in_ten_thousand_steps(world: World) -> None:
    drawn(world, 200, 50)


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Call all of these at the same moment; return what they return."""
    together = Barrier(len(calls))

    def call(one: Callable[[], Any]) -> Any:
        together.wait()
        return one()

    with ThreadPoolExecutor(len(calls)) as threads:
        return [one.result() for one in [threads.submit(call, one) for one in calls]]


@pytest.mark.parametrize("stop", ["suppress", "cancel"])
def test_a_claim_and_a_stop_at_the_same_moment_agree_on_who_was_first(world: World, stop: str) -> None:
    def says_that_it_is_in_hand(address: str, message: UUID) -> bool:
        if stop == "suppress":
            entry = Entry(target=address, reason="r")
            return suppress(world.db, DEFAULT_TENANT, [entry], patience=0.0).in_hand > 0
        try:
            intervene.cancel(world.db, DEFAULT_TENANT, message, patience=0.0)
        except Conflict as error:
            return "being sent at this moment" in error.message
        return False

    for _ in range(60):
        address = f"ann@{uuid4().hex}.test"
        message = world.accept([address], has_suppressions=False)
        begun, told = at_once(partial(world.claims, [message]), partial(says_that_it_is_in_hand, address, message))
        assert not begun or told
        for one in begun:
            world.worker.results.put(one, released(one, 3600.0))
        world.settle(0)
        with world.db.read() as session:
            status = session.scalar(select(Delivery.status).where(Delivery.message_id == message))
        assert status == ("PENDING" if begun else "ERROR" if stop == "suppress" else "CANCELLED")
