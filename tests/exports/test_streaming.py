"""Exports are made while their clients read, by a real API with two threads."""

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text

from mailbbgun.core.ids import DEFAULT_TENANT
from mailbbgun.events import log
from mailbbgun.events.kinds import Kind
from mailbbgun.messages.models import DELIVERIES
from tests.http.conftest import Door
from tests.server.test_slow_clients import api, connect, get
from tests.waiting import wait_until

#: Events of the log: of about 6 MB, more than kernels keep for a connection.
ROWS = 9000
EXPORT = b"/exports/events?kind=deferred"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, postgresql: Any) -> Iterator[Door]:
    settings = {"DATABASE_URL": postgresql.url(postgresql.create_database()), "API_SPOOL_SIZE": "1000000"}
    with api(tmp_path_factory.mktemp("exports"), **settings) as opened:
        message = UUID(opened.send())
        with opened.services.db.write() as session:
            (delivery,) = session.scalars(select(DELIVERIES.c.id).where(DELIVERIES.c.message_id == message)).all()
            data = {"reply": "451 " + "x" * 100}
            log.append(
                session, [log.event(DEFAULT_TENANT, message, delivery, Kind.DEFERRED, data) for _ in range(ROWS)]
            )
        yield opened


def answers(line: socket.socket) -> http.client.HTTPResponse:
    found = http.client.HTTPResponse(line)
    found.begin()
    return found


def test_exports_that_nobody_reads_keep_no_thread_and_are_whole_once_they_are_read(door: Door) -> None:
    lines = [connect(door, get(EXPORT)) for _ in range(2)]  # as many as there are threads
    found = [answers(line) for line in lines]
    assert [one.status for one in found] == [200, 200]
    for _ in range(4):
        assert door.get("/messages", limit=1)["count"] == 1
    with connect(door, get(EXPORT)) as third:
        refused = answers(third)
        assert refused.status == 429
        assert "2 of your exports are running here already" in json.loads(refused.read())["error"]["message"]
    for one, line in zip(found, lines, strict=True):
        events = [json.loads(row) for row in one.read().splitlines()]
        assert len({event["id"] for event in events}) == ROWS
        line.close()
    assert door.call("GET", EXPORT.decode() + "&format=csv").text.count("\n") == ROWS + 1


def test_an_export_ends_its_count_when_its_client_leaves(door: Door) -> None:
    for _ in range(4):
        with connect(door, get(EXPORT)) as line:
            wait_until(lambda line=line: line.recv(100), "the beginning")
    wait_until(lambda: door.call("GET", EXPORT.decode()).status_code == 200, "room for another export")


def test_an_export_that_breaks_off_is_not_taken_for_a_whole_one(door: Door) -> None:
    with connect(door, get(EXPORT)) as line:
        found = answers(line)
        assert found.status == 200
        with door.services.db.write() as session:
            session.execute(text("ALTER TABLE events RENAME TO gone"))
        try:
            with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
                found.read()
            assert door.call("GET", EXPORT.decode()).status_code == 503  # one that cannot begin has an answer
        finally:
            with door.services.db.write() as session:
                session.execute(text("ALTER TABLE gone RENAME TO events"))
    assert "A response breaks off: GET /exports/events?kind=deferred" in (door.var / "api.out").read_text()
    assert door.call("GET", EXPORT.decode()).text.count("\n") == ROWS


def test_an_export_of_suppressions_that_cannot_begin_has_an_answer(door: Door) -> None:
    assert door.call("GET", "/suppressions/export").status_code == 200
    with door.services.db.write() as session:
        session.execute(text("ALTER TABLE suppressions RENAME TO gone"))
    try:
        assert door.call("GET", "/suppressions/export").status_code == 503
    finally:
        with door.services.db.write() as session:
            session.execute(text("ALTER TABLE gone RENAME TO suppressions"))


def test_a_request_for_the_head_of_an_export_does_not_count(door: Door) -> None:
    for _ in range(4):
        assert door.call("HEAD", EXPORT.decode()).status_code == 200


def test_a_client_without_chunks_gets_a_whole_export_or_an_error(door: Door) -> None:
    with connect(door, b"GET /exports/messages HTTP/1.0\r\nHost: localhost\r\n\r\n") as line:
        assert answers(line).read().count(b"\n") == 1
    with connect(door, b"GET " + EXPORT + b" HTTP/1.0\r\nHost: localhost\r\n\r\n") as line:
        refused = answers(line)
        assert (refused.status, json.loads(refused.read())["error"]["code"]) == (503, "unavailable")
