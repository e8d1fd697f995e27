"""Busy clients do not delay others: their requests wait for those of clients that used less."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from sqlalchemy import text

from mailbbgun.server.bodies.chunked import FREE_FRAMING
from tests.flow.service import until
from tests.http.conftest import ROOT, Door
from tests.server.test_slow_clients import BODY, CHUNKED, JSON, THREADS, answer, api, connect, get

MANY = 12

ACCESS_LOG = """
globals().update(__import__("runpy").run_path({ours!r}))
accesslog = "-"
access_log_format = "seen %(h)s %(U)s %(s)s"
"""


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, postgresql: Any) -> Iterator[Door]:
    """An API with an access log, on PostgreSQL, where a reader can be blocked."""
    folder = tmp_path_factory.mktemp("busy")
    (folder / "conf.py").write_text(ACCESS_LOG.format(ours=str(ROOT / "gunicorn.conf.py")))
    command = ["-m", "gunicorn", "-c", str(folder / "conf.py"), "api:app"]
    with api(folder, command, DATABASE_URL=postgresql.url(postgresql.create_database())) as opened:
        yield opened


def seen(door: Door, path: str) -> list[str]:
    """Return the addresses of the clients whose requests for a path were answered, in order."""
    lines = [
        line.split("seen ")[1].split() for line in (door.var / "api.out").read_text().splitlines() if "seen " in line
    ]
    return [address for address, asked, _ in lines if asked == path]


def test_a_client_waits_for_a_thread_behind_few_requests_of_a_busy_address(door: Door) -> None:
    with ExitStack() as stack, door.services.db.engine.connect() as rival:
        rival.execute(text("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE"))
        request = get(b"/messages?limit=1")
        lines = [stack.enter_context(connect(door, request)) for _ in range(MANY)]
        with connect(door, get(b"/health")) as asked, asked.makefile("rb") as answers:
            assert answer(answers)[0] == 200  # so the poller has read what came before
        lines.append(stack.enter_context(connect(door, request, source="127.0.0.9")))
        with connect(door, get(b"/health")) as asked, asked.makefile("rb") as answers:
            assert answer(answers)[0] == 200
        rival.rollback()
        assert {answer(stack.enter_context(line.makefile("rb")))[0] for line in lines} == {200}
    until(lambda: len(seen(door, "/messages")) == MANY + 1, what="the access log")
    assert seen(door, "/messages").index("127.0.0.9") <= 3 * THREADS


def test_health_is_in_the_access_log_and_answers_whoever_may_ask(door: Door) -> None:
    before = len(seen(door, "/health"))
    for host, status in ((b"localhost", 200), (b"192.0.2.1:99", 200), (b"evil.example", 421), (b"a b", 400)):
        with connect(door, get(b"/health").replace(b"localhost", host)) as line, line.makefile("rb") as answers:
            found, headers, told = answer(answers)
            assert (found, told.get("status")) == (status, "ok" if status == 200 else None)
            assert headers["x-content-type-options"] == "nosniff"
    until(lambda: len(seen(door, "/health")) == before + 4, what="the access log")


@pytest.mark.parametrize("chunk", [b"1\r\n \r\n", b"2;a=b\r\n  \r\n", b"1;" + b"a" * 500 + b"\r\n \r\n"])
def test_a_body_of_more_framing_than_content_gets_400(door: Door, chunk: bytes) -> None:
    with connect(door) as line, line.makefile("rb") as answers:
        line.sendall(CHUNKED + chunk * (3 * FREE_FRAMING // len(chunk)))
        status, headers, told = answer(answers)
        assert (status, headers["connection"]) == (400, "close")
        assert f"{FREE_FRAMING} bytes more than its content" in told["error"]["message"]


@pytest.mark.parametrize(
    "coding", [b"gzip, chunked", b"identity, chunked", b"x, chunked", b"gzip\r\nTransfer-Encoding: chunked"]
)
def test_a_transfer_coding_beside_chunked_gets_501(door: Door, coding: bytes) -> None:
    head = b"POST /messages HTTP/1.1\r\nHost: localhost\r\n" + JSON + b"Transfer-Encoding: " + coding + b"\r\n\r\n"
    with connect(door, head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)) as line, line.makefile("rb") as answers:
        status, _, told = answer(answers)
        assert (status, told["error"]["code"]) == (501, "not_implemented")
