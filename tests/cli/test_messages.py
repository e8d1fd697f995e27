"""``bin/mailbbgun message``: lists, details, timelines, cancel and retry, on each database."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select, update

from mailbbgun.app import close, create_app
from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.database.db import db_now
from mailbbgun.events.changes import record
from mailbbgun.events.kinds import Kind, Reason
from mailbbgun.messages.models import Delivery
from mailbbgun.queues.models import QueuedHint
from tests.cli.conftest import Shell
from tests.waiting import wait_until

OWNER = uuid4()


class Installation:
    """The command line and the API of one installation."""

    def __init__(self, shell: Shell, http: FlaskClient) -> None:
        self.shell = shell
        self.http = http

    def send(self, **message: Any) -> str:
        answer = self.http.post("/messages", json={"to": "ann@example.com", "subject": "Hello", "text": "Hi"} | message)
        assert answer.status_code == 201, answer.text
        return str(answer.json["id"])

    def claim(self, message_id: str) -> list[UUID]:
        """Claim a message's deliveries, as a worker would."""
        with self.shell.services.db.write() as session:
            session.execute(
                update(Delivery).where(Delivery.message_id == UUID(message_id)).values(lease_owner=OWNER, attempt=1)
            )
        with self.shell.services.db.read() as session:
            return list(
                session.scalars(
                    select(Delivery.id).where(Delivery.message_id == UUID(message_id)).order_by(Delivery.id)
                )
            )

    def bounce(self, message_id: str) -> None:
        """Let all deliveries of a message bounce."""
        results = [
            record.Result(
                one,
                UUID(message_id),
                DEFAULT_TENANT,
                1,
                Kind.BOUNCED,
                "ERROR",
                reason=Reason.BOUNCED,
                code=550,
                reply="5.1.1 nobody",
                counted=True,
                attempted=True,
            )
            for one in self.claim(message_id)
        ]
        with self.shell.services.db.write() as session:
            record.write_results(session, OWNER, results)

    def change(self, message_id: str, **columns: Any) -> None:
        """Change columns of a message's deliveries."""
        with self.shell.services.db.write() as session:
            session.execute(update(Delivery).where(Delivery.message_id == UUID(message_id)).values(**columns))

    def hints(self, message_id: str) -> list[str]:
        """Return the lanes of a message's hints on the queue."""
        with self.shell.services.db.read() as session:
            return list(session.scalars(select(QueuedHint.lane).where(QueuedHint.message_id == UUID(message_id))))

    def json(self, *arguments: str) -> Any:
        return self.shell.json("message", *arguments)

    def said(self, *arguments: str, code: int = 0) -> str:
        """Return what a command printed for people, or its one line of stderr if it failed."""
        done = self.shell.run("message", *arguments, code=code)
        return done.stderr if code else done.stdout


@pytest.fixture(scope="module")
def context(shell: Shell) -> Iterator[Installation]:
    app = create_app(services=shell.services)
    yield Installation(shell, app.test_client())
    close(app)


def test_lists_have_the_filters_of_the_api_and_answer_as_it_does(context: Installation) -> None:
    sent = [
        context.send(
            to="Ann <ann@example.com>", subject="The first invoice", tags=["a"], **{"from": "Shop <shop@example.com>"}
        ),
        context.send(to="ben@example.org", subject="The second invoice", message_id_header="<order-1@example.com>"),
        context.send(to="cis@example.com", subject="A letter"),
    ][::-1]
    context.bounce(sent[0])
    filters = {
        (): sent,
        ("--to", "ANN@example.com"): [sent[2]],
        ("--from", "Shop <shop@example.com>"): [sent[2]],
        ("--subject", "INVOICE"): sent[1:],
        ("--domain", "example.com"): [sent[0], sent[2]],
        ("--domain", "example.com", "--status", "pending"): [sent[2]],
        ("--reason", "bounced"): [sent[0]],
        ("--message-id-header", "order-1@example.com"): [sent[1]],
        ("--tag", "a"): [sent[2]],
        ("--no-test",): sent,
        ("--test",): [],
        ("--since", "2100-01-01"): [],
        ("--until", "2100-01-01", "--limit", "2"): sent[:2],
        ("--after", sent[0]): sent[1:],
        ("--offset", "2"): sent[2:],
    }
    for arguments, wanted in filters.items():
        answer = context.json("list", *arguments)
        assert [one["id"] for one in answer["messages"]] == wanted, arguments
    assert context.json("list") == context.http.get("/messages").json
    context.shell.run("tenant", "create", "empty")
    assert context.json("list", "--tenant", "empty") == {"messages": [], "count": 0}


def test_a_page_for_people_says_how_to_go_on(context: Installation) -> None:
    sent = [context.send(subject="paged") for _ in range(3)][::-1]
    done = context.shell.run("message", "list", "--subject", "paged", "--limit", "2")
    head, *rows = done.stdout.splitlines()
    assert head.split() == ["created_at", "status", "reason", "from", "to", "subject", "id"]
    assert [row.split()[-1] for row in rows] == sent[:2]
    assert done.stderr == f"2 of 3; to go on: --after {sent[1]}\n"
    assert context.shell.run("message", "list", "--subject", "paged").stderr == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "--status", "lost"], "'lost' is not one of"),
        (["list", "--limit", "many"], 'limit: Must be an integer from 0 to 1000, not "many".'),
        (["list", "--after", "x"], "after: Must be a UUID"),
        (["list", "--to", "nobody"], 'to: "nobody": Not a bare e-mail address, like ann@example.com.'),
        (["list", "--since", "yesterday"], "since: Must be a time as in RFC 3339"),
        (["list", "--message-id-header", "x"], 'message_id_header: "x": Not a Message-ID'),
        (["show", "7"], "'7' is not a valid UUID"),
        (["retry"], "Missing argument 'MESSAGE'"),
    ],
)
def test_what_the_api_refuses_is_wrong_usage(sqlite: Shell, arguments: list[str], said: str) -> None:
    assert said in sqlite.run("message", *arguments, code=2).stderr


