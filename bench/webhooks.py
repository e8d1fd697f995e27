"""How old an event is when a webhook gets it: at idle, and beside endpoints of another tenant that do not answer.

``python -m bench.webhooks``. It sends one message after the other; each has two events. Then the same again, while
another tenant has endpoints that take every request and never answer, one that refuses connections, and mail of its
own whose events go to them. At last it counts the rows and bytes that the dead endpoints cost.
"""

import argparse
import time
from collections.abc import Callable

import requests
from sqlalchemy import text

from bench.processes.receiver import Receiver
from bench.processes.servers import Servers
from bench.processes.service import Service
from bench.processes.sink import Sink
from bench.stats import percentile
from tests.servers.process import free_port

SECONDS = 60.0  # until an event that does not come is missing
DEAD = 4  # endpoints that do not answer
BATCH = 1000
TABLES = ("webhook_endpoints", "webhook_retries", "webhook_attempts", "webhook_replays")


def main() -> None:
    """Measure on PostgreSQL and RabbitMQ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=300, help="messages sent one by one, each time")
    parser.add_argument("--others", type=int, default=50_000, help="messages of the other tenant, two events each")
    given = parser.parse_args()
    with Servers() as servers, servers.lend() as lent, Sink("asyncio") as sink, Receiver(times=True) as receiver:
        settings = sink.settings() | {"DATABASE_URL": lent.database_url, "QUEUE_URL": lent.amqp_url}
        settings |= {"ALLOW_PRIVATE_HOSTS": "127.0.0.0/8"}
        with Service("webhooks", settings, servers.pids()) as service:
            service.watch([receiver.url("ours")])
            service.open()
            service.deliver()
            _sent(service, receiver, 20)
            print(f"at idle:                   {_sent(service, receiver, given.messages)}", flush=True)
            key = _other(service, receiver)
            began, before = time.monotonic(), _rows(service)
            for _ in range(0, given.others, BATCH):
                people = [{"to": f"o{number}@example.test"} for number in range(BATCH)]
                _post(service, "/messages/batch", {"subject": "n", "text": "x", "recipients": people}, key)
            print(f"beside the other's mail:   {_sent(service, receiver, given.messages)}", flush=True)
            _until(lambda: _count(service, "messages WHERE status = 'PENDING'") == 0, 600.0, 0.2)
            print(f"its {given.others:,} messages left within {time.monotonic() - began:.0f} s", flush=True)
            print(f"beside its dead endpoints: {_sent(service, receiver, given.messages)}", flush=True)
            print(f"rows of webhooks: {before} before, {_rows(service)} after", flush=True)
            service.shut()
            service.stop("worker")


def _sent(service: Service, receiver: Receiver, messages: int) -> str:
    """Send messages one by one; return how old their events were."""
    first = len(receiver.ages("ours"))
    for number in range(messages):
        _post(service, "/messages", {"to": f"u{number}@example.test", "subject": "n", "text": "x"})
        _until(lambda number=number: len(receiver.ages("ours")) >= first + 2 * (number + 1), SECONDS)  # type: ignore[misc]
    ages = sorted(receiver.ages("ours")[first:])
    shown = ", ".join(f"p{share} {percentile(ages, share) * 1000:.0f} ms" for share in (50, 99))
    return f"{shown} ({len(ages)} events)"


def _other(service: Service, receiver: Receiver) -> str:
    """Make another tenant with dead endpoints; return its key."""
    tenant = _post(service, "/tenants", {"name": "other"})["id"]
    scopes = ["messages:write", "messages:read", "webhooks"]
    key = str(_post(service, f"/tenants/{tenant}/keys", {"name": "k", "scopes": scopes})["key"])
    for url in [*(receiver.url(f"never{number}") for number in range(DEAD)), f"http://127.0.0.1:{free_port()}/"]:
        _post(service, "/webhooks", {"url": url}, key)
    return key


def _post(service: Service, path: str, body: dict[str, object], key: str = "") -> dict[str, str]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    answer = requests.post(f"http://127.0.0.1:{service.port}{path}", json=body, headers=headers, timeout=SECONDS)
    answer.raise_for_status()
    found: dict[str, str] = answer.json()
    return found


def _rows(service: Service) -> dict[str, int]:
    """Return the number of rows of each table of webhooks, and of events."""
    return {one: _count(service, one) for one in (*TABLES, "events")}


def _count(service: Service, which: str) -> int:
    services = service.services()
    try:
        with services.db.read() as session:
            return session.scalar(text(f"SELECT count(*) FROM {which}")) or 0
    finally:
        services.close()


def _until(done: Callable[[], bool], seconds: float, look: float = 0.002) -> None:
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise SystemExit("it did not come")
        time.sleep(look)


if __name__ == "__main__":
    main()
