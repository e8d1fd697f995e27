"""The service behind PgBouncer in transaction mode: sessions keep nothing between transactions."""

import ast
import re
from dataclasses import replace

import pytest

from tests.chaos.check import check
from tests.chaos.load import Load, addresses
from tests.flow.service import ROOT, Service, until
from tests.servers import PgBouncer

#: Connections of PgBouncer to PostgreSQL.
SIZE = 5
#: Statements with an effect that outlives the transaction. SET LOCAL and pg_advisory_xact_lock have
#: none.
_OF_A_SESSION = re.compile(
    r"\bLISTEN\b|(?:^|;)\s*(?:SET|PREPARE|DECLARE)\s(?!LOCAL\b)"
    r"|pg_(?:try_)?advisory_lock|\bTEMP(?:ORARY)?\b|\bWITH HOLD\b"
)


@pytest.mark.parametrize(
    ("statement", "wrong"),
    [
        ("LISTEN hints", True),
        ("SELECT 1; SET lock_timeout = 5", True),
        ("SELECT pg_try_advisory_lock(1)", True),
        ("CREATE TEMP TABLE x", True),
        ("SET LOCAL lock_timeout = 5", False),
        ("SELECT pg_advisory_xact_lock(1)", False),
        ("UPDATE x SET y = 1", False),
    ],
)
def test_statements_that_change_a_session_are_recognised(statement, wrong):
    assert bool(_OF_A_SESSION.search(statement)) is wrong


@pytest.mark.parametrize(
    "path", sorted((ROOT / "mailbbgun").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_no_statement_of_ours_changes_its_session(path):
    texts = [
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert [text for text in texts if _OF_A_SESSION.search(text)] == []


@pytest.mark.long
def test_mail_is_delivered_through_pgbouncer(real_settings, breakable_postgresql):
    with PgBouncer(breakable_postgresql, SIZE) as bouncer:
        settings = replace(real_settings, DATABASE_URL=bouncer.url(real_settings.DATABASE_URL))
        with Service(
            settings, API_PROCESSES=2, WORKER_PROCESSES=2, LEASE_SECONDS=8, SWEEP_SECONDS=1, RETRY_DELAYS="1,1"
        ) as service:
            load = Load(service)
            mail = [*addresses("u", 60), *addresses("later-1-", 10), *addresses("never-", 5)]
            service.start_worker()
            load.send_all(mail, connections=8)
            assert service.run("bin/requeue-pending") == "requeued 0\n"
            until(lambda: service.count("PENDING") == 0, 60, "the end of every delivery")
            ((connections,),) = service.sql("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
            assert check(service, load.accepted).unknown == 0
            assert (load.failures, load.unavailable) == (0, 0)
            print(f"{len(mail)} messages over {connections} connections")
            assert 0 < connections <= SIZE
