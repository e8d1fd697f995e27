"""What processes know of local domains is never older than ``SETTLING_SECONDS``."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sqlalchemy import text

from mailbbgun.domains.local import SETTLING_SECONDS, LocalDomains
from tests.flow.service import until
from tests.tenants.conftest import opened
from tests.waiting import pause

LOCAL = {"name": "late.test", "local": True}
LOCKING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'domains'::regclass"


def test_threads_that_ask_while_another_reads_are_not_told_what_was_true_long_ago(
    tmp_path: Path, postgresql: Any
) -> None:
    url = postgresql.url(postgresql.create_database())
    with opened(tmp_path, 1, DATABASE_URL=url) as locked, ThreadPoolExecutor(8) as threads:
        key = locked.key(locked.tenant("acme"), scopes=["domains"])["key"]
        assert locked.ask("POST", "/domains", key, json={"name": "late.test"}).status_code == 201
        known = LocalDomains(locked.services.db)
        assert known.of("late.test") is None
        pause(SETTLING_SECONDS)  # what is known grows old
        with locked.services.db.engine.connect() as change, locked.services.db.engine.connect() as looking:
            change.execute(text("LOCK TABLE domains IN ACCESS EXCLUSIVE MODE"))
            first = threads.submit(known.of, "late.test")
            until(lambda: looking.execute(text(LOCKING)).scalar(), what="a reader that waits")
            others = [threads.submit(known.of, "late.test") for _ in range(5)]
            change.execute(text("UPDATE domains SET local = true"))
            change.commit()
        assert [one.result().name for one in (first, *others)] == ["late.test"] * 6


def test_after_the_answer_to_a_change_every_process_knows_of_it(tmp_path: Path) -> None:
    with opened(tmp_path, 1) as locked:
        key, path = locked.key(locked.tenant("acme"), scopes=["domains"])["key"], "/domains/late.test"
        known = LocalDomains(locked.services.db)  # as another process has it
        for method, where, body, local in (
            ("POST", "/domains", LOCAL, True),
            ("PATCH", path, {"local": False}, False),
            ("PATCH", path, {"local": True}, True),
            ("DELETE", path, None, False),
        ):
            known.of("late.test")
            assert locked.ask(method, where, key, json=body).ok
            assert (known.of("late.test") is not None) is local, method
