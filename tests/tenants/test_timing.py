"""The time of an answer reveals no secret (rows S7 and S11).

It does not show how much of a key is right, nor whether a message exists in another tenant.
"""

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
from mailbbgun.http.provided import EXTENSION
from mailbbgun.services import Services
from mailbbgun.settings.settings import Settings
from mailbbgun.tenants import authenticate, keys, repo
from tests.conftest import application
from tests.tenants.dudect import least_t

#: Keys of each kind. Row S11 asks for 100,000 in all.
KEYS = 50_000
#: Reads of each kind.
READS = 500
#: |t| above which dudect reports a leak.
T_OF_DUDECT = 4.5
#: |t| that two large samples of the same distribution exceed with a probability of 0.01.
T_OF_ONE_PERCENT = 2.58
ANY = string.ascii_letters + string.digits


@pytest.fixture
def app(backend: Settings) -> Iterator[Flask]:
    with application(backend) as made:
        yield made


def wrong(right: str, kept: int) -> str:
    """Return a secret whose first ``kept`` characters are right and whose next one is wrong."""
    while (made := right[:kept] + "".join(secrets.choice(ANY) for _ in range(len(right) - kept)))[kept] == right[kept]:
        pass
    return made


@pytest.mark.long
def test_a_nearly_right_key_is_refused_as_fast_as_an_entirely_wrong_one(app: Flask) -> None:
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
def test_the_time_to_compare_hashes_does_not_reveal_where_they_differ(
    compare: Callable[[str, str], bool], leaks: bool
) -> None:
    right = keyed_hash("pepper", "secret")
    at_the_end, at_once = (lambda kept=kept: wrong(right, kept) for kept in (63, 0))
    assert (
        least_t(lambda other: compare(right, other), at_the_end, at_once, KEYS, T_OF_DUDECT) >= T_OF_DUDECT
    ) is leaks


@pytest.mark.long
def test_404_for_a_message_of_another_tenant_takes_as_long_as_for_a_missing_one(app: Flask) -> None:
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
