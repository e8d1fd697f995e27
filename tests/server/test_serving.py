"""Threads and the poller serve requests at once: each request gets its own response."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import text

from tests.http.conftest import Door
from tests.server.test_slow_clients import BODY, answer, api, connect, post

CLIENTS = 12
EACH = 60
IN_A_THREAD = b"X-Anything: unusual\r\n"  # the quick way knows no such header


def statuses(door: Door, number: int) -> set[int]:
    """Send messages one after the other, on a few connections.

    Threads serve every second client.
    """
    request = post(BODY, IN_A_THREAD if number % 2 else b"")
    found: set[int] = set()
    for _ in range(EACH // 5):
        with connect(door) as line, line.makefile("rb") as answers:
            for _ in range(5):
                line.sendall(request)
                found.add(answer(answers)[0])
    return found


def test_messages_that_threads_begin_while_the_poller_begins_others_are_all_answered(tmp_path: Path) -> None:
    with api(tmp_path) as door, ThreadPoolExecutor(CLIENTS) as clients:
        assert set.union(*clients.map(lambda number: statuses(door, number), range(CLIENTS))) == {201}
        with door.services.db.read() as session:
            assert session.execute(text("SELECT count(*) FROM messages")).scalar() == CLIENTS * EACH
