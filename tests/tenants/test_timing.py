"""Rows S7 and S11: how long an answer takes does not tell what of a key was right, nor whether a message is another tenant's or nobody's."""

import secrets
import string
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import cycle

import pytest
from flask import Flask

from mailbbgun.core.caller import Scope
from mailbbgun.core.errors import Unauthorized
from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.database.crypto import keyed_hash, same
from mailbbgun.http.gate import AuthenticatorContract
from mailbbgun.http.web import EXTENSION
from mailbbgun.services import Services
from mailbbgun.settings.settings import Settings
from mailbbgun.tenants import authenticate, keys, repo
from tests.conftest import application
from tests.tenants.dudect import least_t

KEYS = 50_000  # of each kind, as dudect's row asks: 100,000 in all
READS = 500  # of each kind
T_OF_DUDECT = 4.5
T_OF_ONE_PERCENT = 2.58  # |t| of two large samples of the same, with p = 0.01
ANY = string.ascii_letters + string.digits


@pytest.fixture
def app(backend: Settings) -> Iterator[Flask]:
    with application(backend) as made:
        yield made


def wrong(right: str, kept: int) -> str:
    """Return a secret of which the first so many characters are right and the next is wrong."""
    while (made := right[:kept] + "".join(secrets.choice(ANY) for _ in range(len(right) - kept)))[kept] == right[kept]:
        pass
    return made


@pytest.mark.long
def test_a_key_that_is_nearly_right_is_refused_as_fast_as_one_that_is_all_wrong(app: Flask) -> None:
    services = app.extensions[EXTENSION][Services]
    with services.db.write() as session:
        token = keys.create(session, services.vault, DEFAULT_TENANT, keys.KeySpec(name="k")).token
    begin, _, secret = token.rpartition("_")
    authenticator: AuthenticatorContract = authenticate.Authenticator(
        services.db, services.vault, lambda session, tenants: {}, required=True
    )

    def refused(header: str) -> None:
        with suppress(Unauthorized):
            authenticator.caller(header, "127.0.0.1")
            raise AssertionError("a wrong key was taken")

    assert authenticator.caller(f"Bearer {token}", "127.0.0.1").tenant_id == DEFAULT_TENANT
    nearly, all_wrong = (lambda kept=kept: f"Bearer {begin}_{wrong(secret, kept)}" for kept in (42, 0))
    assert least_t(refused, nearly, all_wrong, KEYS, T_OF_DUDECT) < T_OF_DUDECT
    authenticator.close()


@pytest.mark.long
@pytest.mark.parametrize(
    ("compare", "leaks"),
    [(same, False), (lambda one, other: all(a == b for a, b in zip(one, other, strict=True)), True)],
)
def test_hashes_are_compared_in_a_time_that_does_not_tell_where_they_differ(
    compare: Callable[[str, str], bool], leaks: bool
) -> None:
    right = keyed_hash("pepper", "secret")
    at_the_end, at_once = (lambda kept=kept: wrong(right, kept) for kept in (63, 0))
    assert (
        least_t(lambda other: compare(right, other), at_the_end, at_once, KEYS, T_OF_DUDECT) >= T_OF_DUDECT
    ) is leaks


@pytest.mark.long
def test_anothers_message_is_missed_as_fast_as_one_that_is_not_there(app: Flask) -> None:
    services = app.extensions[EXTENSION][Services]
    with services.db.write() as session:
        tokens = []
        for name in ("ours", "theirs"):
            tenant = repo.add_tenant(session, {"name": name})
            tokens.append(
                keys.create(session, services.vault, tenant.id, keys.KeySpec(name="k", scopes=tuple(Scope))).token
            )
    client = app.test_client()
    ours, theirs = ({"Authorization": f"Bearer {token}"} for token in tokens)
    hello = {"to": "ann@example.com", "subject": "Hello", "text": "Hi"}
    foreign = [str(client.post("/messages", json=hello, headers=theirs).json["id"]) for _ in range(50)]
    missing = [str(new_id()) for _ in range(50)]

    def missed(identifier: str) -> None:
        assert client.get(f"/messages/{identifier}", headers=ours).status_code == 404

    for identifier in (*foreign, *missing):
        missed(identifier)
    one, other = cycle(foreign), cycle(missing)
    assert least_t(missed, lambda: next(one), lambda: next(other), READS, T_OF_ONE_PERCENT) < T_OF_ONE_PERCENT
