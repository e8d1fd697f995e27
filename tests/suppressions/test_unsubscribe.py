"""Recipients unsubscribe by the link in a mail: through the front door, on each database."""

from urllib.parse import urlsplit
from uuid import UUID

import pytest

from tests.http.conftest import Door
from tests.http.posting import GOOD, parsed, wrong
from tests.servers.process import free_port
from tests.waiting import wait_until

PUBLIC = "https://mail.example.com/base"
STOP = '<a href="{{ unsubscribe_url }}">Stop</a>'
ONE_CLICK = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def public(request, tmp_path_factory):
    """An API with a PUBLIC_URL that allows few wrong links."""
    var = tmp_path_factory.mktemp("public")
    environment = {
        "MAILBBGUN_VAR": str(var),
        "MAILBBGUN_PORT": str(free_port()),
        "MAILBBGUN_HOSTNAME": "mail.example.com",
        "MAILBBGUN_PUBLIC_URL": PUBLIC,
        "MAILBBGUN_API_PROCESSES": "1",
        "MAILBBGUN_UNAUTHORIZED_PER_MINUTE": "5",
        "MAILBBGUN_ENCRYPTION_KEYS": "A" * 43 + "=",
        "MAILBBGUN_ALLOW_WEAK_DURABILITY": "true",
    }
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql")
        environment["MAILBBGUN_DATABASE_URL"] = server.url(server.create_database())
    opened = Door(var, environment)
    yield opened
    opened.close()


def link(door, identifier):
    """Return the link in a mail, and its path on this door."""
    found = parsed(door, identifier)["List-Unsubscribe"]
    assert found.startswith(f"<{PUBLIC}/unsubscribe/")
    return found[1:-1], urlsplit(found[1:-1]).path.removeprefix("/base")


