"""``bin/mailbbgun status``: what is waiting and which workers run, with servers up and down."""

import json
import os
import threading
from collections.abc import Iterator
from subprocess import CompletedProcess
from typing import Any
from uuid import UUID, uuid4

import pytest
from click.testing import Result
from flask.testing import FlaskClient
from sqlalchemy import delete, update

from mailbbgun.app import close, create_app
from mailbbgun.database.db import db_now
from mailbbgun.deliver import workers
from mailbbgun.deliver.models import RegisteredWorker
from mailbbgun.messages.models import Delivery
from mailbbgun.migrations import HEAD
from mailbbgun.queues.rabbitmq import RabbitMQ as Queue
from tests.cli.conftest import Shell
from tests.servers.postgresql import PostgreSQL
from tests.servers.rabbitmq import RabbitMQ

LANES = ("high", "normal", "overflow", "bulk")
NOWHERE = "postgresql+psycopg2://nobody:hunter2@127.0.0.1:1/none"
SILENT = "no worker is running, or none has reported in 30 s"


@pytest.fixture(scope="module")
def api(shell: Shell) -> Iterator[FlaskClient]:
    """The API of the same installation.

    Its queue is away, so nothing is published in the background.
    """
    settings = shell.with_settings(QUEUE_URL="amqp://127.0.0.1:1/")
    app = create_app(services=settings)
    yield app.test_client()
    close(app)
    settings.close()


@pytest.fixture
def worker(shell: Shell) -> Iterator[UUID]:
    """A worker that has reported once. Afterwards there is no worker, and nothing is waiting."""
    owner = uuid4()
    with shell.services.db.write() as session:
        workers.enter(session, owner)
    yield owner
    with shell.services.db.write() as session:
        session.execute(delete(RegisteredWorker))
        session.execute(delete(Delivery))


@pytest.fixture
def alive(shell: Shell, worker: UUID) -> Iterator[UUID]:
    """A worker that goes on reporting, so that it counts as alive however slow the test is."""
    stop = threading.Event()

    def report() -> None:
        while not stop.wait(2):
            workers.beat(shell.services.db, worker)

    thread = threading.Thread(target=report)
    thread.start()
    yield worker
    stop.set()
    thread.join()


def send(shell: Shell, api: FlaskClient, **columns: Any) -> None:
    """Send a message to one recipient and change its delivery."""
    answer = api.post("/messages", json={"to": "ann@example.com", "subject": "Hello", "text": "Hi"})
    assert answer.status_code == 201, answer.text
    with shell.services.db.write() as session:
        session.execute(update(Delivery).where(Delivery.message_id == UUID(answer.json["id"])).values(**columns))


def checked_json(done: Result | CompletedProcess[str]) -> Any:
    """Return what ``--json`` printed. Checks that stderr has all problems in one line."""
    answer = json.loads(done.stdout)
    assert done.stderr == (f"mailbbgun: {'; '.join(answer['problems'])}\n" if answer["problems"] else "")
    return answer


def test_what_waits_is_counted_by_why_it_waits_and_who_holds_it(shell: Shell, api: FlaskClient, alive: UUID) -> None:
    gone = uuid4()
    due = {"next_attempt_at": db_now(-10_000), "published_at": None}
    send(shell, api, **due)
    send(shell, api, **due | {"published_at": db_now(-50)})  # on the queue
    send(shell, api, **due | {"published_at": db_now(-200)})  # came from a delay queue, and its hint is late
    send(shell, api, **due | {"crashes": 2})  # to be delivered in isolation: never published
    for published in (None, db_now()):
        send(shell, api, next_attempt_at=db_now(600), published_at=published)
    send(shell, api, next_attempt_at=None, published_at=None)
    for owner in (alive, alive, gone):
        send(shell, api, lease_owner=owner, lease_until=db_now(300))
    send(shell, api, status="DELIVERED", next_attempt_at=None, finished_at=db_now())
    answer = checked_json(shell.process("mailbbgun", "status", "--json"))
    kind, depth = shell.services.db.dialect, dict.fromkeys(LANES, 0)
    assert answer["database"] == {"kind": kind, "reachable": True, "schema": HEAD, "schema_needed": HEAD}
    assert answer["deliveries"].items() >= {"due": 4, "later": 2, "held": 1, "claimed": 3}.items()
    assert answer["deliveries"]["oldest_due_seconds"] >= 10_000
    assert answer["publisher"]["unpublished"] == 1
    assert answer["publisher"]["oldest_seconds"] >= 10_000
    assert answer["queue"] == {"kind": "embedded", "reachable": True, "depth": depth, "depth_is_exact": True}
    ours, stranger = answer["workers"]
    assert (ours["id"], ours["pid"], ours["alive"], ours["claims"]) == (str(alive), os.getpid(), True, 2)
    assert (stranger["id"], stranger["host"], stranger["alive"], stranger["claims"]) == (str(gone), None, False, 1)
    shown = shell.process("mailbbgun", "status").stdout
    above, _, below = shown.partition("\n\n")
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in above.splitlines()}
    assert lines["database"] == f"{kind}, reachable, schema {HEAD}"
    assert lines["deliveries"].startswith("4 due (the first for 1")
    assert lines["deliveries"].endswith(" s), 2 later, 1 held, 3 claimed")
    assert lines["publisher"].startswith("1 due without a hint (the first for 1")
    assert lines["queue"] == "embedded, reachable, hints: high 0, normal 0, overflow 0, bulk 0"
    assert lines["workers"] == "1 alive"
    assert [row.split()[2:4] for row in below.splitlines()[1:]] == [["yes", "2"], ["no", "1"]]


