"""PostgreSQL restarted and killed under load: everybody waits for it, nobody dies, nothing is lost."""

import time
from collections import Counter

import pytest
from alembic import command
from sqlalchemy.engine import make_url

from mailbbgun import migrations, schema
from mailbbgun.base.db import Database
from mailbbgun.base.settings import load as load_settings
from tests.chaos.check import check
from tests.chaos.load import Load
from tests.chaos.proxy import Proxy
from tests.flow.service import Service, until
from tests.waiting import pause


@pytest.fixture
def settings(tmp_path, breakable_postgresql, rabbitmq):
    database, vhost = breakable_postgresql.create_database(), rabbitmq.vhost()
    given = {"VAR": tmp_path / "var", "DATABASE_URL": breakable_postgresql.url(database), "QUEUE_URL": rabbitmq.url(vhost)}
    yield load_settings({"MAILBBGUN_HOSTNAME": "mail.example.com"} | {f"MAILBBGUN_{name}": str(value) for name, value in given.items()})
    rabbitmq.release(vhost)
    breakable_postgresql.drop_database(database)


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


def test_the_last_step_of_the_schema_is_taken_under_load_and_nobody_notices(settings):
    database = Database(settings.DATABASE_URL)

    def step(way, revision: str) -> None:
        with database.write() as session:
            config = schema.configuration()
            config.attributes["connection"] = session.connection()
            way(config, revision)

    with Service(settings, API_PROCESSES=2) as service:
        worker = service.start_worker()
        load = Load(service)
        with load.in_the_background():
            until(service.taken, 30, "mail on its way")  # who starts looks at the schema
            for number in range(5):
                step(command.downgrade, "-1")  # what the version before left
                until(lambda: len(service.taken()) > 100 * (number + 1), 30, "mail on its way")  # noqa: B023 - asked at once
                step(command.upgrade, "head")
        migrations.check(database)
        until(lambda: service.count("PENDING") == 0, 60, "the end of every delivery")
        assert (load.unavailable, load.failures, worker.poll()) == (0, 0, None)
        check(service, load.accepted)
    database.close()
