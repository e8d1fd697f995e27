"""The gate inside one process: which requests the polling thread may begin, and wrong headers."""

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select
from werkzeug.test import EnvironBuilder

from mailbbgun.core.caller import KeyKind, Scope
from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.http.provided import provided
from mailbbgun.http.responses import AWAITS, PendingResponse
from mailbbgun.messages.models import Message
from mailbbgun.services import Services
from mailbbgun.settings.settings import Settings
from mailbbgun.tenants import keys
from tests.conftest import application

HELLO = {"to": "ann@example.com", "subject": "Hello", "text": "Hi"}


@pytest.fixture
def app(embedded_settings: Settings) -> Iterator[Flask]:
    with application(embedded_settings) as made:
        yield made


def key(app: Flask, **values: Any) -> str:
    with app.app_context():
        services = provided(Services)
        with services.db.write() as session:
            return keys.create(session, services.vault, DEFAULT_TENANT, keys.KeySpec(name="k", **values)).token


def polled(app: Flask, token: str) -> tuple[Any, dict[str, Any], list[str]]:
    """Make a request as the polling thread does; return result, environment and statuses."""
    builder = EnvironBuilder("/messages", method="POST", json=HELLO, headers={"Authorization": f"Bearer {token}"})
    environ = builder.get_environ() | {AWAITS: True}
    told: list[str] = []
    return app.wsgi_app(environ, lambda status, headers: told.append(status)), environ, told


def test_a_request_whose_key_is_not_cached_leaves_the_polling_thread_before_any_query(app: Flask) -> None:
    token = key(app)
    parked, environ, told = polled(app, token)
    assert isinstance(parked, PendingResponse)
    assert not parked.ending.ended
    assert told == []
    answer = parked.answer(environ)  # as another thread does
    body = b"".join(answer(environ, lambda status, headers: told.append(status)))
    assert told == ["201 CREATED"], body


def test_the_polling_thread_begins_a_request_whose_key_is_cached(app: Flask) -> None:
    token = key(app)
    assert app.test_client().get("/messages", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    parked, environ, told = polled(app, token)
    assert isinstance(parked, PendingResponse)
    assert environ[AWAITS]  # it waits for the commit, not for another thread to begin it
    list(parked.answer(environ)(environ | {AWAITS: False}, lambda status, headers: told.append(status)))
    assert told == ["201 CREATED"]


@pytest.mark.parametrize(
    "header", ["Basic \xe9", "Basic ====", "Basic YTpi", "Bearer", "Bearer \xe9\xe9", "Digest x", "", " ", "basic"]
)
def test_a_header_without_a_key_is_401_whatever_it_holds(app: Flask, header: str) -> None:
    answer = app.test_client().get("/messages", headers={"Authorization": header})
    assert (answer.status_code, answer.json["error"]["code"]) == (401, "unauthorized")


def test_an_idempotency_key_of_a_test_key_does_not_answer_a_live_request(app: Flask) -> None:
    client, sent = app.test_client(), {}
    for kind in (KeyKind.TEST, KeyKind.LIVE):
        headers = {"Authorization": f"Bearer {key(app, kind=kind)}", "Idempotency-Key": "order-17"}
        sent[kind] = client.post("/messages", json=HELLO, headers=headers).status_code
    assert sent == {KeyKind.TEST: 201, KeyKind.LIVE: 201}
    with app.app_context(), provided(Services).db.read() as session:
        assert sorted(session.scalars(select(Message.test))) == [False, True]


def test_a_caller_without_a_key_may_do_everything_but_read_passwords(app: Flask) -> None:
    client = app.test_client()
    assert client.get("/tenants").status_code == client.get("/smtp-accounts").status_code == 200
    refused = client.get("/smtp-accounts/default/credentials")
    assert (refused.status_code, refused.json["error"]["message"][:22]) == (403, "Without an API key nob")


def test_openapi_shows_keys_and_the_scope_that_each_view_needs(app: Flask) -> None:
    spec = app.test_client().get("/openapi.json").json
    assert set(spec["components"]["securitySchemes"]) == {"bearer", "basic"}
    asks, is_open = spec["paths"]["/smtp-accounts"]["post"], spec["paths"]["/health"]["get"]
    assert asks["security"] == [{"bearer": []}, {"basic": []}]
    assert "scope accounts" in asks["responses"]["403"]["description"]
    assert "security" not in is_open


def test_a_time_beyond_the_year_9999_in_utc_becomes_its_last_millisecond(app: Flask) -> None:
    body = {"name": "x", "expires_at": "9999-12-31T23:59:59-23:59"}
    made = app.test_client().post(f"/tenants/{DEFAULT_TENANT}/keys", json=body)
    assert (made.status_code, made.json["expires_at"]) == (201, "9999-12-31T23:59:59.999Z")
    for moment in ("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00%2B23:59"):
        assert app.test_client().get(f"/messages?since={moment}").status_code == 200


@pytest.mark.parametrize("values", [{"senders": ["a@" + "x" * 400 + ".test"]}, {"networks": ["fe80::1%eth0"]}])
def test_entries_of_a_key_are_bounded(app: Flask, values: dict[str, Any]) -> None:
    assert (
        app.test_client()
        .post(f"/tenants/{DEFAULT_TENANT}/keys", json={"name": "x", "scopes": [Scope.READ]} | values)
        .status_code
        == 400
    )
