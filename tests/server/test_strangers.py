"""Requests with a key that the process has not seen wait apart; so do those without a valid key."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sqlalchemy import text

from mailbbgun.server.serving import NEWCOMERS
from tests.flow.service import until
from tests.servers import PostgreSQL
from tests.tenants.conftest import Locked, code, opened

UNSEEN = 3 * NEWCOMERS


def waiting(locked: Locked) -> bool:
    """Return whether a query to the API's database waits for a lock."""
    ours = "SELECT oid FROM pg_database WHERE datname = current_database()"
    with locked.services.db.engine.connect() as session:
        return bool(
            session.execute(text(f"SELECT count(*) FROM pg_locks WHERE NOT granted AND database = ({ours})")).scalar()
        )


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


def test_a_new_key_gets_503_while_the_database_is_away_and_no_key_401(
    tmp_path: Path, breakable_postgresql: PostgreSQL
) -> None:
    url = breakable_postgresql.url(breakable_postgresql.create_database())
    with opened(tmp_path, 1, DATABASE_URL=url) as locked:
        key = locked.key(locked.tenant("acme"))["key"]
        breakable_postgresql.stop()
        try:
            assert code(locked.ask("GET", "/messages", key)) == (503, "unavailable")
            assert code(locked.ask("GET", "/messages")) == (401, "unauthorized")
        finally:
            breakable_postgresql.start()
        until(lambda: locked.ask("GET", "/messages", key).status_code == 200, what="the key's first answer")
