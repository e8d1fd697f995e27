"""PostgreSQL's primary is killed and its synchronous standby takes over: all accepted mail is
there.
"""

import time
from contextlib import ExitStack

import pytest
from sqlalchemy.engine import make_url

from mailbbgun.settings.load import load as load_settings
from tests.chaos.check import check
from tests.chaos.load import Load
from tests.chaos.proxy import Proxy
from tests.flow.service import Service, until
from tests.servers import PostgreSQL

TIMES = 2


@pytest.mark.long
def test_a_synchronous_standby_takes_over_with_every_message_that_was_accepted(tmp_path, rabbitmq):
    with ExitStack() as stack:
        primary = stack.enter_context(PostgreSQL(own=True))
        proxy = stack.enter_context(Proxy(primary.port))
        vhost = rabbitmq.vhost()
        stack.callback(rabbitmq.release, vhost)
        url = (
            make_url(primary.url(primary.create_database())).set(port=proxy.port).render_as_string(hide_password=False)
        )
        given = {
            "HOSTNAME": "mail.example.com",
            "VAR": tmp_path / "var",
            "DATABASE_URL": url,
            "QUEUE_URL": rabbitmq.url(vhost),
        }
        settings = load_settings({f"MAILBBGUN_{name}": str(value) for name, value in given.items()})
        service = stack.enter_context(Service(settings, LEASE_SECONDS=8, SWEEP_SECONDS=1))
        service.start_worker()
        load = Load(service)
        with load.in_the_background():
            for _ in range(TIMES):
                standby = stack.enter_context(PostgreSQL(standby_of=primary))
                primary.follow_synchronously(True)
                before = len(service.taken())
                until(lambda: len(service.taken()) > before + 50, 30, "mail on its way")  # noqa: B023 - asked at once
                primary.kill9()
                killed, accepted = time.monotonic(), len(load.accepted)
                standby.promote()
                proxy.upstream = standby.port
                proxy.cut()
                until(lambda: len(load.accepted) > accepted + 10, 30, "a 201")  # noqa: B023 - asked at once
                print(
                    f"{accepted} accepted before; "
                    f"the next {time.monotonic() - killed:.1f} s after the primary was killed"
                )
                primary = standby
        until(lambda: service.count("PENDING") == 0, 60, "the end of every delivery")
        assert check(service, load.accepted).unknown == 0
        assert load.failures == 0
        print(f"{load.unavailable} answers of 503")