def test_one_click_stops_the_next_mail_and_may_be_repeated(public, tag):
    address = f"Ann@{tag}.example"
    identifier = public.send(to=f"Ann Lee <{address}>", unsubscribe=True)
    waiting = public.send(to=address)
    assert parsed(public, identifier)["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    _, path = link(public, identifier)
    for _ in range(2):
        answer = public.call("POST", path, data="List-Unsubscribe=One-Click", headers=ONE_CLICK)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert public.post(GOOD | {"to": address}).json()["suppressed"] == [address]
    assert public.get(f"/messages/{waiting}")["reason"] == "suppressed"
    (entry,) = public.get("/suppressions", reason="unsubscribed", address=address)["suppressions"]
    assert entry["expires_at"] is None
    kinds = [one["kind"] for one in public.get(f"/messages/{identifier}/events")["events"]]
    assert kinds.count("unsubscribed") == 1


def test_looking_at_the_link_changes_nothing_and_shows_a_page_with_a_button(public, tag):
    address = f"a&'b@{tag}.example"
    identifier = public.send(to=address, unsubscribe=True)
    _, path = link(public, identifier)
    answer = public.call("GET", path)
    assert answer.status_code == 200
    assert "a&amp;&#x27;b@" in answer.text
    assert '<form method="post"><button' in answer.text
    assert "<script" not in answer.text
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "form-action 'self'" in policy
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert "suppressed" not in public.post(GOOD | {"to": address}).json()
    german = public.call("GET", path, headers={"Accept-Language": "fr, de-AT;q=0.9, en;q=0.1"})
    assert '<html lang="de">' in german.text
    # The button of our own page: a browser says so.
    pressed = public.call("POST", path, headers={"Origin": "https://mail.example.com", "Sec-Fetch-Site": "same-origin"})
    assert pressed.status_code == 200
    assert public.post(GOOD | {"to": address}).json()["suppressed"] == [address]


def test_the_same_mail_has_the_same_link_each_time(public, tag):
    identifier = public.send(to=f"ann@{tag}.example", unsubscribe=True, html="<p>Hi</p>")
    raw = [public.call("GET", f"/messages/{identifier}/raw").content for _ in range(2)]
    assert raw[0] == raw[1]
    assert len(raw[0]) == public.get(f"/messages/{identifier}")["size"]
    assert link(public, identifier) != link(public, public.send(to=f"ann@{tag}.example", unsubscribe=True))


def test_a_template_has_the_link_as_a_variable(public, tag):
    made = public.call(
        "POST",
        "/templates",
        json={"name": f"news-{tag}", "subject": "News", "text": "Hi", "html": STOP},
    )
    assert made.status_code == 201, made.text
    body = {"to": f"ann@{tag}.example", "template": f"news-{tag}"}
    answer = public.post(body | {"unsubscribe": True})
    assert answer.status_code == 201, answer.text
    identifier = answer.json()["id"]
    url, _ = link(public, identifier)
    assert f'href="{url}"' in parsed(public, identifier).get_body(("html",)).get_content()
    assert public.post(body).status_code == 400  # without unsubscribe there is no such variable


@pytest.mark.parametrize(
    "batch",
    [
        {"common": {"subject": "Hello {{ name }}", "html": STOP}, "variables": True},
        {"common": {"subject": "Hello", "html": STOP}, "variables": False},
        {"common": {"subject": "Hello", "text": "Hi"}, "variables": False},
    ],
)
def test_each_recipient_of_a_batch_has_a_link_of_its_own(public, tag, batch):
    names = ("ann", "ben")
    recipients = [
        {"to": f"{name}@{tag}.example"} | ({"variables": {"name": name}} if batch["variables"] else {})
        for name in names
    ]
    body = batch["common"] | {"unsubscribe": True, "recipients": recipients}
    answer = public.call("POST", "/messages/batch", json=body)
    assert answer.status_code == 202, answer.text
    ids = [one["id"] for one in public.get("/messages", domain=f"{tag}.example")["messages"]][::-1]
    links = [link(public, one) for one in ids]
    assert len({url for url, _ in links}) == 2
    for identifier, (url, _) in zip(ids, links, strict=True):
        if "html" in batch["common"]:
            assert f'href="{url}"' in parsed(public, identifier).get_body(("html",)).get_content()
    assert public.call("POST", links[0][1]).status_code == 200
    sent = [public.post(GOOD | {"to": f"{name}@{tag}.example"}).json() for name in names]
    assert ["suppressed" in one for one in sent] == [True, False]


def test_individual_mails_have_a_link_each(public, tag):
    to = [f"ann@{tag}.example", f"ben@{tag}.example"]
    answer = public.post(GOOD | {"to": to, "individual": True, "unsubscribe": True})
    assert answer.status_code in (201, 202), answer.text
    ids = [one["id"] for one in public.get("/messages", domain=f"{tag}.example")["messages"]]
    assert len({link(public, one)[0] for one in ids}) == 2


@pytest.mark.parametrize(
    "more",
    [
        {"cc": "ben@example.com"},
        {"to": ["ann@example.com", "ben@example.com"]},
        {"headers": {"list-unsubscribe": "<mailto:stop@example.com>"}},
        {"unsubscribe": "yes"},
    ],
)
def test_what_a_link_cannot_do_is_refused(public, more):
    wrong(public.post(GOOD | {"unsubscribe": True} | more), "unsubscribe")


def test_without_a_public_url_there_is_no_link(door):
    answer = door.post(GOOD | {"unsubscribe": True})
    wrong(answer, "unsubscribe")
    assert "PUBLIC_URL" in answer.json()["error"]["fields"]["unsubscribe"][0]
    assert "List-Unsubscribe" not in parsed(door, door.send(unsubscribe=False))


def test_wrong_links_change_nothing_and_are_limited(public, tag):
    _, path = link(public, public.send(to=f"ann@{tag}.example", unsubscribe=True))
    spoiled = path[:-1] + ("A" if path[-1] != "A" else "B")
    answer = public.call("POST", spoiled)
    assert (answer.status_code, "not valid" in answer.text) == (404, True)
    wait_until(lambda: public.call("POST", spoiled).status_code == 429, "the limit")
    assert "Retry-After" in public.call("GET", spoiled).headers
    assert public.call("GET", path).status_code == 200  # a right one works all the same
    assert "suppressed" not in public.post(GOOD | {"to": f"ann@{tag}.example"}).json()
    assert UUID(public.send())
