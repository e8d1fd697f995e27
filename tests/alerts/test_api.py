"""``/alerts`` through the front door: what is refused, and what is shown."""

import pytest
from sqlalchemy import text

from tests.http.conftest import Door
from tests.tenants.conftest import Locked, code

RULE = {"name": "bounces", "kind": "failure_rate", "emails": ["Ops <ops@example.com>"]}


def made(door: Door, **fields):
    return door.call("POST", "/alerts", json={"name": "x", "kind": "failure_rate"} | fields)


@pytest.mark.parametrize(
    ("fields", "name", "says"),
    [
        ({"kind": "weather"}, "kind", '"weather"'),
        ({"threshold": 0}, "threshold", "0"),
        ({"threshold": 101}, "threshold", "101 is more than 100, the most for failure_rate (%)."),
        ({"threshold": 5, "resolve_threshold": 6}, "resolve_threshold", "6 is above the threshold 5"),
        ({"for": -1}, "for", "-1"),
        ({"window": 5}, "window", "5"),
        ({"emails": ["ops"]}, "emails", "no @-sign"),
        ({"name": "a\nb"}, "name", "one line"),
        ({"all_tenants": True}, "all_tenants", "failure_rate is about one tenant"),
        ({"kind": "disk_use", "all_tenants": False}, "all_tenants", "disk_use is about the whole service"),
        ({"webhook_url": "http://127.0.0.1/x"}, "webhook_url", "no public address"),
        ({"webhook_url": "ftp://example.com/"}, "webhook_url", "does not begin with https://"),
        ({"colour": "red"}, "colour", ""),
    ],
)
def test_a_wrong_rule_is_refused_with_the_field_the_value_and_what_is_right(door: Door, fields, name, says) -> None:
    answer = made(door, **fields)
    assert answer.status_code == 400
    wrong = answer.json()["error"]["fields"]
    assert list(wrong) == [name]
    assert says in wrong[name][0]


def test_a_url_that_is_no_longer_permitted_hinders_no_other_change(door: Door) -> None:
    url = "https://hooks.example.com/x"
    path = f"/alerts/{made(door, name='moved', webhook_url=url).json()['id']}"
    with door.services.db.write() as session:  # as if ALLOW_PRIVATE_HOSTS had permitted it once
        session.execute(text("UPDATE alerts SET webhook_url = 'http://10.0.0.1/x' WHERE name = 'moved'"))
    changed = door.call("PATCH", path, json={"enabled": False, "webhook_url": "http://10.0.0.1/x"})
    assert (changed.status_code, changed.json()["enabled"]) == (200, False)
    wrong = door.call("PATCH", path, json={"webhook_url": "http://10.0.0.2/x", "threshold": 101})
    assert wrong.json()["error"]["fields"].keys() == {"webhook_url", "threshold"}
    assert door.call("DELETE", path).status_code == 204


def test_rules_are_made_once_changed_silenced_listed_and_deleted(door: Door) -> None:
    rule = {"name": "once", "kind": "unusual_volume", "emails": ["Ops@EXAMPLE.com", "Ops@example.com"]}
    first, again = (door.call("POST", "/alerts", json=rule, headers={"Idempotency-Key": "a1"}) for _ in range(2))
    assert (first.status_code, again.headers["Idempotent-Replayed"]) == (201, "true")
    assert first.json() == again.json()
    shown = first.json()
    assert shown["emails"] == ["Ops@example.com"]
    assert [shown[name] for name in ("threshold", "resolve_threshold", "for", "window", "least")] == [
        3,
        3,
        60,
        3600,
        100,
    ]
    assert (shown["state"], shown["unit"], shown["silenced_until"]) == ("ok", "times", None)
    assert made(door, name="once").status_code == 409
    path = f"/alerts/{shown['id']}"
    assert door.call("PATCH", path, json={"threshold": 7}).json()["resolve_threshold"] == 7
    assert door.call("PATCH", path, json={"resolve_threshold": 8}).status_code == 400
    assert door.call("PATCH", path, json={"kind": "disk_use"}).status_code == 400
    until = "2026-01-01T00:00:00Z"
    assert door.call("POST", f"{path}/silence", json={"until": until, "minutes": 1}).status_code == 400
    assert door.call("POST", f"{path}/silence", json={"until": until}).json()["silenced_until"] is None  # it is over
    assert door.call("POST", f"{path}/silence", json={"until": "2999-01-01"}).status_code == 400
    assert door.call("POST", f"{path}/silence").json()["silenced_until"] > until
    door.call("PATCH", path, json={"emails": []})
    assert door.call("POST", f"{path}/test").status_code == 409
    door.call("PATCH", path, json={"emails": ["ops@example.com"]})
    tests = [door.call("POST", f"{path}/test") for _ in range(11)]
    assert [one.status_code for one in tests] == [202] * 10 + [429]
    assert "10 alerts were tested within 60 seconds" in tests[-1].text
    listed = door.get("/alerts", limit=1000)
    assert shown["id"] in [one["id"] for one in listed["alerts"]]
    assert listed["count"] == len(listed["alerts"])
    assert door.call("DELETE", path).status_code == 204
    assert door.call("GET", path).status_code == 404
    assert door.get("/alerts/incidents", state="firing")["incidents"] == []


def test_only_keys_with_the_scope_use_alerts_and_only_admins_those_about_all_tenants(locked: Locked) -> None:
    tenant = locked.tenant("watched")
    key = locked.key(tenant, scopes=["alerts", "messages:write"])["key"]
    other = locked.key(tenant, scopes=["messages:write", "messages:read"])["key"]
    team = locked.key(tenant, scopes=["alerts", "messages:write"], kind="team", guests=["example.com"])["key"]
    test = locked.key(tenant, scopes=["alerts"], kind="test")["key"]
    assert code(locked.ask("GET", "/alerts", other)) == (403, "forbidden")
    assert locked.ask("GET", "/alerts", test).status_code == 403
    disk = {"name": "disk", "kind": "disk_use"}
    queue = {"name": "queue", "kind": "queue_age", "all_tenants": True}
    for rule in (disk, queue):
        assert code(locked.ask("POST", "/alerts", key, json=rule)) == (403, "forbidden")
    stranger = locked.ask("POST", "/alerts", team, json={"name": "t", "kind": "queue_age", "emails": ["a@b.test"]})
    assert "guests only" in stranger.json()["error"]["fields"]["emails"][0]
    by_admin = locked.ask("POST", "/alerts", locked.admin, json=disk).json()
    mine = locked.ask("POST", "/alerts", key, json=queue | {"all_tenants": False}).json()
    assert by_admin["all_tenants"] is True
    assert [one["id"] for one in locked.ask("GET", "/alerts", key).json()["alerts"]] == [mine["id"]]
    # A key of the admin's own tenant that is none of an admin sees it, and changes nothing.
    plain = locked.key("00000000-0000-7000-8000-000000000000", scopes=["alerts"])["key"]
    path = f"/alerts/{by_admin['id']}"
    assert locked.ask("GET", path, plain).status_code == 200
    for method, where in (("PATCH", path), ("DELETE", path), ("POST", f"{path}/silence"), ("POST", f"{path}/test")):
        assert code(locked.ask(method, where, plain, json={})) == (403, "forbidden"), (method, where)
