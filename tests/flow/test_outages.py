"""What the worker logs when the broker goes away and comes back."""

from urllib.parse import urlsplit

from mailbbgun.core.outages import MOST_OUTAGES
from tests.chaos.proxy import Proxy
from tests.flow.service import Service, until


def test_an_outage_of_the_broker_is_logged_once_and_so_is_its_end(real_settings):
    service = Service(real_settings, SWEEP_SECONDS=1)
    url = service.environment["MAILBBGUN_QUEUE_URL"]
    broker = urlsplit(url)
    upstream, password = broker.port or 5672, broker.password

    def told(event: str) -> list[str]:
        return [line for line in (service.var / "worker.out").read_text().splitlines() if f" {event} " in line]

    with service:
        with Proxy(upstream) as proxy:
            address = f"127.0.0.1:{proxy.port}"
            service.only["worker"]["QUEUE_URL"] = url.replace(f":{upstream}/", f":{proxy.port}/")
            service.start_worker()
            service.ended(service.post(to="first@example.test")["id"], "DELIVERED")
        line, *_ = until(lambda: told("queue_unavailable"), what="the log line of the outage")
        waiting = [service.post(to=f"ann{number}@example.test")["id"] for number in range(3)]
        again = Proxy(upstream)
        again.port = proxy.port
        with again:
            back, *_ = until(lambda: told("queue_back"), what="the log line of its end")
            for one in waiting:
                service.ended(one, "DELIVERED")
            service.stop("worker")
        log = (service.var / "worker.out").read_text()
    assert f"address={address}" in back
    assert "RabbitMQ" in line
    assert f"({address})" in line
    assert all(word not in log for word in ("_tick", "_sweep", "AMQP", "Error", "Traceback", str(password) + "@"))
    # Several tasks try again each second. On a slow machine one may fail after another was back, or a minute passes.
    assert len(told("queue_unavailable")) <= MOST_OUTAGES
