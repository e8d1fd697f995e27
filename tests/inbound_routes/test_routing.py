"""Mail that comes to the MX port goes where routes want it, and nowhere else: real servers, on each database."""

import pytest

from tests.flow.service import until
from tests.waiting import PATIENCE


def test_without_a_route_a_domain_takes_mail_for_its_mailboxes_alone(service):
    domain = service.domain("plain.test", "ann")
    code, reply = service.try_to_send([f"bob@{domain}"])
    assert (code, reply[:5]) == (550, "5.1.1")
    service.ends(service.receive(f"ann@{domain}"), "DELIVERED")
    assert len(service.mailed(f"ann@{domain}")) == 1


def test_a_mail_is_forwarded_once_in_the_name_of_its_recipient(service):
    domain = service.domain("forward.test")
    service.route({"forward": ["ann@else.test", "bob@else.test"]}, match={"recipient": f"*@{domain}"}, name="away")
    sent = service.receive(f"info@{domain}", f"help@{domain}")
    deliveries = service.ends(sent, "DELIVERED")
    assert deliveries.keys() == {f"info@{domain}", f"help@{domain}", "ann@else.test", "bob@else.test"}
    assert [deliveries[one]["kind"] for one in (f"info@{domain}", "ann@else.test")] == ["bcc", "fwd"]
    for address in ("ann@else.test", "bob@else.test"):
        [got] = service.forwarded(address)
        assert got["from"].endswith(f"@{domain}")
        assert got["id"] == f"<info.{domain}@far.test>"
    [told] = [one for one in deliveries.values() if one["address"] == f"info@{domain}"]
    assert "forwarded to ann@else.test, bob@else.test (inbound routes: away)" in told["last_reply"]


def test_a_bounce_that_is_forwarded_keeps_its_null_sender(service):
    domain = service.domain("null.test")
    service.route({"forward": ["null@else.test"]}, match={"recipient": f"*@{domain}"})
    service.ends(service.receive(f"info@{domain}", sender=""), "DELIVERED")
    assert [one["from"] for one in service.forwarded("null@else.test")] == [""]


def test_routes_are_tried_by_priority_and_stop_ends_them(service):
    domain = service.domain("order.test", "info", "other")
    match = {"recipient": f"info@{domain}"}
    service.route({"forward": ["last@else.test"]}, match=match, priority=9)
    service.route({"forward": ["second@else.test"]}, match=match, priority=2, stop=True)
    service.route({"forward": ["first@else.test"]}, match=match, priority=-1)
    service.route({"forward": ["never@else.test"]}, match=match, priority=0, enabled=False)
    sent = service.receive(f"info@{domain}")
    assert service.ends(sent, "DELIVERED").keys() == {f"info@{domain}", "first@else.test", "second@else.test"}
    assert service.mailed(f"info@{domain}") == []


def test_the_mailbox_of_a_recipient_is_the_last_route(service):
    domain = service.domain("last.test", "info")
    service.route({"forward": ["copy@else.test"]}, match={"recipient": f"info@{domain}"})
    service.ends(service.receive(f"info@{domain}"), "DELIVERED")
    assert len(service.mailed(f"info@{domain}")) == len(service.forwarded("copy@else.test")) == 1


def test_a_route_stores_mail_in_another_mailbox_and_in_the_own_one(service):
    domain = service.domain("store.test", "info", "all")
    service.route({"store": {"mailbox": f"ALL@{domain}"}}, match={"recipient": f"*@{domain}"}, priority=1)
    service.route({"store": {}}, match={"recipient": f"info@{domain}"}, priority=2, stop=True)
    service.ends(service.receive(f"info@{domain}"), "DELIVERED")
    service.ends(service.receive(f"sales@{domain}"), "DELIVERED")
    assert len(service.mailed(f"all@{domain}")) == 2
    assert len(service.mailed(f"info@{domain}")) == 1


@pytest.mark.parametrize("box", ["info", "other"])
def test_routes_wait_for_room_in_a_mailbox_as_the_door_does(service, box):
    domain = service.domain(f"{box}.room.test", "info", "other")
    full = f"{box}@{domain}"
    service.ends(service.receive(full), "DELIVERED")
    quota = f"{service.url}/mailboxes/{full}"
    service.http.patch(quota, json={"quota_messages": 1}).raise_for_status()
    actions = ({"forward": [f"{box}@else.test"]}, {"store": {"mailbox": full}})
    service.route(*actions, match={"recipient": f"info@{domain}"})
    sent = service.post(to=f"info@{domain}")["id"]
    waited = service.ends(sent, "ERROR")
    assert waited.keys() == {f"info@{domain}"}
    assert "full" in waited[f"info@{domain}"]["last_reply"]
    service.http.patch(quota, json={"quota_messages": 2}).raise_for_status()
    assert service.http.post(f"{service.url}/messages/{sent}/retry").status_code == 200
    service.ends(sent, "DELIVERED")
    assert len(service.mailed(full)) == 2


