"""Inbound routes are set up over HTTP, and can be tried before mail comes."""

import pytest

from mailbbgun.settings.load import load
from tests.inbound_routes.conftest import MXService


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with MXService(load({"MAILBBGUN_VAR": str(tmp_path_factory.mktemp("api") / "var")})) as opened:
        yield opened


def refused(service, *actions, code=400, **route):
    return service.route(*actions, code=code, **route)["error"]["fields"]


def test_a_route_is_added_shown_changed_listed_and_deleted(service):
    made = service.route({"forward": ["Ann@EXAMPLE.net"]}, match={"recipient": "a@*"}, name="first", priority=3)
    assert made.pop("secret").startswith("whsec_")
    url = f"{service.url}/inbound-routes/{made['id']}"
    assert service.http.get(url).json() == made
    assert made["actions"] == [{"forward": ["Ann@example.net"]}]
    assert (made["match"], made["stop"], made["enabled"]) == ({"recipient": "a@*"}, False, True)
    changed = service.http.patch(url, json={"enabled": False, "match": {"header": {"name": "X-A"}}}).json()
    assert changed["match"] == {"header": {"name": "X-A", "value": "*"}}
    assert "secret" not in changed
    assert not service.sql("SELECT id FROM inbound_routes WHERE secret LIKE 'whsec%'")
    second = service.route(stop=True)
    listed = service.get("/inbound-routes")
    assert [one["id"] for one in listed["inbound_routes"]] == [second["id"], made["id"]]
    assert listed["count"] == 2
    for one in (second, made):
        assert service.http.delete(f"{service.url}/inbound-routes/{one['id']}").status_code == 204
    assert service.http.get(url).status_code == 404


def test_a_repeated_request_makes_one_route(service):
    given = {"json": {"actions": [], "stop": True}, "headers": {"Idempotency-Key": "once"}}
    first, second = (service.http.post(f"{service.url}/inbound-routes", **given).json() for _ in range(2))
    assert first["id"] == second["id"]
    assert "secret" in first
    assert "secret" not in second
    service.http.delete(f"{service.url}/inbound-routes/{first['id']}")


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ({"post": {"url": "http://127.0.0.1/x"}}, "127.0.0.1"),
        ({"post": {"url": "http://169.254.169.254/latest"}}, "169.254.169.254"),
        ({"post": {"url": "ftp://example.com"}}, "https://"),
        ({"forward": ["nobody"]}, "@-sign"),
        ({"store": {"mailbox": "none@example.com"}}, "no mailbox"),
        ({}, "Has one of"),
        ({"store": {}, "forward": ["a@b.test"]}, "Has one of"),
        ({"post": {"url": "https://example.com/", "form": "xml"}}, "json"),
        ({"forward": [f"a{n}@b.test" for n in range(11)]}, "10"),
    ],
)
def test_an_action_that_cannot_be_done_is_refused_by_a_sentence(service, action, said):
    assert said in str(refused(service, action))


@pytest.mark.parametrize(
    "given",
    [
        {"match": {"recipient": "*" * 11}},
        {"match": {"recipient": "a" * 501}},
        {"match": {"header": {"name": "X Y"}}},
        {"match": {"header": {"value": "x"}}},
        {"match": {"regex": ".*"}},
        {"stop": False},
        {"secret": "short"},
        {"priority": 1.5},
        {"name": "a\nb"},
        {"actions": [{"forward": ["a@b.test"]}, {"forward": ["c@b.test"]}]},
    ],
)
def test_a_route_that_is_wrong_is_refused(service, given):
    assert refused(service, **{"stop": True} | given)


def test_a_tenant_has_a_bounded_number_of_routes(service):
    made = [service.route(stop=True)["id"] for _ in range(100)]
    assert service.route(stop=True, code=409)["error"]["code"] == "conflict"
    for one in made:
        service.http.delete(f"{service.url}/inbound-routes/{one}")


def test_routes_can_be_tried_without_mail(service):
    domain = service.domain("trial.test", "ann")
    post = {"post": {"url": "https://app.example.com/mail"}}
    urgent = {"header": {"name": "Subject", "value": "*urgent*"}, "recipient": f"*@{domain}"}
    route = service.route(post, match=urgent, name="urgent")

    def tried(recipient, **more):
        return service.made("/inbound-routes/test", 200, recipient=recipient, **more)

    assert tried(f"ann@{domain}") == {
        "routes": [],
        "stores": [f"ann@{domain}"],
        "forwards": [],
        "posts": [],
        "reply": "250 2.1.5 taken",
    }
    assert tried(f"bob@{domain}")["reply"] == "250 2.1.5 taken if a route matches its header"
    found = tried(f"bob@{domain}", headers={"Subject": "Most URGENT"})
    assert (found["routes"], found["posts"]) == ([{"id": route["id"], "name": "urgent"}], [post["post"]["url"]])
    assert found["reply"].startswith("250")
    assert tried(f"bob@{domain}", headers={})["reply"].startswith("550 5.1.1")
    assert tried("bob@elsewhere.test")["reply"].startswith("550 5.7.1")
    assert service.made("/inbound-routes/test", 400, recipient="nobody")["error"]["fields"]["recipient"]
    assert service.get("/messages")["count"] == 0
