"""PostgreSQL restarted and killed under load: all processes wait for it, none ends, nothing is
lost.
"""

import os
import time
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from mailbbgun import migrations, schema
from mailbbgun.database.db import Database
from mailbbgun.settings.load import load as load_settings
from tests.chaos.check import check
from tests.chaos.load import Load
from tests.chaos.proxy import Proxy
from tests.flow.service import Service, until
from tests.waiting import pause


@pytest.fixture
def settings(tmp_path, breakable_postgresql, rabbitmq):
    database, vhost = breakable_postgresql.create_database(), rabbitmq.vhost()
    given = {
        "VAR": tmp_path / "var",
        "DATABASE_URL": breakable_postgresql.url(database),
        "QUEUE_URL": rabbitmq.url(vhost),
    }
    yield load_settings(
        {"MAILBBGUN_HOSTNAME": "mail.example.com"} | {f"MAILBBGUN_{name}": str(value) for name, value in given.items()}
    )
    rabbitmq.release(vhost)
    breakable_postgresql.drop_database(database)


@pytest.mark.long
def test_a_database_that_restarts_and_dies_under_load_is_waited_for(settings, breakable_postgresql):
    with Service(settings, LEASE_SECONDS=8, SWEEP_SECONDS=1, API_PROCESSES=2) as service:
        processes = [service.start_worker(), service.processes["api"]]
        load = Load(service)
        with load.in_the_background():
            for number in range(4):
                until(lambda: len(service.taken()) > 50 * (number + 1), 30, "mail on its way")  # noqa: B023 - asked at once
                if number % 2:
                    breakable_postgresql.kill9()
                    pause(0.5)
                    breakable_postgresql.start()
                else:
                    breakable_postgresql.restart()
                back = time.monotonic()
                before = len(service.taken())
                until(lambda: len(service.taken()) > before + 20, 20, "mail going out again")  # noqa: B023 - asked at once
                print(f"mail goes out {time.monotonic() - back:.1f} s after the database is back")
        until(lambda: service.count("PENDING") == 0, 60, "the end of every delivery")
        print(f"{load.unavailable} answers of 503")
        assert load.failures == 0
        check(service, load.accepted)
        assert [process.poll() for process in processes] == [None, None]


@pytest.mark.long
def test_a_message_without_a_key_is_stored_once_though_the_reply_to_its_commit_is_lost(settings):
    url, service = make_url(settings.DATABASE_URL), Service(settings)
    with Proxy(url.port) as proxy:
        service.only["api"]["DATABASE_URL"] = url.set(port=proxy.port).render_as_string(hide_password=False)
        with service:
            service.start_worker()
            wanted = [f"n{number}@example.test" for number in range(10)]
            for address in wanted:
                proxy.cut_replies_to(b"INSERT INTO events", 1)  # one statement, which commits itself
                service.post(to=address)
            assert proxy.cuts == len(wanted)
            until(lambda: service.count("DELIVERED") == len(wanted), 30, "the end of every delivery")
            assert service.copies() == Counter(wanted)


STEP = """
import sqlalchemy as sa
from alembic import op

revision = "{this}"
down_revision = "{before}"
branch_labels = depends_on = None

def upgrade():
    for table in ("smtp_accounts", "deliveries", "messages"):
        op.add_column(table, sa.Column("{this}", sa.Integer()))
        op.add_column(table, sa.Column("given_{this}", sa.Text(), server_default=sa.text("'x'"), nullable=False))
        op.create_index(f"ix_{{table}}_{this}", table, ["tenant_id", "{this}"])
"""


@pytest.mark.long
def test_steps_of_the_schema_are_taken_under_load_and_the_version_that_runs_does_not_notice(settings, tmp_path):
    """A rolling upgrade: the schema first, while processes of the old version still serve (R42)."""
    database, config = Database(settings.DATABASE_URL), schema.configuration()
    config.set_main_option(
        "version_locations", f"{Path(migrations.__file__).parent / 'versions'}{os.pathsep}{tmp_path}"
    )
    before = migrations.HEAD
    with Service(settings, API_PROCESSES=2) as service:
        worker = service.start_worker()
        load = Load(service)
        with load.in_the_background():
            until(service.taken, what="mail on its way")  # a worker checks the schema when it starts
            for number in range(5):
                (tmp_path / f"step{number}.py").write_text(STEP.format(this=f"step{number}", before=before))
                before = f"step{number}"
                schema.upgrade(database, config)
                until(lambda: len(service.taken()) > 100 * (number + 1), what="mail on its way")  # noqa: B023 - asked at once
        until(lambda: service.count("PENDING") == 0, what="the end of every delivery")
        # On a slow machine a step takes longer than a request with an Idempotency-Key waits for a lock: that is a 503.
        print(f"{load.unavailable} answers of 503")
        assert (load.failures, worker.poll()) == (0, None)
        check(service, load.accepted)
    database.close()
