"""Requests with a key that the process has not seen wait apart; so do those without a valid key."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sqlalchemy import text

from mailbbgun.server.serving import NEWCOMERS
from tests.flow.service import until
from tests.tenants.conftest import Locked, code, opened

UNSEEN = 3 * NEWCOMERS


def waiting(locked: Locked) -> bool:
    """Return whether a query waits for a lock."""
    with locked.services.db.engine.connect() as session:
        return bool(session.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar())


def test_while_new_keys_wait_for_the_database_requests_without_a_valid_key_are_answered(
    tmp_path: Path, postgresql: Any
) -> None:
    url = postgresql.url(postgresql.create_database())
    with opened(tmp_path, 1, DATABASE_URL=url) as locked, ThreadPoolExecutor(UNSEEN) as clients:
        tenant = locked.tenant("acme")
        unseen = [locked.key(tenant)["key"] for _ in range(UNSEEN)]
        with locked.services.db.engine.connect() as rival:
            rival.execute(text("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE"))
            answers = [clients.submit(locked.ask, "GET", "/messages", key) for key in unseen]
            until(lambda: waiting(locked), what="a look-up that waits")
            for wrong in (None, "no key of ours"):
                assert code(locked.ask("GET", "/messages", wrong)) == (401, "unauthorized")
            assert locked.call("GET", "/health").status_code == 200
            assert not any(answer.done() for answer in answers)
            rival.rollback()
        assert {answer.result().status_code for answer in answers} == {200}


def test_a_new_key_whose_first_request_takes_long_keeps_no_other_new_key_waiting(
    tmp_path: Path, postgresql: Any
) -> None:
    url = postgresql.url(postgresql.create_database())
    with opened(tmp_path, 1, DATABASE_URL=url) as locked, ThreadPoolExecutor(UNSEEN) as clients:
        tenant = locked.tenant("acme")
        slow, quick = ([locked.key(tenant)["key"] for _ in range(UNSEEN)] for _ in range(2))
        with locked.services.db.engine.connect() as rival:
            rival.execute(text("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE"))
            answers = [clients.submit(locked.ask, "GET", "/messages", key) for key in slow]
            until(lambda: waiting(locked), what="a list that waits")
            assert {code(locked.ask("GET", "/tenants", key)) for key in quick} == {(403, "forbidden")}
            rival.rollback()
        assert {answer.result().status_code for answer in answers} == {200}
