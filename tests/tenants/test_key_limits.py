"""What a key may do: its scopes, senders, networks, guests and headers."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import case, update

from mailbbgun.core.caller import Scope
from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.messages.models import Delivery
from mailbbgun.tenants.models import ApiKey
from tests.tenants.conftest import HELLO, Locked, code


@pytest.mark.parametrize(("scopes", "reads", "sends", "administers"), [
    (["messages:read"], 200, 403, 403), (["messages:write"], 403, 201, 403),
    (["admin"], 403, 403, 200), (["accounts"], 403, 403, 403),
])  # fmt: skip
def test_a_key_does_what_its_scopes_say(locked, scopes, reads, sends, administers):
    key = locked.key(str(DEFAULT_TENANT), scopes=scopes)["key"]
    assert locked.ask("GET", "/messages", key).status_code == reads
    assert locked.ask("POST", "/messages", key, json=HELLO).status_code == sends
    assert locked.ask("GET", "/tenants", key).status_code == administers


@pytest.mark.parametrize("scope", ["calendars", "pop3", "everything", "", "Admin"])
def test_an_unknown_scope_is_refused_and_the_error_lists_the_known_ones(locked, scope):
    refused = locked.ask(
        "POST", f"/tenants/{DEFAULT_TENANT}/keys", locked.admin, json={"name": "k", "scopes": ["admin", scope]}
    )
    assert code(refused) == (400, "validation_error")
    (said,) = refused.json()["error"]["fields"]["scopes.1"]
    assert all(known in said for known in [f'"{scope}"', *Scope]), said


def test_a_key_with_scopes_of_an_older_version_works_and_is_rotated_without_them(locked):
    tenant = locked.tenant("older")
    old = locked.key(tenant)
    with locked.services.db.write() as session:
        had = ["messages:read", "messages:write", "pop3", "calendars"]
        session.execute(update(ApiKey).where(ApiKey.prefix == old["prefix"]).values(scopes=had))
    assert locked.ask("POST", "/messages", old["key"], json=HELLO).status_code == 201
    assert locked.ask("GET", "/messages", old["key"]).status_code == 200
    assert locked.ask("GET", f"/tenants/{tenant}/keys/{old['id']}", locked.admin).json()["scopes"] == had
    rotated = locked.ask("POST", f"/tenants/{tenant}/keys/{old['id']}/rotate", locked.admin, json={"hours": 1})
    assert (rotated.status_code, rotated.json()["scopes"]) == (201, ["messages:read", "messages:write"])
    assert locked.ask("GET", "/messages", rotated.json()["key"]).status_code == 200


def test_a_key_may_be_limited_to_senders_networks_and_guests(locked):
    tenant = locked.tenant("narrow")
    sender = locked.key(tenant, senders=["Shop@Example.com", "news.example.com"])["key"]
    wanted = {
        "shop@example.com": 201,
        "Any One <any@News.example.com>": 201,
        "other@example.com": 400,
        "a@x.news.example.com": 400,
    }
    for address, status in wanted.items():
        answer = locked.ask("POST", "/messages", sender, json=HELLO | {"from": address})
        assert answer.status_code == status, answer.text
    assert "from" in answer.json()["error"]["fields"]
    elsewhere = locked.key(tenant, networks=["192.0.2.0/24"])["key"]
    assert code(locked.ask("GET", "/messages", elsewhere)) == (403, "forbidden")
    assert locked.ask("GET", "/messages", locked.key(tenant, networks=["127.0.0.0/8"])["key"]).status_code == 200
    team = locked.key(tenant, kind="team", guests=["ann@example.com", "team.example.com"])["key"]
    for to, status in (("ann@example.com", 201), ("bob@team.example.com", 201), ("bob@example.com", 400)):
        assert locked.ask("POST", "/messages", team, json=HELLO | {"to": to}).status_code == status
    assert locked.ask("POST", "/messages", team, json=HELLO | {"bcc": "bob@example.com"}).json()["error"][
        "fields"
    ].keys() == {"bcc"}


# A header, its value, and the answer to a key without limits, to one with senders and to one with
# guests.
ORDERS = [
    ("X-MC-BccAddress", "eve@evil.test", (400, 400, 400)),
    ("X-SMTPAPI", '{"to": ["eve@evil.test"]}', (400, 400, 400)),
    ("x-msys-api", '{"cc": [{"email": "eve@evil.test"}]}', (400, 400, 400)),
    ("X-SES-SOURCE-ARN", "arn:aws:ses:other", (201, 400, 400)),
    ("X-Mailgun-Recipient-Variables", '{"eve@evil.test": {}}', (201, 400, 400)),
    ("X-PM-Unheard-Of", "1", (201, 400, 400)),
    ("X-PM-Message-Stream", "outbound", (201, 201, 201)),
    ("X-PM-Tag", "order", (201, 201, 201)),
    ("X-Mailgun-Tag", "order", (201, 201, 201)),
    ("X-SES-CONFIGURATION-SET", "main", (201, 201, 201)),
    ("X-MC-Tags", "order", (201, 201, 201)),
    ("X-Order", "17", (201, 201, 201)),
    ("X-SMTPAPI", '{"category": ["order"]}', (201, 201, 201)),
]


def test_no_header_makes_a_provider_send_to_or_as_anyone_the_key_may_not(locked):
    tenant = locked.tenant("orders")
    limits = ({}, {"senders": ["example.com"]}, {"kind": "team", "guests": ["example.com"]})
    keys = [locked.key(tenant, **one)["key"] for one in limits]
    for name, value, statuses in ORDERS:
        for key, status, limit in zip(keys, statuses, limits, strict=True):
            answer = locked.ask("POST", "/messages", key, json=HELLO | {"headers": {name: value}})
            assert answer.status_code == status, (name, limit, answer.text)
            if status == 400:
                ((field, (why,)),) = answer.json()["error"]["fields"].items()
                assert (field, name in why) == (f"headers.{name}", True)


def sent(locked: Locked, key: str, *failed: str, **message) -> str:
    """Send a message; set its deliveries to ``failed`` to ERROR, all others to DELIVERED."""
    answer = locked.ask("POST", "/messages", key, json=HELLO | message)
    assert answer.status_code == 201, answer.text
    status = case((Delivery.address.in_(failed), "ERROR"), else_="DELIVERED")
    with locked.services.db.write() as session:
        session.execute(
            update(Delivery)
            .where(Delivery.message_id == UUID(answer.json()["id"]))
            .values(status=status, next_attempt_at=None)
        )
    return str(answer.json()["id"])


GUEST, STRANGER = "ann@example.com", "bob@example.com"


def test_a_team_key_retries_and_tests_no_mail_to_anyone_but_its_guests(locked):
    tenant = locked.tenant("team")
    live, test = locked.key(tenant)["key"], locked.key(tenant, kind="test")["key"]
    team = locked.key(
        tenant, kind="team", guests=[GUEST, "team.example.com"], scopes=["messages:write", "messages:read", "accounts"]
    )["key"]
    for failed in ([STRANGER], [GUEST, STRANGER]):
        identifier = sent(locked, live, *failed, to=[GUEST, STRANGER])
        before = [locked.ask("GET", f"/messages/{identifier}{path}", team).json() for path in ("", "/events")]
        answer = locked.ask("POST", f"/messages/{identifier}/retry", team)
        assert code(answer) == (403, "forbidden")
        assert STRANGER in answer.json()["error"]["message"]
        assert [locked.ask("GET", f"/messages/{identifier}{path}", team).json() for path in ("", "/events")] == before
        assert locked.ask("POST", f"/messages/{identifier}/retry", live).status_code == 200
    for fields in (
        {"to": "Bob <bob@example.com>"},
        {"to": GUEST, "cc": STRANGER},
        {"to": GUEST, "bcc": STRANGER},
        {"to": "ann@sub.team.example.com"},
    ):
        identifier = sent(locked, live, STRANGER, "ann@sub.team.example.com", **fields)
        assert code(locked.ask("POST", f"/messages/{identifier}/retry", team)) == (403, "forbidden"), fields
    with locked.services.db.write() as session:  # a retry also moves a delivery that waits for its next attempt
        its = Delivery.message_id == UUID(identifier)
        session.execute(
            update(Delivery).where(its).values(status="PENDING", next_attempt_at=datetime.now(UTC) + timedelta(hours=1))
        )
    assert code(locked.ask("POST", f"/messages/{identifier}/retry", team)) == (403, "forbidden")
    for whose, to, failed in (
        (live, [GUEST, STRANGER], [GUEST]),
        (live, "x@team.example.com", ["x@team.example.com"]),
        (test, STRANGER, [STRANGER]),
    ):
        identifier = sent(locked, whose, *failed, to=to)  # a test message goes to the catcher only
        assert locked.ask("POST", f"/messages/{identifier}/retry", team).status_code == 200, to
    account = {"setting_name": "a", "smtp_host": "smtp.example.com", "smtp_port": 587, "security_protocol": "STARTTLS"}
    saved = locked.ask("POST", "/smtp-accounts", team, json=account).json()["id"]
    for path, body in (("/smtp-accounts/test", account), (f"/smtp-accounts/{saved}/test", {})):
        answer = locked.ask("POST", path, team, json=body | {"to": STRANGER})
        assert (answer.status_code, list(answer.json()["error"]["fields"])) == (400, ["to"])


def test_a_key_with_senders_retries_no_message_that_it_could_not_have_sent(locked):
    tenant = locked.tenant("senders")
    live, shop = locked.key(tenant)["key"], locked.key(tenant, senders=["shop.example.com", "ann@example.com"])["key"]
    for fields, status in (
        ({"from": "x@shop.example.com"}, 200),
        ({"from": "Ann <Ann@Example.com>"}, 200),
        ({"from": "bob@example.com"}, 403),
        ({"from": '"ann@example.com" <bob@example.com>'}, 403),
        ({"from": "ann@example.com", "envelope_from": "bob@example.com"}, 403),
    ):
        identifier = sent(locked, live, "eve@example.com", to="eve@example.com", **fields)
        answer = locked.ask("POST", f"/messages/{identifier}/retry", shop)
        assert answer.status_code == status, fields
        assert locked.ask("POST", f"/messages/{identifier}/retry", live).status_code == (409 if status == 200 else 200)
    assert "bob@example.com" in answer.json()["error"]["message"]


def waiting(locked: Locked, key: str, **message) -> str:
    """Send a message that waits for its next attempt."""
    identifier = sent(locked, key, **message)
    with locked.services.db.write() as session:
        its = Delivery.message_id == UUID(identifier)
        session.execute(
            update(Delivery).where(its).values(status="PENDING", next_attempt_at=datetime.now(UTC) + timedelta(hours=1))
        )
    return identifier


def test_a_limited_key_cancels_no_message_that_it_could_not_have_sent(locked):
    tenant = locked.tenant("cancelled")
    live, test = locked.key(tenant)["key"], locked.key(tenant, kind="test")["key"]
    shop = locked.key(tenant, senders=["shop.example.com"])["key"]
    team = locked.key(tenant, kind="team", guests=[GUEST])["key"]
    for key, whose, fields, status in (
        (shop, live, {"from": "x@shop.example.com"}, 200),
        (shop, live, {"from": "bob@example.com"}, 403),
        (shop, live, {"from": "x@shop.example.com", "envelope_from": "bob@example.com"}, 403),
        (shop, test, {"from": "bob@example.com"}, 200),
        (team, live, {"to": GUEST}, 200),
        (team, live, {"to": GUEST, "bcc": STRANGER}, 403),
        (team, test, {"to": STRANGER}, 200),
    ):
        identifier = waiting(locked, whose, **fields)
        before = [locked.ask("GET", f"/messages/{identifier}{path}", key).json() for path in ("", "/events")]
        answer = locked.ask("DELETE", f"/messages/{identifier}", key)
        assert answer.status_code == status, (fields, answer.text)
        if status == 403:
            assert code(answer) == (403, "forbidden")
            assert [
                locked.ask("GET", f"/messages/{identifier}{path}", key).json() for path in ("", "/events")
            ] == before
            assert locked.ask("DELETE", f"/messages/{identifier}", live).json()["status"] == "CANCELLED"
