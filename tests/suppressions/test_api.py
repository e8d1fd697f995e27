"""Suppressions through the front door, on each database, without a worker."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import update

from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.deliver.context import WorkerContext
from mailbbgun.deliver.deliver import take
from mailbbgun.messages.models import Delivery
from mailbbgun.suppressions.models import Suppression
from mailbbgun.suppressions.repo import Entry, forget_expired
from mailbbgun.suppressions.suppress import suppress
from tests.flow.service import until
from tests.http.outcomes import claim, fail
from tests.http.posting import ANOTHER_WAY, GOOD, wrong


def add(door, **entry):
    """Suppress something; return what the API answers."""
    answer = door.call("POST", "/suppressions", json=entry)
    assert answer.status_code == 200, answer.text
    return answer.json()


def outcomes(door, identifier):
    """Return status and reason by recipient."""
    shown = door.get(f"/messages/{identifier}")["deliveries"]
    return {one["address"].partition("@")[0]: (one["status"], one["reason"]) for one in shown}


@pytest.fixture
def domain(tag):
    """A domain of this test alone."""
    return f"{tag}.example"


@pytest.fixture
def taken(door):
    """Return what a worker claims of a message now: the recipients it may send to."""
    context = WorkerContext.open(door.services)

    def take_it(identifier):
        return sorted(one.address for found in take(context, [UUID(identifier)]) for one in found.claims)

    yield take_it
    context.close(5.0)


SUPPRESSED = ("ERROR", "suppressed")
PENDING = ("PENDING", None)


@pytest.mark.parametrize("headers", [{}, ANOTHER_WAY])
def test_new_mail_goes_to_all_recipients_but_the_suppressed_ones_whom_the_answer_names(door, domain, headers, taken):
    assert add(door, address=f"Ann@{domain}", reason="complained")["added"] == 1
    answer = door.post(GOOD | {"to": [f"ANN@{domain}", f"ben@{domain}"], "cc": f"cis@{domain}"}, **headers)
    identifier = answer.json()["id"]
    assert (answer.status_code, answer.json()["status"]) == (201, "PENDING")
    assert answer.json()["suppressed"] == [f"ANN@{domain}"]
    assert outcomes(door, identifier) == {"ANN": SUPPRESSED, "ben": PENDING, "cis": PENDING}
    events = door.get(f"/messages/{identifier}/events")["events"]
    assert [(one["kind"], one["address"]) for one in events] == [("suppressed", f"ANN@{domain}"), ("accepted", None)]
    assert taken(identifier) == [f"ben@{domain}", f"cis@{domain}"]


@pytest.mark.parametrize("headers", [{}, ANOTHER_WAY])
def test_a_message_whose_recipients_are_all_suppressed_ends_at_once(door, domain, headers, tag, taken):
    add(door, domain=domain)
    key = {"Idempotency-Key": tag + str(bool(headers))}
    body = GOOD | {"to": [f"ann@{domain}", f"ben@{domain}"]}
    first, again = (door.post(body, **headers, **key) for _ in range(2))
    assert (first.status_code, first.json()["status"]) == (201, "ERROR")
    assert first.json() == again.json()
    shown = door.get(f"/messages/{first.json()['id']}")
    assert (shown["status"], shown["reason"]) == SUPPRESSED
    assert {one["finished_at"] is not None for one in shown["deliveries"]} == {True}
    assert taken(shown["id"]) == []
    assert shown["id"] in [one["id"] for one in door.get("/messages", reason="suppressed", domain=domain)["messages"]]


def test_waiting_and_scheduled_mail_is_stopped_and_the_answer_counts_it(door, domain, taken):
    waiting = door.send(to=[f"ann@{domain}", f"ben@{domain}"])
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    scheduled = door.send(to=f"ann@{domain}", send_at=later)
    other = door.send(to=f"ann@sub.{domain}")
    done = add(door, address=f"ann@{domain}")
    assert (done["stopped"], done["in_hand"]) == (2, 0)
    assert outcomes(door, waiting) == {"ann": SUPPRESSED, "ben": PENDING}
    assert outcomes(door, scheduled) == {"ann": SUPPRESSED}
    assert door.get(f"/messages/{scheduled}")["status"] == "ERROR"
    assert taken(waiting) == [f"ben@{domain}"]
    assert taken(other) == [f"ann@sub.{domain}"]


def test_what_a_worker_has_in_hand_is_counted_and_stops_once_it_comes_back(door, domain, taken):
    identifier = door.send(to=[f"ann@{domain}", f"ben@{domain}"])
    held, _ = claim(door, identifier)
    done = suppress(door.services.db, DEFAULT_TENANT, [Entry(target=f"ann@{domain}", reason="r")], patience=0.0)
    assert (done.stopped, done.in_hand) == (0, 1)
    with door.services.db.write() as session:  # its attempt was deferred, and it is due again
        session.execute(update(Delivery).where(Delivery.message_id == UUID(identifier)).values(lease_owner=None))
    assert taken(identifier) == [f"ben@{domain}"]
    until(lambda: outcomes(door, identifier)["ann"] == SUPPRESSED, what="the end of the delivery")
    assert [one["attempts"] for one in door.get(f"/messages/{identifier}")["deliveries"] if one["id"] == str(held)] == [
        0
    ]


def test_a_delivery_that_comes_back_while_the_request_waits_is_stopped(door, domain, monkeypatch):
    identifier = door.send(to=f"ann@{domain}")
    claim(door, identifier)

    def give_back(_):
        with door.services.db.write() as session:
            session.execute(update(Delivery).where(Delivery.message_id == UUID(identifier)).values(lease_owner=None))

    monkeypatch.setattr("mailbbgun.suppressions.suppress.time.sleep", give_back)
    done = suppress(door.services.db, DEFAULT_TENANT, [Entry(target=f"ann@{domain}", reason="r")], patience=60.0)
    assert (done.stopped, done.in_hand) == (1, 0)


def test_a_retry_of_a_stopped_delivery_is_stopped_again_until_the_entry_is_removed(door, domain, taken):
    identifier = door.send(to=f"ann@{domain}")
    fail(door, identifier)
    add(door, address=f"ann@{domain}")
    assert door.call("POST", f"/messages/{identifier}/retry").ok
    assert taken(identifier) == []
    until(lambda: outcomes(door, identifier) == {"ann": SUPPRESSED}, what="the end of the delivery")
    (found,) = door.get("/suppressions", address=f"ann@{domain}")["suppressions"]
    assert door.call("DELETE", f"/suppressions/{found['id']}").status_code == 204
    assert door.call("DELETE", f"/suppressions/{found['id']}").status_code == 404
    assert door.call("POST", f"/messages/{identifier}/retry").ok
    assert taken(identifier) == [f"ann@{domain}"]
    assert "suppressed" not in door.post(GOOD | {"to": f"ann@{domain}"}).json()


def test_an_entry_counts_until_it_expires_and_is_then_forgotten(door, domain, taken):
    later = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    add(door, address=f"ann@{domain}", expires_at=later.isoformat())
    assert door.post(GOOD | {"to": f"ann@{domain}"}).json()["status"] == "ERROR"
    with door.services.db.write() as session:
        its = update(Suppression).where(Suppression.target == f"ann@{domain}")
        session.execute(its.values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    identifier = door.post(GOOD | {"to": f"ann@{domain}"}).json()["id"]
    assert taken(identifier) == [f"ann@{domain}"]
    with door.services.db.write() as session:
        forget_expired(session, 1000)
    assert door.get("/suppressions", address=f"ann@{domain}") == {"suppressions": [], "count": 0}


def test_entries_are_listed_filtered_shown_and_changed_by_adding_them_again(door, domain):
    done = add(
        door,
        suppressions=[
            {"address": f"ann+a@{domain}", "reason": domain},
            {"domain": f"@{domain.upper()}.", "reason": domain, "expires_at": "2090-01-01T00:00:00Z"},
            {"address": f"ANN+a@{domain}", "reason": domain},
        ],
    )
    assert (done["added"], done["changed"]) == (2, 0)
    listed = door.get("/suppressions", reason=domain)
    assert listed["count"] == 2
    found = {(one["address"], one["domain"]) for one in listed["suppressions"]}
    assert found == {(f"ann+a@{domain}", None), (None, domain)}
    (one,) = door.get("/suppressions", domain=domain)["suppressions"]
    assert one["expires_at"] == "2090-01-01T00:00:00.000Z"
    assert door.get(f"/suppressions/{one['id']}") == one
    answer = door.call("GET", f"/suppressions?address=ann+a@{domain}")  # a plus is a plus
    assert answer.json()["count"] == 1
    assert add(door, domain=domain, reason="again") == {"added": 0, "changed": 1, "stopped": 0, "in_hand": 0}
    changed = door.get(f"/suppressions/{one['id']}")
    assert (changed["reason"], changed["expires_at"]) == ("again", None)
    assert door.call("GET", "/suppressions/019aca00-0000-7000-8000-000000000000").status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "address"),
        ({"address": "ann"}, "address"),
        ({"domain": "ann@example.com"}, "domain"),
        ({"address": "a@b.test", "domain": "b.test"}, "address"),
        ({"address": "a@b.test", "reason": ""}, "reason"),
        ({"address": "a@b.test", "reason": "a\nb"}, "reason"),
        ({"address": "a@b.test", "reason": "x" * 201}, "reason"),
        ({"address": "a@b.test", "expires_at": "2001-01-01"}, "expires_at"),
        ({"address": "a@b.test", "suppressions": [{"address": "c@d.test"}]}, "suppressions"),
        ({"suppressions": []}, "suppressions"),
        ({"suppressions": [{"address": "a@b.test"}, {"address": "b"}]}, "suppressions.1.address"),
        ({"email": "a@b.test"}, "email"),
    ],
)
def test_a_wrong_entry_is_refused_and_named(door, body, field):
    wrong(door.call("POST", "/suppressions", json=body), field)


def test_a_csv_is_imported_row_by_row_and_exported_in_the_same_form(door, domain):
    waiting = door.send(to=f"ann@{domain}")
    rows = [f"ann@{domain},{domain},2090-01-01T00:00:00Z", f"ben@{domain},{domain},", "nobody,x,", "", f",{domain},"]
    rows += [f"n{n}@{domain},{domain}," for n in range(1200)]
    answer = door.call(
        "POST",
        "/suppressions/import",
        data=("\ufeffEmail,Reason,expires_at\r\n" + "\r\n".join(rows)).encode(),
        headers={"Content-Type": "text/csv"},
    )
    assert answer.status_code == 200, answer.text
    done = answer.json()
    assert (done["added"], done["changed"], done["rejected"], done["stopped"]) == (1202, 0, 2, 1)
    assert [one["line"] for one in done["errors"]] == [4, 6]
    assert outcomes(door, waiting) == {"ann": SUPPRESSED}
    exported = door.call("GET", "/suppressions/export")
    assert exported.headers["Content-Type"].startswith("text/csv")
    lines = [line for line in exported.text.split("\r\n") if domain in line]
    assert len(lines) == 1202
    assert f"ann@{domain},,{domain},2090-01-01T00:00:00.000Z," in "\n".join(lines)
    again = door.call(
        "POST", "/suppressions/import", data=exported.content, headers={"Content-Type": "text/csv; charset=utf-8"}
    )
    assert (again.json()["added"], again.json()["rejected"]) == (0, 0)


@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_a_csv_may_have_commas_semicolons_or_tabs(door, domain, between):
    data = f"reason{between}email\nmoved away{between}ann@{domain}\n".encode()
    door.call("POST", "/suppressions/import", data=data, headers={"Content-Type": "text/csv"})
    (found,) = door.get("/suppressions", address=f"ann@{domain}")["suppressions"]
    assert found["reason"] == "moved away"


def test_a_csv_without_a_column_of_recipients_is_refused_with_the_columns_it_has(door):
    answer = door.call("POST", "/suppressions/import", data=b"who;why\na;b\n", headers={"Content-Type": "text/csv"})
    assert answer.json()["error"]["fields"]["csv"] == [
        'Its first line must name the columns, one of them address, email or domain; it names "who", "why".'
    ]


@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [
        (b"who,why\na@b.test,x\n", "text/csv", 400),
        (b"", "text/csv", 400),
        (b"address\n\xff\xfe@b.test\n", "text/csv", 400),
        (b"address\n" + b"x" * 20_000, "text/csv", 400),
        (b"address\na@b.test\n", "application/json", 415),
    ],
)
def test_what_is_no_list_is_refused_as_a_whole(door, data, content_type, status):
    answer = door.call("POST", "/suppressions/import", data=data, headers={"Content-Type": content_type})
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("rest", "why"),
    [
        (b"\n" * 1_000_001, "more than 1000000 rows"),
        (b"wrong\n" * 10_002, "Most rows are wrong"),
        (b"x" * 2_000_000, "more than 10000 characters"),
        (b'"' + b"\n" * 200_000, "field larger"),
        (b"\xff\n", "not in UTF-8"),
    ],
)
def test_a_file_that_is_no_list_ends_an_import_soon_and_what_came_before_is_suppressed(door, domain, rest, why):
    data = f"address\nfirst@{domain}\n".encode() + b"\n" * 9_000 + rest
    answer = door.call("POST", "/suppressions/import", data=data, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 400
    assert why in answer.json()["error"]["message"]
    assert door.get("/suppressions", address=f"first@{domain}")["count"] == 1