def test_a_route_may_drop_mail(service):
    domain = service.domain("drop.test", "info")
    service.route(match={"header": {"name": "list-id", "value": "*noise*"}, "recipient": f"*@{domain}"}, stop=True)
    sent = service.receive(f"info@{domain}", header=b"List-ID: <NOISE.far.test>\r\n", name="noise")
    assert "dropped" in service.ends(sent, "DELIVERED")[f"info@{domain}"]["last_reply"]
    service.ends(service.receive(f"info@{domain}", name="music"), "DELIVERED")
    assert len(service.mailed(f"info@{domain}")) == 1


def test_a_header_decides_after_the_mail_has_come(service):
    domain = service.domain("header.test", "ann")
    match = {"recipient": f"*@{domain}", "header": {"name": "Subject", "value": "*CAFÉ*"}}
    route = service.route({"forward": ["cafe@else.test"]}, match=match)
    sent = service.receive(f"bob@{domain}")
    assert service.ends(sent, "DELIVERED").keys() == {f"bob@{domain}", "cafe@else.test"}
    service.http.patch(
        f"{service.url}/inbound-routes/{route['id']}", json={"match": {"header": {"name": "X-No"}}}
    ).raise_for_status()
    code, reply = service.try_to_send([f"bob@{domain}"], name="other")
    assert (code, reply[:5]) == (550, "5.1.1")
    # A refusal is about nobody else: such a recipient is taken alone.
    for pair in ([f"ann@{domain}", f"bob@{domain}"], [f"bob@{domain}", f"ann@{domain}"]):
        code, reply = service.try_to_send(pair)
        assert (code, reply[:5]) == (452, "4.5.3")
    http = service.http.delete(f"{service.url}/inbound-routes/{route['id']}")
    assert http.status_code == 204


def test_mail_that_was_forwarded_here_before_is_not_forwarded_again(service):
    domain = service.domain("loop.test")
    service.route({"forward": [f"b@{domain}", "out@else.test"]}, match={"recipient": f"a@{domain}"})
    service.route({"forward": [f"a@{domain}"]}, match={"recipient": f"b@{domain}"})
    # Within the service: what a route sends here is for mailboxes alone.
    deliveries = service.ends(service.receive(f"a@{domain}", name="ring"), "ERROR")
    assert {one: its["reason"] for one, its in deliveries.items()} == {
        f"a@{domain}": None,
        f"b@{domain}": "bounced",
        "out@else.test": None,
    }
    # Round by another server: it comes back with the field that it left with.
    header = f"Delivered-To: A@{domain}\r\n".encode()
    deliveries = service.ends(service.receive(f"a@{domain}", header=header, name="again"), "ERROR")
    assert deliveries.keys() == {f"a@{domain}"}
    assert deliveries[f"a@{domain}"]["last_reply"].startswith("554 a loop")


def test_mail_of_the_api_to_a_local_domain_takes_the_same_routes(service):
    domain = service.domain("api.test")
    service.route({"forward": ["api@else.test"]}, match={"recipient": f"*@{domain}"})
    sent = service.post(to=f"info@{domain}")["id"]
    assert service.ends(sent, "DELIVERED").keys() == {f"info@{domain}", "api@else.test"}
    until(lambda: service.forwarded("api@else.test"))


def test_mail_of_another_tenant_is_for_mailboxes_and_does_not_tell_it_of_routes(service):
    domain = service.domain("theirs.test", "ann")
    service.route({"forward": ["secret@else.test"]}, match={"recipient": f"*@{domain}"}, name="ours")
    tenant = service.made("/tenants", name="another")["id"]
    key = service.made(f"/tenants/{tenant}/keys", name="app", scopes=["messages:write", "messages:read"])["key"]
    mine = {"headers": {"Authorization": f"Bearer {key}"}, "timeout": PATIENCE}
    body = {"from": "me@their.test", "to": [f"ann@{domain}", f"bob@{domain}"], "subject": "x", "text": "y"}
    sent = service.http.post(f"{service.url}/messages", json=body, **mine)
    assert sent.status_code == 201, sent.text
    url = f"{service.url}/messages/{sent.json()['id']}"
    found = until(lambda: (one := service.http.get(url, **mine).json())["status"] != "PENDING" and one)
    assert {one["address"]: one["status"] for one in found["deliveries"]} == {
        f"ann@{domain}": "DELIVERED",
        f"bob@{domain}": "ERROR",
    }
    assert "ours" not in str(found)
    assert len(service.mailed(f"ann@{domain}")) == 1


def test_an_address_that_asked_for_no_mail_gets_none(service):
    domain = service.domain("gone.test")
    service.made("/suppressions", 200, address="gone@else.test")
    service.route({"forward": ["gone@else.test"]}, match={"recipient": f"*@{domain}"})
    deliveries = service.ends(service.receive(f"info@{domain}"), "ERROR")
    assert deliveries["gone@else.test"]["reason"] == "suppressed"
    assert service.forwarded("gone@else.test") == []
