"""Alerts from door to mailbox: each kind fires and resolves, and each change is told once."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

import pytest
from sqlalchemy.engine import make_url

from mailbbgun.settings.settings import Settings
from tests.conftest import MOSTLY_REAL
from tests.flow.service import Service, until
from tests.outgoing.receiver import Receiver, answering
from tests.waiting import PATIENCE

OPS = "ops@example.test"
NOW = {"for": 0, "resolve_for": 0, "emails": [OPS], "slack_channel": "#ops"}
SETTINGS = {"ALERT_SECONDS": 1, "ALLOW_PRIVATE_HOSTS": "127.0.0.1", "SWEEP_SECONDS": 600}
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
POSTED = b'{"ok": true, "channel": "C1", "ts": "1503435956.000247"}'
SLACK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(POSTED), POSTED)


class Watched(Service):
    """A service with alerts."""

    def call(self, method: str, path: str, status: int = 200, **body: object) -> dict:
        answer = self.http.request(method, self.url + path, json=body or None, timeout=PATIENCE)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else {}

    def watch(self, kind: str, **fields: object) -> str:
        return str(self.call("POST", "/alerts", 201, name=kind, kind=kind, **NOW | fields)["id"])

    def told(self, subject: str) -> list[dict]:
        """Return the mails about alerts whose subjects begin so, as delivered."""
        found = self.get("/messages?tag=alert&limit=1000")["messages"]
        mails = [one for one in found if one["medium"] == "mail" and one["status"] == "DELIVERED"]
        return [one for one in mails if one["subject"].startswith(subject)]

    def fired(self, name: str) -> dict:
        return until(lambda: self.told(f"[firing] {name}"), what=f"the mail that {name} fires")[0]

    def resolved(self, name: str) -> dict:
        return until(lambda: self.told(f"[resolved] {name}"), what=f"the mail that {name} is resolved")[0]

    def mail(self, message: dict) -> EmailMessage:
        answer = self.http.get(f"{self.url}/messages/{message['id']}/raw", timeout=PATIENCE)
        return message_from_bytes(answer.content, policy=default)

    def text(self, message: dict) -> str:
        return str(self.mail(message).get_content()).replace("\r\n", "\n")

    def moment(self, seconds: float) -> str:
        """Return a time so many seconds from now, as the database keeps it."""
        return f"{datetime.now(UTC) + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S.%f}" + self._offset

    @property
    def _offset(self) -> str:
        postgresql = make_url(self.environment.get("MAILBBGUN_DATABASE_URL", "sqlite:")).get_backend_name()
        return "+00" if postgresql == "postgresql" else ""


def nothing_delivered(service: Watched) -> None:
    service.watch("nothing_delivered", threshold=30)
    service.sql("UPDATE alerts SET updated_at = :at", at=service.moment(-7200))
    service.fired("nothing_delivered")
    # The mail about it does not count, or it would end what it tells of.
    state = service.call("GET", "/alerts")["alerts"][0]
    assert (state["state"], state["unit"]) == ("firing", "minutes")
    service.ended(service.post(to="ann@example.test")["id"], "DELIVERED")
    service.resolved("nothing_delivered")


def failure_rate(service: Watched) -> None:
    service.watch("failure_rate", threshold=60, least=2, window=3600)
    for n in range(4):
        service.ended(service.post(to=f"never-{n}@example.test")["id"], "ERROR")
    text = service.text(service.fired("failure_rate: "))
    assert "deliveries failed)" in text
    assert "bin/mailbbgun message list --status ERROR" in text
    for n in range(4):
        service.ended(service.post(to=f"bob-{n}@example.test")["id"], "DELIVERED")
    service.resolved("failure_rate")


def queue(service: Watched) -> None:
    for kind, threshold in (("queue_depth", 20), ("queue_age", 600)):
        service.watch(kind, threshold=threshold, all_tenants=kind == "queue_age")
    later = f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    waiting = service.post(to=[f"due-{n}@example.test" for n in range(20)], send_at=later)["id"]
    # No worker looks at this lane.
    service.sql("UPDATE messages SET send_at = NULL WHERE status = 'PENDING' AND send_at IS NOT NULL")
    due = "UPDATE deliveries SET lane = 'nowhere', next_attempt_at = :at WHERE address LIKE 'due-%'"
    service.sql(due, at=service.moment(-3600))
    # What tells of the other alert may be due at this moment, too.
    assert re.search(r"- 2\d deliveries since", service.text(service.fired("queue_depth")))
    service.fired("queue_age")
    service.call("DELETE", f"/messages/{waiting}")
    service.resolved("queue_depth")
    service.resolved("queue_age")


def account_paused(service: Watched) -> None:
    service.watch("account_paused")
    account = {"smtp_host": "127.0.0.1", "smtp_port": 2525, "security_protocol": "NONE"}
    for name in ("first", "second"):
        service.call("POST", "/smtp-accounts", 201, setting_name=name, recipient_domains=["paused.test"], **account)
    rest = account | {"setting_name": "rest", "smtp_port": service.sink_port}
    service.call("POST", "/smtp-accounts", 201, **rest)
    paused = (
        "INSERT INTO smtp_circuits (account_id, worker_id, opened_at, failures, reply) "
        "SELECT a.id, w.id, :at, 3, '421 too busy' FROM smtp_accounts a, workers w WHERE a.setting_name <> 'rest'"
    )
    service.sql(paused, at=service.moment(0))
    mail = service.fired("account_paused (first and 1 more)")
    text = service.text(mail)
    for name in ("first", "second"):
        assert f"- {name}: 1 worker since" in text
    assert "(127.0.0.1 said: 421 too busy)" in text
    service.sql("DELETE FROM smtp_circuits")
    answer = service.mail(service.resolved("account_paused"))
    assert answer["In-Reply-To"] == answer["References"] == service.mail(mail)["Message-ID"]
    assert len(service.call("GET", "/alerts/incidents?limit=2&state=resolved")["incidents"]) == 2


def webhook_dead(service: Watched) -> None:
    service.watch("webhook_dead", threshold=30)
    hook = {"url": "http://127.0.0.1:9/hook", "kinds": ["complained"]}
    service.call("POST", "/webhooks", 201, **hook)
    service.sql("UPDATE webhook_endpoints SET failing_since = :at", at=service.moment(-3600))
    service.fired("webhook_dead (http://127.0.0.1:9/hook): 6")
    service.sql("UPDATE webhook_endpoints SET failing_since = NULL")
    service.resolved("webhook_dead (http://127.0.0.1:9/hook)")


def disk_and_blobs(service: Watched) -> None:
    sent = {"subject": "file", "text": "file", "attachments": [{"filename": "a.txt", "content": "YWJj" * 100}]}
    service.ended(service.post(to="cat@example.test", **sent)["id"], "DELIVERED")
    alerts = [service.watch("disk_use", threshold=0.001, all_tenants=True), service.watch("blob_use", threshold=0.0001)]
    for alert, kind in zip(alerts, ("disk_use", "blob_use"), strict=True):
        service.fired(kind)
        changed = service.call("PATCH", f"/alerts/{alert}", threshold=100)
        assert changed["resolve_threshold"] == 100  # it goes with the threshold if it was the same
        service.resolved(kind)


def unusual_volume(service: Watched) -> None:
    service.watch("unusual_volume", least=12, threshold=3)  # 16 come in all, so it fires once
    hour = int(datetime.now(UTC).timestamp()) // 3600
    past = (
        "INSERT INTO alert_counts (tenant_id, seconds, begin, kind, n, last_at) "
        "SELECT tenant_id, 3600, :begin, 'accepted', 1, :at FROM alerts WHERE kind = 'unusual_volume'"
    )
    for ago in range(5, 50):
        service.sql(past, begin=(hour - ago) * 3600, at=service.moment(-ago * 3600))
    for n in range(5):
        service.post(to=f"dan-{n}@example.test")
    service.fired("unusual_volume")

    def an_hour_later() -> bool:
        service.sql(
            "DELETE FROM alert_counts WHERE seconds = 60 AND kind = 'accepted'"
        )  # again, if some had not been counted yet
        return bool(service.told("[resolved] unusual_volume"))

    until(an_hour_later, what="the mail that the volume is as usual")


def failed_logins(service: Watched) -> None:
    service.watch("failed_logins", threshold=5, all_tenants=True)
    for n in range(6):
        wrong = {"Authorization": f"Bearer mbg_nobody_{n}"}
        assert service.http.get(f"{service.url}/messages", headers=wrong, timeout=PATIENCE).status_code == 401
    service.fired("failed_logins")
    service.sql("UPDATE alert_reports SET begin = begin - 7200 WHERE name = 'failed_logins'")
    service.resolved("failed_logins")


def told_by(receiver: Receiver) -> dict[bytes, dict]:
    """Return the bodies of requests by the ``webhook-id``, each once."""
    parts = [one.partition(b"\r\n\r\n") for one in receiver.requests]
    return {head.lower().partition(b"webhook-id: ")[2].split(b"\r\n")[0]: json.loads(body) for head, _, body in parts}


@MOSTLY_REAL
def test_each_kind_fires_and_resolves_and_each_change_is_one_mail_and_one_message_in_slack(
    backend: Settings, slack: Receiver
) -> None:
    with Watched(backend, SLACK_API_URL=slack.url(path="/api/"), **SETTINGS) as service:
        service.call("POST", "/slack/accounts", 201, name="team", bot_token="xoxb-1-secret")
        service.start_worker()
        kinds = (nothing_delivered, failure_rate, queue, account_paused, webhook_dead, disk_and_blobs, unusual_volume)
        for kind in (*kinds, failed_logins):
            kind(service)
        until(lambda: len(posted(slack)) == 20, what="the last message to Slack")
        told = service.get("/messages?tag=alert&limit=1000")["messages"]
        assert Counter(one["medium"] for one in told) == {"mail": 20, "slack": 20}  # ten kinds
        titles = Counter(one["subject"] for one in told if one["medium"] == "slack")
        assert titles == Counter(one["subject"] for one in told if one["medium"] == "mail")
        assert all(any(title.encode() in one for one in posted(slack)) for title in titles)
        assert len([message for message in service.taken() if message["to"] == [OPS]]) == 20
        assert (service.events("alert_fired"), service.events("alert_resolved")) == (11, 11)  # two accounts were paused
        assert "" not in {one["id"] for one in service.call("GET", "/alerts/incidents?limit=100")["incidents"]}


@pytest.fixture
def slack() -> Iterator[Receiver]:
    with Receiver(answering(SLACK)) as server:
        yield server


@pytest.fixture
def service(embedded_settings: Settings, slack: Receiver) -> Iterator[Watched]:
    with Watched(embedded_settings, SLACK_API_URL=slack.url(path="/api/"), **SETTINGS) as opened:
        opened.call("POST", "/slack/accounts", 201, name="team", bot_token="xoxb-1-secret")
        opened.start_worker()
        yield opened


def posted(slack: Receiver) -> list[bytes]:
    """Return the messages that Slack got."""
    return [one for one in slack.requests if b"chat.postMessage" in one.split(b"\r\n", 1)[0]]


@pytest.mark.long
def test_silence_slack_webhooks_and_a_killed_worker(service: Watched, slack: Receiver) -> None:
    with Receiver(answering(NO_CONTENT)) as receiver:
        channels = {"webhook_url": receiver.url(), "slack_channel": "#ops"}
        alert = service.watch("failed_logins", threshold=3, all_tenants=True, **channels)
        assert service.call("POST", f"/alerts/{alert}/test", 202) == {"notices": 3}
        until(lambda: service.told("[test] failed_logins"), what="the mail of the test")
        until(lambda: receiver.requests, what="the request of the test")
        silent = service.call("POST", f"/alerts/{alert}/silence", minutes=5)
        assert silent["silenced_until"] is not None
        for n in range(3):
            service.http.get(f"{service.url}/messages", headers={"Authorization": f"Bearer {n}"}, timeout=PATIENCE)
        until(lambda: service.call("GET", f"/alerts/{alert}")["state"] == "firing", what="the alert, silently")
        # Whoever dies: what fires goes on firing, and nothing is told twice.
        service.kill("worker")
        service.start_worker()
        until(lambda: "worker_started" in (service.var / "worker.out").read_text().split("\n", 1)[1], what="a worker")
        assert service.told("[firing]") == []
        assert service.call("POST", f"/alerts/{alert}/silence", minutes=0)["silenced_until"] is None
        service.fired("failed_logins")
        # What is switched off ends its incidents, and says so.
        service.call("PATCH", f"/alerts/{alert}", enabled=False)
        service.resolved("failed_logins")
        until(lambda: len(told_by(receiver)) == 3, what="the last request")
        told = told_by(receiver)
        assert [one["type"] for one in told.values()] == ["alert.test", "alert.fired", "alert.resolved"]
        assert list(told.values())[1]["data"]["incidents"][0]["value"] == 3
        until(lambda: len(posted(slack)) == 3, what="the last message to Slack")
        tried, fired, ended = posted(slack)
        assert b"1503435956.000247" in ended
        assert b"1503435956.000247" not in tried + fired  # an incident has one thread, and a test none
        # As if the worker had died after each message was stored, and before it noted that.
        service.sql("UPDATE alert_notices SET done_at = NULL WHERE channel <> 'webhook'")
        unsent = "SELECT count(*) FROM alert_notices WHERE done_at IS NULL"
        until(lambda: service.sql(unsent)[0][0] == 0, what="the notices again")
        mails = service.get("/messages?tag=alert&limit=1000")["messages"]
        assert sorted(Counter(one["subject"] for one in mails).values()) == [2, 2, 2]  # a mail, and one to Slack
        assert {one[0] for one in service.sql("SELECT error FROM alert_notices")} == {None}
    assert "resolved" in service.run("bin/mailbbgun", "alert", "incidents")