def test_without_a_worker_that_has_reported_lately_the_exit_code_is_1(shell: Shell, worker: UUID) -> None:
    with shell.services.db.write() as session:
        session.execute(update(RegisteredWorker).values(beat_at=db_now(-31)))
    answer = checked_json(shell.run("status", "--json", code=1))
    assert answer["problems"] == [SILENT]
    assert [one["alive"] for one in answer["workers"]] == [False]
    assert "workers 0 alive" in " ".join(shell.run("status", code=1).stdout.split())


def test_servers_that_are_away_are_told_in_one_line_and_the_rest_is_shown(shell: Shell, alive: UUID) -> None:
    away = {"QUEUE_URL": "amqp://127.0.0.1:1/", "REDIS_URL": "redis://127.0.0.1:1/0", "CLAMAV_URL": "tcp://127.0.0.1:1"}
    answer = checked_json(shell.run("status", "--json", code=1, **away))
    assert (answer["queue"]["kind"], answer["queue"]["reachable"], answer["queue"]["depth"]) == (
        "rabbitmq",
        False,
        None,
    )
    assert answer["redis"] == answer["scanner"] == {"reachable": False}
    assert answer["database"]["reachable"]
    assert answer["deliveries"] is not None
    assert [problem.split()[0] for problem in answer["problems"]] == ["RabbitMQ", "Redis", "The"]
    assert "scanner not reachable" in " ".join(shell.run("status", code=1, **away).stdout.split())
    done = shell.process("mailbbgun", "status", code=1, DATABASE_URL=NOWHERE)
    assert done.stdout.splitlines() == ["database  postgresql, not reachable", "queue     embedded, not reachable"]
    (line,) = done.stderr.splitlines()
    assert line.startswith("mailbbgun: the database does not answer (")
    assert "hunter2" not in done.stdout + done.stderr


def test_a_database_without_our_tables_is_told_with_the_code_of_a_wrong_setting(
    shell: Shell, postgresql: PostgreSQL
) -> None:
    url = postgresql.url(postgresql.create_database())
    answer = checked_json(shell.run("status", "--json", code=os.EX_CONFIG, DATABASE_URL=url))
    assert answer["problems"] == [f"the database's schema is missing, this version needs {HEAD}: run python initdb.py"]
    assert (answer["database"]["reachable"], answer["database"]["schema"], answer["deliveries"]) == (True, None, None)


def test_rabbitmq_is_shown_with_what_is_missing_or_the_most_hints_of_each_lane(
    shell: Shell, alive: UUID, rabbitmq: RabbitMQ
) -> None:
    vhost = rabbitmq.vhost()
    url = rabbitmq.url(vhost)
    answer = checked_json(shell.run("status", "--json", code=os.EX_CONFIG, QUEUE_URL=url))
    assert (answer["queue"]["reachable"], answer["queue"]["depth"]) == (True, None)
    assert any("is missing" in problem for problem in answer["problems"])
    queue = Queue(url, shell.services.settings.RETRY_DELAYS)
    queue.declare()
    queue.publish("bulk", [uuid4()])
    queue.close()
    answer = checked_json(shell.run("status", "--json", QUEUE_URL=url))
    assert (answer["queue"]["kind"], answer["queue"]["depth_is_exact"]) == ("rabbitmq", False)
    assert {lane: number > 0 for lane, number in answer["queue"]["depth"].items()} == {
        lane: lane == "bulk" for lane in LANES
    }
    assert (
        "rabbitmq, reachable, hints at most: high 0, normal 0, overflow 0, bulk "
        in shell.run("status", QUEUE_URL=url).stdout
    )
    rabbitmq.release(vhost)