def test_a_message_is_shown_with_each_delivery(context: Installation) -> None:
    sent = context.send(
        to=["ann@example.com", "ben@example.com"], cc="cis@example.com", metadata={"order": 17}, tags=["a", "b"]
    )
    context.bounce(sent)
    assert context.json("show", sent) == context.http.get(f"/messages/{sent}").json
    text = context.said("show", sent)
    above, _, below = text.partition("\n\n")
    properties = {line.split()[0]: line.split(None, 1)[1] for line in above.splitlines()}
    assert (
        properties.items()
        >= {"id": sent, "status": "ERROR", "reason": "bounced", "tags": "a, b", "metadata": '{"order":17}'}.items()
    )
    assert "deliveries" not in properties
    head, *rows = below.splitlines()
    assert head.split()[:5] == ["address", "kind", "status", "reason", "attempts"]
    assert head.split()[-3:] == ["class", "cause", "id"]
    assert [row.split()[:5] for row in rows] == [
        [f"{name}@example.com", kind, "ERROR", "bounced", "1"]
        for name, kind in (("ann", "to"), ("ben", "to"), ("cis", "cc"))
    ]
    assert all("550 5.1.1 nobody" in row for row in rows)


def test_a_timeline_is_told_whole_newest_first(context: Installation) -> None:
    sent = context.send()
    context.bounce(sent)
    answer = context.json("events", sent)
    assert answer == context.http.get(f"/messages/{sent}/events").json
    assert [one["kind"] for one in answer["events"]] == ["bounced", "accepted"]
    _, bounced, accepted = context.said("events", sent).splitlines()
    assert bounced.split()[1:3] == ["bounced", "ann@example.com"]
    assert "code=550 reply=5.1.1 nobody" in bounced
    assert accepted.split()[1:4] == ["accepted", "-", "recipients=1"]


def test_cancel_says_of_how_many_deliveries_and_why_not(context: Installation) -> None:
    sent = context.send(to=["ann@example.com", "ben@example.com", "cis@example.com"])
    first, *_ = context.claim(sent)
    context.change(sent, lease_owner=None)
    with context.shell.services.db.write() as session:
        session.execute(update(Delivery).where(Delivery.id == first).values(lease_owner=OWNER))
    assert context.said("cancel", sent) == "2 of 3 deliveries are cancelled\n"
    assert (
        context.said("cancel", sent, code=1) == "mailbbgun: Nothing left to cancel: it is being sent at this moment.\n"
    )
    other = context.send()
    assert context.json("cancel", other) == context.http.get(f"/messages/{other}").json
    assert context.said("cancel", other, code=1) == "mailbbgun: Nothing left to cancel: it has ended as CANCELLED.\n"


def test_retry_makes_due_what_failed_or_waits_and_hints_it(context: Installation) -> None:
    sent = context.send(priority=9)
    assert (
        context.said("retry", sent, code=1)
        == "mailbbgun: Nothing to try again: it is due already, and waits for a worker.\n"
    )
    wait_until(lambda: context.hints(sent) == ["high"], "the API hints what it accepted")
    context.bounce(sent)
    assert context.said("retry", sent) == "1 of 1 delivery is due now\n"
    assert context.hints(sent) == ["high", "high"]
    with context.shell.services.db.read() as session:
        assert session.scalars(select(Delivery.published_at).where(Delivery.message_id == UUID(sent))).one() is not None
    assert [one["kind"] for one in context.json("events", sent)["events"]] == ["retried", "bounced", "accepted"]
    context.change(sent, next_attempt_at=db_now(600))
    assert context.json("retry", sent) == context.http.get(f"/messages/{sent}").json


def test_what_a_suspended_tenant_has_is_held_and_can_be_cancelled(context: Installation) -> None:
    sent = context.send()
    context.change(sent, next_attempt_at=None, published_at=None)
    assert (
        context.said("retry", sent, code=1)
        == "mailbbgun: Nothing to try again: it is held until its tenant is active again.\n"
    )
    assert context.said("cancel", sent) == "1 of 1 delivery is cancelled\n"


def test_a_retry_stands_although_the_queue_does_not_answer(context: Installation) -> None:
    sent = context.send()
    context.bounce(sent)
    done = context.shell.run("message", "retry", sent, QUEUE_URL="amqp://127.0.0.1:1/")
    assert done.stdout == "1 of 1 delivery is due now\n"
    assert done.stderr.startswith("mailbbgun: RabbitMQ does not answer")
    assert done.stderr.endswith("workers find the message by themselves once the queue is back\n")
    assert context.json("show", sent)["status"] == "PENDING"


def test_the_message_of_another_tenant_is_not_there(context: Installation) -> None:
    sent = context.send()
    context.shell.run("tenant", "create", "another")
    for command in ("show", "events", "cancel", "retry"):
        assert context.said(command, sent, "--tenant", "another", code=1) == "mailbbgun: There is no such message.\n", (
            command
        )
    assert context.json("show", sent)["status"] == "PENDING"
