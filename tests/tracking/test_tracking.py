"""Tracked mail, through the front door, on each database."""

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from sqlalchemy import update

from mailbbgun.tracking import repo
from mailbbgun.tracking.models import ADDRESSES
from tests.http.conftest import Door
from tests.http.posting import parsed, wrong
from tests.servers.process import free_port

PUBLIC = "https://mail.example.com/base"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
SHOP = "https://shop.example/?a=1&copy=2"
HTML = f'<html><body><a href="{SHOP}">Shop</a> <a href="mailto:a@b.example">Ask</a></body></html>'


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def public(request, tmp_path_factory):
    """An API with a PUBLIC_URL that allows few wrong links."""
    var = tmp_path_factory.mktemp("tracked")
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


def html_of(door, identifier):
    return parsed(door, identifier).get_body(("html",)).get_content()


def paths(html):
    """Return the paths of the first link and of the image in a tracked text, on a test's door."""
    found = [re.search(rf'"({re.escape(PUBLIC)}/{kind}/[^"]+)"', html) for kind in "co"]
    return [urlsplit(one[1]).path.removeprefix("/base") if one else None for one in found]


def visit(door, path, agent, method="GET"):
    return door.call(method, path, headers={"User-Agent": agent}, allow_redirects=False)


def seen(door, identifier):
    events = door.get(f"/messages/{identifier}/events")["events"]
    return [one for one in reversed(events) if one["kind"] in ("opened", "clicked")]


def test_opens_and_clicks_are_recorded_with_who_made_them(public):
    identifier = public.send(html=HTML, track_opens=True, track_clicks=True)
    html = html_of(public, identifier)
    assert html == html_of(public, identifier)
    assert 'href="mailto:a@b.example"' in html
    assert SHOP not in html
    click, image = paths(html)
    assert visit(public, image, GMAIL, "HEAD").status_code == 200
    assert seen(public, identifier) == []
    answer = visit(public, image, GMAIL)
    assert (answer.status_code, answer.headers["Content-Type"], answer.content[:6]) == (200, "image/gif", b"GIF89a")
    assert "no-store" in answer.headers["Cache-Control"]
    answers = [visit(public, click, agent) for agent in (BROWSER, BROWSER, "curl/8.5")]
    assert {(one.status_code, one.headers["Location"]) for one in answers} == {(302, SHOP)}
    found = seen(public, identifier)
    assert [(one["kind"], one["data"]["by"], one["data"]["first"]) for one in found] == [
        ("opened", "proxy", True),
        ("clicked", "person", True),
        ("clicked", "person", False),
        ("clicked", "robot", True),
    ]
    assert {one["address"] for one in found} == {"ann@example.com"}
    assert found[1]["data"] == {"by": "person", "first": True, "url": SHOP, "user_agent": BROWSER}
    shown = public.get(f"/messages/{identifier}/tracking")
    assert (shown["opens"], shown["clicks"]) == (
        {"person": 0, "proxy": 1, "robot": 0},
        {"person": 2, "proxy": 0, "robot": 1},
    )
    assert {one["address"] for one in shown["addresses"]} == {"127.0.0.1"}
    assert len(shown["addresses"]) == 4
    assert "127.0.0.1" not in str(found)
    # Days later the addresses are forgotten, and nothing else.
    with public.services.db.write() as session:
        assert repo.forget_addresses(session, 7) == 0
        session.execute(update(ADDRESSES).values(at=datetime.now(UTC) - timedelta(days=8)))
        assert repo.forget_addresses(session, 7) == 4
    later = public.get(f"/messages/{identifier}/tracking")
    assert (later["addresses"], later["clicks"]) == ([], shown["clicks"])
    assert seen(public, identifier) == found


def test_what_is_not_asked_for_is_not_tracked(public):
    plain = html_of(public, public.send(html=HTML, track_opens=False))
    assert PUBLIC not in plain
    click, image = paths(html_of(public, public.send(html=HTML, track_opens=True)))
    assert click is None
    assert image
    click, image = paths(html_of(public, public.send(html=HTML, track_clicks=True, unsubscribe=True)))
    assert click
    assert image is None
    assert public.send(text="no html", track_opens=True, track_clicks=True)


def test_batches_templates_and_individual_mails_have_links_of_their_own(public, tag):
    common = {"subject": "News", "track_clicks": True, "track_opens": True}
    texts = {"html": '<a href="https://shop.example/{{ id }}">Shop</a>'}
    recipients = [{"to": f"{name}@{tag}.example", "variables": {"id": name}} for name in ("ann", "bob")]
    batch = public.call("POST", "/messages/batch", json=common | texts | {"recipients": recipients})
    assert batch.status_code == 202, batch.text
    name = f"news-{tag}"
    assert public.call("POST", "/templates", json={"name": name, "subject": "News", **texts}).status_code == 201
    templated = public.post(
        {"to": "cat@example.com", "template": name, "variables": {"id": "cat"}, "track_clicks": True}
    )
    one_each = public.post(common | {"to": f"dan@{tag}.example", "html": HTML, "individual": True})
    assert one_each.status_code == 202, one_each.text
    targets = []
    for identifier in (*batch.json()["ids"], templated.json()["id"], *one_each.json()["ids"]):
        click, _ = paths(html_of(public, identifier))
        targets.append(visit(public, click, BROWSER).headers["Location"])
        assert [one["kind"] for one in seen(public, identifier)] == ["clicked"]
    assert targets == [f"https://shop.example/{one}" for one in ("ann", "bob", "cat")] + [SHOP]


def test_several_recipients_share_links_so_nobody_is_named(public):
    identifier = public.send(to=["ann@example.com", "bob@example.com"], html=HTML, track_clicks=True)
    click, _ = paths(html_of(public, identifier))
    visit(public, click, BROWSER)
    (event,) = seen(public, identifier)
    assert event["address"] is None


def test_a_wrong_token_redirects_nowhere_and_too_many_are_refused(public):
    click, image = paths(html_of(public, public.send(html=HTML, track_opens=True, track_clicks=True)))
    wrong_ones = [click[:-1], click.replace("/c/", "/o/"), image.replace("/o/", "/c/"), "/c/x", "/c/" + "A" * 400]
    answers = [visit(public, path, BROWSER) for path in wrong_ones]
    assert {one.status_code for one in answers} == {404}
    assert not any("Location" in one.headers for one in answers)
    for _ in range(9):
        last = visit(public, "/o/x", BROWSER)
    assert last.status_code == 429
    assert visit(public, click, BROWSER).status_code == 302


def test_the_longest_target_and_foreign_letters_arrive(public):
    long = "https://shop.example/" + "x" * 1900
    for target, arrives in ((long, long), ("https://shop.example/ä b", "https://shop.example/%C3%A4%20b")):
        identifier = public.send(html=f'<a href="{target}">x</a>', track_clicks=True)
        click, _ = paths(html_of(public, identifier))
        assert visit(public, click, BROWSER).headers["Location"] == arrives


def test_tracking_needs_a_public_url(door):
    body = {"to": "ann@example.com", "subject": "x", "html": HTML}
    for name in ("track_opens", "track_clicks"):
        answer = door.post(body | {name: True})
        wrong(answer, name)
        assert "PUBLIC_URL is empty" in answer.text
    assert door.post(body | {"track_opens": False}).status_code == 201
