"""Messages to Slack from the HTTP door and the command line to a server that behaves like Slack's."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailbbgun.settings.load import load
from tests.flow.service import until
from tests.flow.tried import Tried
from tests.servers.slack import BROKEN, LIMITED, TOKEN, FakeSlack, refuses, slack_server
from tests.waiting import PATIENCE


@pytest.fixture(scope="module", params=[pytest.param("sqlite", marks=pytest.mark.long), "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def slack(database: str) -> Iterator[FakeSlack]:
    """One for each database: a channel has the messages of one service only."""
    with slack_server() as server:
        yield server


@pytest.fixture(scope="module")
def service(
    request: pytest.FixtureRequest, database: str, slack: FakeSlack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tried]:
    """API and worker with a bot `ops`, which is the default, an incoming webhook `hook`, and a test key."""
    environment = {"MAILBBGUN_VAR": str(tmp_path_factory.mktemp("slack") / "var")}
    if database == "postgresql":
        server = request.getfixturevalue("postgresql")
        environment["MAILBBGUN_DATABASE_URL"] = server.url(server.create_database())
    given = {"SLACK_API_URL": slack.api_url, "SLACK_TIMEOUT": 5, "REFUSED_PAUSE_SECONDS": 1}
    with Tried(load(environment), **given) as started:
        started.start_worker()
        for account in (
            {"name": "ops", "bot_token": TOKEN, "default_channel": "#alerts"},
            {"name": "hook", "webhook_url": slack.webhook_url},
        ):
            assert ask(started, "POST", "/slack/accounts", account)[0] == 201
        yield started


def ask(service: Tried, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    answer = service.http.request(method, service.url + path, json=body, headers=headers, timeout=PATIENCE)
    return answer.status_code, answer.json() if answer.content else None


def send(service: Tried, key: str = "", **message: Any) -> str:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    status, said = ask(service, "POST", "/slack/messages", message, **headers)
    assert (status, said.get("status")) == (201, "PENDING"), said
    return str(said["id"])


def test_a_message_has_the_life_of_a_mail(service: Tried, slack: FakeSlack) -> None:
    body = {"channel": "#life", "level": "error", "title": "db1", "text": "Disk <full>", "tags": ["disk"]}
    status, said = ask(service, "POST", "/slack/messages", body, **{"Idempotency-Key": "life"})
    assert (status, said["subject"]) == (201, "db1")
    assert ask(service, "POST", "/slack/messages", body, **{"Idempotency-Key": "life"})[1]["id"] == said["id"]
    assert ask(service, "POST", "/slack/messages", {"text": "x"}, **{"Idempotency-Key": "life"})[0] == 422
    shown = service.ended(said["id"], "DELIVERED")
    (delivery,) = shown["deliveries"]
    assert (shown["medium"], shown["to"], delivery["attempts"]) == ("slack", ["#life"], 1)
    assert shown["from"].startswith("ops <slack:")
    (message,) = slack.of("#life")
    assert (message["attachments"][0]["color"], "thread_ts" in message) == ("#eb5757", False)
    assert "Disk &lt;full&gt;" in json.dumps(message)
    (delivered,) = [
        one for one in service.get(f"/messages/{said['id']}/events")["events"] if one["kind"] == "delivered"
    ]
    assert (delivered["data"]["account"], delivered["data"]["channel"]) == ("ops", "C024BE91L")
    ts = delivered["data"]["ts"]
    assert delivery["last_reply"] == f"250 ok: channel C024BE91L, ts {ts}"
    raw = service.http.get(f"{service.url}/messages/{said['id']}/raw", timeout=PATIENCE)
    assert (raw.headers["Content-Type"], raw.json()["attachments"]) == ("application/json", message["attachments"])

    later = send(service, text="It is resolved", level="info", thread=said["id"])
    by_ts = send(service, text="by its ts", channel="#life", thread=ts)
    for one in (later, by_ts):
        service.ended(one, "DELIVERED")
    assert [one["thread_ts"] for one in slack.of("#life")[1:]] == [ts, ts]

    mail = service.post(to="ann@example.com", subject="no Slack", tags=["disk"])["id"]
    found = [
        {one["id"] for one in service.get(f"/messages?limit=100&{query}")["messages"]}
        for query in (
            "medium=slack&tag=disk",
            "medium=mail&tag=disk",
            "channel=%23life",
            "to=ann@example.com",
            "tag=disk",
        )
    ]
    assert found == [{said["id"]}, {mail}, {said["id"], later, by_ts}, {mail}, {said["id"], mail}]
    assert ask(service, "POST", "/slack/messages", {"text": "x", "thread": mail})[0] == 400


def test_what_slack_says_decides(service: Tried, slack: FakeSlack) -> None:
    def replies(identifier: str) -> list[str]:
        events = sorted(service.get(f"/messages/{identifier}/events?limit=100")["events"], key=lambda one: one["id"])
        return [
            one["data"]["reply"] for one in events if one["kind"] in ("deferred", "bounced", "delivered", "refused")
        ]

    slack.answer(LIMITED)
    limited = send(service, text="limited", channel="#says")
    service.ended(limited, "DELIVERED")
    assert replies(limited)[0] == "ratelimited: try again in 1 s"
    slack.answer(BROKEN, refuses("internal_error"), refuses("some_new_error"))
    broken = send(service, text="broken", channel="#says")
    service.ended(broken, "DELIVERED")
    assert replies(broken)[:3] == ["HTTP 500", "internal_error", "some_new_error"]
    slack.answer(refuses("is_archived"))
    archived = send(service, text="archived", channel="#says")
    shown = service.ended(archived, "ERROR")
    assert (shown["reason"], replies(archived)) == ("bounced", ["is_archived: the channel is archived"])
    assert service.get("/suppressions")["count"] == 0
    slack.answer(refuses("token_revoked"))
    refused = send(service, text="refused", channel="#says")
    service.ended(refused, "DELIVERED")
    assert "refused" in service.kinds(refused)

    # Slack has the message, and its answer does not come in time: tried again, and nobody may overlook that.
    silent = threading.Event()
    slack.answer(lambda: silent.wait(PATIENCE) and None)
    unknown = send(service, text="unknown", channel="#says")
    until(lambda: "outcome_unknown" in service.kinds(unknown))
    silent.set()
    service.ended(unknown, "DELIVERED")
    assert [one["attachments"] if "attachments" in one else one["text"] for one in slack.of("#says")] == [
        "limited", "broken", "refused", "unknown",
    ]  # fmt: skip


def test_webhooks_test_keys_and_threads_that_wait(service: Tried, slack: FakeSlack) -> None:
    before = len(slack.posted)
    hooked = send(service, account="hook", text="by the hook")
    service.ended(hooked, "DELIVERED")
    assert [one["text"] for one in slack.posted[before:]] == ["by the hook"]
    assert "channel" not in slack.posted[-1]

    tried = [send(service, service.test, text="tried", channel=one) for one in ("#any", "bounce@simulator")]
    assert service.ended(tried[0], "DELIVERED")["test"]
    assert service.ended(tried[1], "ERROR")["reason"] == "bounced"
    assert len(slack.posted) == before + 1

    slack.answer(BROKEN)
    first = send(service, text="first", channel="#order")
    second = send(service, text="second", thread=first)
    for one in (first, second):
        service.ended(one, "DELIVERED")
    assert [one["text"] for one in slack.of("#order")] == ["first", "second"]
    assert slack.of("#order")[1]["thread_ts"]


@pytest.mark.long
def test_accounts_are_masked_tested_and_kept_by_the_command_line(
    service: Tried, slack: FakeSlack, tmp_path: Path
) -> None:
    command = ("bin/mailbbgun", "slack")
    secret = tmp_path / "token"
    secret.write_text("xoxb-0000-wrong-token-of-nobody\n")
    made = json.loads(service.run(*command, "accounts", "create", "night", "--bot-token-file", str(secret), "--json"))
    assert (made["kind"], made["secret"], made["is_default"]) == ("bot", "xoxb-…body", False)
    assert "invalid_auth" in service.run(*command, "accounts", "test", "night", code=1)
    assert "Ours" in service.run(*command, "accounts", "test", "ops")
    assert "yes" in service.run(*command, "accounts", "test", "hook")
    _, listed = ask(service, "GET", "/slack/accounts")
    assert listed["count"] == 3
    assert not any(part in json.dumps(listed) for part in (TOKEN, "wrong-token", "/services/T000"))
    assert not service.sql("SELECT id FROM slack_accounts WHERE bot_token LIKE 'xoxb%' OR webhook_url LIKE 'http%'")

    path = f"/slack/accounts/{made['id']}"
    status, changed = ask(service, "PATCH", path, {"bot_token": TOKEN, "name": "day"})
    assert (status, changed.get("name")) == (200, "day"), changed
    status, tested = ask(service, "POST", f"{path}/test")
    assert (status, tested["ok"], tested["team"], tested["user"]) == (200, True, "Ours", "mailbbgun")
    assert ask(service, "PATCH", path, {"name": "ops"})[0] == 409
    said = service.run(
        *command, "send", "--account", "day", "--channel", "#cli", "--field", "Host=db1", "Hello", "--json"
    )
    service.ended(json.loads(said)["id"], "DELIVERED")
    assert "*Host*\\ndb1" in json.dumps(slack.of("#cli"))

    assert ask(service, "PATCH", path, {"enabled": False})[0] == 200
    waiting = send(service, account="day", channel="#cli", text="gone")
    until(lambda: "refused" in service.kinds(waiting))
    service.run(*command, "accounts", "delete", "day", "--yes")
    assert "was deleted" in service.ended(waiting, "ERROR")["deliveries"][0]["last_reply"]
    assert ask(service, "GET", path)[0] == 404


@pytest.mark.parametrize(
    ("body", "field", "why"),
    [
        ({}, "text", "One of `text`"),
        ({"text": "x", "channel": "two words"}, "channel", "'two words' is no channel"),
        ({"text": "x", "account": "nobody"}, "account", "no Slack account 'nobody'"),
        ({"text": "x", "thread": "yesterday"}, "thread", "'yesterday' is neither"),
        ({"text": "x", "level": "loud"}, "level", "info"),
        ({"text": "x", "blocks": [{}]}, "blocks", "Block 0 has no type"),
        ({"text": "x", "tags": ["t"] * 11}, "tags", "More than 10"),
        ({"text": "x", "account": "hook", "channel": "complain@simulator"}, "channel", "is no channel"),
    ],
)
def test_what_is_wrong_with_a_message_is_said_with_its_field(service: Tried, body: Any, field: str, why: str) -> None:
    status, said = ask(service, "POST", "/slack/messages", body)
    assert status == 400
    assert why in " ".join(said["error"]["fields"][field])


def test_a_webhook_is_at_slack_and_a_limited_key_may_not(service: Tried) -> None:
    for url in (
        "https://evil.example/services/T/B/x",
        "http://hooks.slack.com/services/T/B/x",
        "https://hooks.slack.com/",
        "https://hooks.slack.com/services/T 1/B/x",
        "https://hooks.slack.com/services/T\n/B/x",
        "https://hooks.slack.com/services/T/B/é",
    ):
        status, said = ask(service, "POST", "/slack/accounts", {"name": "evil", "webhook_url": url})
        assert status == 400, url
        assert "hooks.slack.com" in said["error"]["fields"]["webhook_url"][0]
    assert ask(service, "POST", "/slack/accounts", {"name": "none"})[0] == 400
    for key in (service.key("team"), service.test):
        headers = {"Authorization": f"Bearer {key}"}
        assert ask(service, "POST", "/slack/accounts", {"name": "k", "bot_token": TOKEN}, **headers)[0] == 403
    team = {"Authorization": f"Bearer {service.key('team')}"}
    assert ask(service, "POST", "/slack/messages", {"text": "x"}, **team)[0] == 403
