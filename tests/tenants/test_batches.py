"""Batches and API keys: whose batches a key sees and cancels, and what counts against its limits."""

from uuid import uuid4

import pytest

BODY = {"from": "shop@example.com", "subject": "For {{ n }}", "text": "{{ n }}"}


def batch(locked, key, addresses, headers=None, **more):
    items = [{"to": one, "variables": {"n": one}} for one in addresses]
    body = BODY | {"recipients": items} | more
    return locked.ask("POST", "/messages/batch", key, json=body, headers=headers or {})


def people(n):
    return [f"u{number}@example.com" for number in range(n)]


@pytest.fixture
def tenant(locked):
    return locked.tenant(f"t{uuid4().hex[:12]}")


def test_a_batch_is_seen_and_cancelled_by_its_tenant_only(locked, tenant):
    ours, theirs = locked.key(tenant)["key"], locked.key(locked.tenant(f"t{uuid4().hex[:12]}"))["key"]
    identifier = batch(locked, ours, people(2)).json()["batch_id"]
    assert locked.ask("GET", f"/batches/{identifier}", theirs).status_code == 404
    assert locked.ask("POST", f"/batches/{identifier}/cancel", theirs).status_code == 404
    assert locked.ask("GET", "/batches", theirs).json() == {"batches": [], "count": 0}
    assert locked.ask("GET", f"/batches/{identifier}", ours).json()["statuses"] == {"PENDING": 2}


def test_a_test_key_sees_and_cancels_batches_of_test_messages_only(locked, tenant):
    live, test = locked.key(tenant)["key"], locked.key(tenant, kind="test")["key"]
    of_live, of_test = (batch(locked, key, people(2)).json() for key in (live, test))
    listed = locked.ask("GET", "/batches", test).json()
    assert ([one["id"] for one in listed["batches"]], listed["count"]) == ([of_test["batch_id"]], 1)
    assert locked.ask("GET", f"/batches/{of_live['batch_id']}", test).status_code == 404
    assert locked.ask("POST", f"/batches/{of_live['batch_id']}/cancel", test).status_code == 404
    cancelled = locked.ask("POST", f"/batches/{of_test['batch_id']}/cancel", test).json()
    assert (cancelled["cancelled"], cancelled["test"]) == (2, True)
    events = locked.ask("GET", f"/messages/{of_test['ids'][0]}/events", test).json()["events"]
    assert [one["kind"] for one in events] == ["cancelled", "accepted"]
    assert locked.ask("GET", f"/batches/{of_live['batch_id']}", live).json()["statuses"] == {"PENDING": 2}


def test_a_key_that_only_reads_sends_and_cancels_no_batch(locked, tenant):
    writes, reads = locked.key(tenant)["key"], locked.key(tenant, scopes=["messages:read"])["key"]
    identifier = batch(locked, writes, people(1)).json()["batch_id"]
    assert batch(locked, reads, people(1)).status_code == 403
    assert locked.ask("POST", f"/batches/{identifier}/cancel", reads).status_code == 403
    assert locked.ask("GET", f"/batches/{identifier}", reads).status_code == 200
    assert locked.ask("GET", "/batches").status_code == 401


def test_a_key_cancels_only_what_it_could_send(locked, tenant):
    anybody, shop = locked.key(tenant)["key"], locked.key(tenant, senders=["shop@example.com"])["key"]
    team = locked.key(tenant, kind="team", guests=["u0@example.com"])["key"]
    ours = batch(locked, anybody, people(2)).json()["batch_id"]
    other = batch(locked, anybody, people(2), **{"from": "boss@example.com"}).json()["batch_id"]
    assert locked.ask("POST", f"/batches/{other}/cancel", shop).status_code == 403
    assert locked.ask("POST", f"/batches/{ours}/cancel", team).status_code == 403
    assert locked.ask("GET", f"/batches/{ours}", anybody).json()["statuses"] == {"PENDING": 2}
    assert locked.ask("POST", f"/batches/{ours}/cancel", shop).status_code == 200
    assert batch(locked, shop, people(1), **{"from": "boss@example.com"}).status_code == 400


def test_a_batch_counts_each_message_against_the_quota_and_is_accepted_whole_or_not_at_all(locked):
    tenant = locked.tenant(f"t{uuid4().hex[:12]}", max_messages_per_day=5)
    key = locked.key(tenant)["key"]
    assert batch(locked, key, people(3)).status_code == 202
    refused = batch(locked, key, people(3))
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "quota_exceeded")
    assert int(refused.headers["Retry-After"]) > 0
    assert batch(locked, key, people(2), {"Idempotency-Key": "a"}).status_code == 202
    assert batch(locked, key, people(2), {"Idempotency-Key": "a"}).status_code == 202  # the first answer again
    assert batch(locked, key, people(1), {"Idempotency-Key": "b"}).status_code == 429
    assert locked.ask("GET", "/batches", key).json()["count"] == 2
    assert locked.ask("GET", "/messages?limit=0", key).json()["count"] == 5
