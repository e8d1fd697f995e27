"""Workers look after domains: each domain is asked about by one of them, and not too often."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.domains import edit, upkeep
from mailbbgun.domains.models import DKIMKey, SendingDomain
from mailbbgun.install import install
from mailbbgun.relays.mx import Resolver
from mailbbgun.services import Services, build
from tests import tables
from tests.domains.verifiers import quoted
from tests.smtp.name_server import NameServer

NAMES = [f"d{number}.test" for number in range(upkeep.BATCH + 2)]


@pytest.fixture
def services(backend):
    made = build(backend)
    tables.put_into(made.db)
    install(made)
    yield made
    made.close()


def add(services: Services, name: str, age: timedelta) -> dict:
    """Add a domain as if that had been so long ago."""
    then = datetime.now(UTC) - age
    with services.db.write() as session:
        made = edit.create(session, services.vault, DEFAULT_TENANT, new_id(), name, edit.pairs())
        session.execute(update(SendingDomain).where(SendingDomain.id == made.id).values(created_at=then))
        session.execute(update(DKIMKey).where(DKIMKey.domain_id == made.id).values(created_at=then))
        return edit.details(session, services.settings, made)


def test_each_domain_with_new_keys_is_asked_about_in_turn_and_not_again_at_once(services):
    for name in NAMES:
        add(services, name, timedelta(minutes=3))
    add(services, "fresh.test", timedelta(0))
    add(services, "old.test", timedelta(days=31))
    with NameServer({}) as server:

        def asked() -> set[str]:
            upkeep.look_after(services.db, services.settings, lambda: Resolver(["127.0.0.1"], server.port))
            found = {name for name, kind in server.asked if kind == "MX"}
            server.asked.clear()
            return found

        rounds = [asked() for _ in range(3)]
    assert [len(one) for one in rounds] == [upkeep.BATCH, 2, 0]
    assert rounds[0] | rounds[1] == set(NAMES)


def test_keys_that_are_seen_sign_and_retired_ones_are_removed_when_their_time_is_over(services):
    domain = add(services, "a.test", timedelta(minutes=3))
    keys = {one.name: {"TXT": [quoted(one.value)]} for one in domain["records"] if one.purpose == "dkim"}
    with NameServer(keys) as server:
        upkeep.look_after(services.db, services.settings, lambda: Resolver(["127.0.0.1"], server.port))
        with services.db.write() as session:
            found = edit.keys_of(session, session.get_one(SendingDomain, domain["id"]))
            assert {key.state for key in found} == {"active"}
            kept, gone = found
            now = datetime.now(UTC)
            for key, days in ((kept, 6.9), (gone, 7.1)):
                then = now - timedelta(days=days)
                session.execute(update(DKIMKey).where(DKIMKey.id == key.id).values(retired_at=then))
        upkeep.look_after(services.db, services.settings, lambda: Resolver(["127.0.0.1"], server.port))
    with services.db.read() as session:
        left = edit.keys_of(session, session.get_one(SendingDomain, domain["id"]))
        assert [key.selector for key in left] == [kept.selector]
