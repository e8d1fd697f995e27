"""Seats, leases and keys on each database, without HTTP."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier
from uuid import UUID

import pytest
from sqlalchemy import select, update

from mailbbgun.app import create_app
from mailbbgun.core.errors import Conflict, RateLimited
from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.licences import issue, keys, seats
from mailbbgun.licences.limit import PublicRequests
from mailbbgun.licences.models import Activation, Licence, LicenceKey
from mailbbgun.licences.seats import Machine
from mailbbgun.licences.tokens import TokenKind, read
from mailbbgun.services import Services

GIVEN = {"type": "standard", "subject": "Example Ltd", "email": "ann@example.com"}
MANY = 24


def issued(services: Services, **fields) -> tuple[UUID, str]:
    with services.db.write(DEFAULT_TENANT) as session:
        made = issue.issue(session, services.vault, "here", DEFAULT_TENANT, new_id(), GIVEN | fields)
        return made.id, services.vault.decrypt(made.token)


def published(services: Services) -> dict[str, str]:
    with services.db.read() as session:
        return {one["kid"]: one["x"] for one in keys.jwks(session, services.settings)["keys"]}


def moved(services: Services, model, column: str, by: timedelta) -> None:
    """Move a time of all rows, as if it had passed."""
    with services.db.write() as session:
        for row_id, moment in session.execute(select(model.id, getattr(model, column))).all():
            session.execute(update(model).where(model.id == row_id).values({column: moment + by}))


def test_machines_that_ask_at_once_never_get_more_seats_than_there_are(services: Services) -> None:
    _, token = issued(services, seats=5)
    ready = Barrier(MANY)

    def ask(number: int) -> bool:
        ready.wait()
        try:
            seats.activate(services, token, Machine(f"machine-{number % (MANY // 2)}"))
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(MANY) as pool:
        got = list(pool.map(ask, range(MANY)))
    # Each machine asked twice, and those that have a seat got a lease each time but before they had it.
    machines = {number % (MANY // 2) for number, success in enumerate(got) if success}
    assert len(machines) == 5
    assert seats.verify(services, token, None)["seats_used"] == 5


def test_a_seat_is_free_only_when_the_grace_of_its_last_lease_is_over(services: Services) -> None:
    _, token = issued(services)
    first = seats.activate(services, token, Machine("first-machine"))
    week = timedelta(hours=services.settings.LICENCE_LEASE_HOURS + services.settings.LICENCE_GRACE_HOURS)
    moved(services, Activation, "held_until", timedelta(minutes=1) - week)
    with pytest.raises(Conflict, match="1 of 1 seats are taken"):
        seats.activate(services, token, Machine("other-machine"))
    moved(services, Activation, "held_until", -timedelta(minutes=5))
    with pytest.raises(Conflict, match="has no seat"):
        seats.heartbeat(services, token, Machine("first-machine"))
    assert seats.activate(services, token, Machine("other-machine"))["seats_used"] == 1
    with pytest.raises(Conflict, match="are taken"):
        seats.activate(services, token, Machine("first-machine"))
    assert first["grace_until"] - first["expires_at"] == timedelta(hours=services.settings.LICENCE_GRACE_HOURS)


def test_no_lease_goes_beyond_the_end_of_its_licence(services: Services) -> None:
    with services.db.read() as session:
        ends = issue.repo.now(session) + timedelta(hours=2)
    licence_id, token = issued(services, expires_at=ends)
    lease = seats.activate(services, token, Machine("first-machine"))
    assert lease["expires_at"] == lease["grace_until"] == ends.replace(microsecond=0)
    moved(services, Licence, "expires_at", -timedelta(hours=3))
    with pytest.raises(Conflict, match="expired at"):
        seats.heartbeat(services, token, Machine("first-machine"))
    assert seats.verify(services, token, None)["status"] == "expired"
    assert isinstance(lease["expires_at"], datetime)
    assert licence_id


def test_after_a_rotation_old_keys_stay_published_until_what_they_signed_has_ended(services: Services) -> None:
    with services.db.read() as session:
        ends = issue.repo.now(session) + timedelta(days=90)
    _, old = issued(services, expires_at=ends)
    before = published(services)
    with services.db.write() as session:
        kid = keys.rotate(session, services.vault)
    _, new = issued(services)
    both = published(services)
    assert list(both) == [kid, *before]
    assert read(old, TokenKind.LICENCE, both.get)["sub"] == "Example Ltd"
    assert seats.activate(services, old, Machine("first-machine"))
    assert read(new, TokenKind.LICENCE, {kid: both[kid]}.get)
    with services.db.read() as session:
        private = dict(session.execute(select(LicenceKey.kid, LicenceKey.private_key)).all())
    assert [name for name, secret in private.items() if secret is not None] == [kid]
    moved(services, LicenceKey, "created_at", -timedelta(days=99))
    with services.db.write() as session:
        session.execute(update(LicenceKey).where(LicenceKey.kid != kid).values(retired_at=ends - timedelta(days=120)))
    assert set(published(services)) == set(both)  # its licence has not ended
    with services.db.write() as session:
        session.execute(update(Licence).where(Licence.kid != kid).values(expires_at=ends - timedelta(days=120)))
    assert set(published(services)) == {kid}


def test_requests_without_a_key_are_bounded_for_each_address(services: Services) -> None:
    counted = PublicRequests(2, 1)
    for _ in range(2):
        counted.count("192.0.2.1")
    with pytest.raises(RateLimited, match="More than 2 requests a minute"):
        counted.count("192.0.2.1")
    counted.count("192.0.2.2")
    client = create_app(services.settings).test_client()
    most = services.settings.LICENCE_REQUESTS_PER_MINUTE
    answers = [client.get("/.well-known/jwks.json") for _ in range(most + 1)]
    assert {one.status_code for one in answers[: most // services.settings.api_processes]} == {200}
    assert (answers[-1].status_code, "Retry-After" in answers[-1].headers) == (429, True)
