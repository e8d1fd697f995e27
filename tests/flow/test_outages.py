"""A broker that goes away and comes back, as the worker's log tells of it."""

from urllib.parse import urlsplit

from tests.chaos.proxy import Proxy
from tests.flow.service import Service, until


def test_a_broker_that_is_away_is_told_of_once_in_plain_words_and_once_when_it_is_back(real_settings):
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
        (line,) = until(lambda: told("queue_unavailable"), what="a word about the broker")
        waiting = [service.post(to=f"ann{number}@example.test")["id"] for number in range(3)]
        again = Proxy(upstream)
        again.port = proxy.port
        with again:
            (back,) = until(lambda: told("queue_back"), what="a word that it is back")
            for one in waiting:
                service.ended(one, "DELIVERED")
            service.stop("worker")
        log = (service.var / "worker.out").read_text()
    assert f"address={address}" in back
    assert "RabbitMQ" in line
    assert f"({address})" in line
    assert all(word not in log for word in ("_tick", "_sweep", "AMQP", "Error", "Traceback", str(password) + "@"))
    assert len(told("queue_unavailable")) <= 2  # a minute may have passed on a slow machine
