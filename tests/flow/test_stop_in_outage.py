"""Workers that are told to stop while their database is away."""

import pytest
from sqlalchemy.engine import make_url

from tests.chaos.proxy import Proxy
from tests.flow.service import Service, until
from tests.smtp.behaviours import silent
from tests.smtp.peers import Peer


@pytest.mark.long
def test_a_worker_that_stops_in_an_outage_of_its_database_does_not_count_as_killed_by_its_mail(real_settings):
    url = make_url(real_settings.DATABASE_URL)
    with Peer({"banner": silent}) as peer:
        smtp_url = f"smtp://127.0.0.1:{peer.port}?security=none"
        service = Service(real_settings, SMTP_URL=smtp_url, WORKER_CONNECTIONS=1, SHUTDOWN_GRACE=1, SWEEP_SECONDS=1)
        with service:
            posted = [service.post(to=f"ann{number}@example.test")["id"] for number in range(3)]
            with Proxy(url.port) as proxy:
                through = url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
                service.only["worker"]["DATABASE_URL"] = through
                service.start_worker()
                held = "SELECT count(*) FROM deliveries WHERE lease_owner IS NOT NULL"
                until(lambda: service.sql(held)[0][0] == len(posted), what="claims")
            assert service.stop("worker") == 0
            assert service.sql(held)[0][0] == len(posted)
            del service.only["worker"]["DATABASE_URL"]
            service.start_worker("second")
            for one in posted:
                until(lambda one=one: "worker_lost" in service.kinds(one), what="the end of the claim")
            assert service.sql("SELECT sum(crashes) FROM deliveries")[0][0] == 0
            events = service.get(f"/messages/{posted[-1]}/events")["events"]
            (lost,) = (event for event in events if event["kind"] == "worker_lost")
            assert "stopped" in lost["data"]["reply"]
