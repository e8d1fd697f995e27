"""One round: a service under load, the damage of a scenario, the end of all mail, the check."""

import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy.engine import make_url

from mailbbgun.services import build
from mailbbgun.settings.load import load as load_settings
from mailbbgun.settings.settings import Settings
from tests.chaos.check import Figures, check
from tests.chaos.load import Load
from tests.chaos.proxy import Proxy
from tests.flow.service import Service, until
from tests.servers import PostgreSQL, RabbitMQ
from tests.statistics.worlds import counted, recounted

EMBEDDED, REAL = "embedded", "real"
SETTINGS = {
    "LEASE_SECONDS": 4,
    "SWEEP_SECONDS": 1,
    "RETRY_DELAYS": ",".join(["1", "2", "2"] * 5),
    "REFUSED_PAUSE_SECONDS": 1,
}
#: Messages a second that the slowest machine sends.
SLOWEST = 100
END_SECONDS = 120.0  # from the last message accepted to the end of every delivery
# Seconds until the round ages all rows by a minute: the sweep finds lost hints only a minute after
# they were due.
PATIENCE = 12.0


class LeftOut(Exception):
    """The scenario cannot run on this machine."""


@dataclass
class Round:
    """What a scenario gets, and what it reports."""

    dice: random.Random
    settings: Settings
    postgresql: PostgreSQL
    rabbitmq: RabbitMQ
    messages: int = 0  # 0 means drawn by the dice
    figures: Figures | None = None
    description: str = ""  # what the dice chose, for the line that is printed

    @property
    def real(self) -> bool:
        """Whether it runs on PostgreSQL and RabbitMQ."""
        return self.settings.DATABASE_URL.startswith("postgresql")

    @contextmanager
    def service(self, **settings: object) -> Iterator[Service]:
        """Yield a service with short times.

        It is not started yet: its links may be changed before ``with``.
        """
        drawn = {
            "ON_UNKNOWN": self.dice.choice(["retry", "retry", "hold"]),
            "API_PROCESSES": self.dice.choice([1, 2] if self.real else [1]),
        }
        chosen = drawn | settings
        self.say(*(f"{name}={value}" for name, value in chosen.items()))
        yield Service(self.settings, **(SETTINGS | chosen))

    @contextmanager
    def under_load(self, service: Service | None = None, seconds: float = 4.0, **settings: object) -> Iterator[Service]:
        """Run a service that is sent mail for ``seconds`` during the block.

        At the end of the block everything that was stopped is started again, and all mail is
        checked.
        """
        with ExitStack() as stack:
            service = service or stack.enter_context(self.service(**settings))
            stack.enter_context(service)
            service.start_worker()
            mail = self.mail()
            load = Load(service, self.dice.choice([10, 1000, 20_000]))
            with load.sending(mail, self.dice.choice([2, 4, 8]), seconds):
                yield service
                self.in_order(service)
            self.end(service, load)

    def end(self, service: Service, load: Load) -> None:
        """Wait for the end of every delivery, and check the mail and the statistics."""
        self.settle(service)
        self.say(
            *(
                f"{count} {what}"
                for count, what in ((load.unavailable, "times 503"), (load.failures, "broken connections"))
                if count
            )
        )
        self.figures = check(service, load.accepted)
        services = build(load_settings(service.environment))
        try:  # the worker counts them, after what may have killed it in the middle of that
            until(
                lambda: counted(services.db) == recounted(services.db),
                END_SECONDS,
                "statistics that equal a recount of the log",
            )
        finally:
            services.close()

    def mail(self) -> list[list[str]]:
        """Draw recipients by what the sink does with their mail.

        It takes most at once, some later, some never. Of some it answers late or hangs up after the
        dot. Some messages have several recipients.
        """
        kinds = ["u-"] * 30 + ["later-1-", "later-2-", "never-", "lost-", "hesitate-0.2-"] + ["slow-"] * 4
        count = self.messages or self.dice.randint(100, 300)
        return [
            [
                f"{self.dice.choice(kinds)}{number}x{other}@example.test"
                for other in range(self.dice.choice([1] * 9 + [3]))
            ]
            for number in range(count)
        ]

    def in_order(self, service: Service) -> None:
        """Start servers and a worker that are down, and resume stopped processes.

        The API and the sink must still run.
        """
        if self.real:
            self.postgresql.start()
            if self.rabbitmq.ours:
                self.rabbitmq.resume()
            self.rabbitmq.start()
        for name, process in service.processes.items():
            process.send_signal(signal.SIGCONT)  # has no effect on a process that has ended
            # Scenarios replace the API and the sink if they kill them. If one ended by itself, that
            # is the finding, and without this assert all later failures would only be its echo.
            assert name not in ("api", "sink") or process.poll() is None, (
                f"{name} ended by itself: {process.returncode}"
            )
        if "worker" not in service.processes or service.processes["worker"].poll() is not None:
            service.start_worker()

    def settle(self, service: Service) -> None:
        """Wait for the end of every delivery.

        If that needs rows to be aged by a minute, some hints were lost, and the round says so. They are
        aged once nothing has ended for a while: not under the hands of workers who get on.
        """
        left, moved, aged = -1, time.monotonic(), False

        def ended() -> bool:
            nonlocal left, moved, aged
            # Not from the API, which may still answer 503 after its servers were disturbed.
            (pending,) = service.sql("SELECT count(*) FROM messages WHERE status = 'PENDING'")[0]
            if pending != left:
                left, moved = pending, time.monotonic()
            elif time.monotonic() - moved > PATIENCE:
                aged = True
                service.age(70)
            return bool(pending == 0)

        until(ended, END_SECONDS + (self.messages or 0) / SLOWEST, "the end of every delivery")
        self.say(*["by the sweep"] * aged)

    def pause(self, least: float = 0.1, most: float = 1.5) -> None:
        """Sleep for a time that the dice choose."""
        time.sleep(self.dice.uniform(least, most))

    def say(self, *words: object) -> None:
        """Add to what is printed of this round."""
        self.description = " ".join([self.description, *map(str, words)]).strip()

    @contextmanager
    def proxies(self, *links: str, seconds: float = 6.0, **settings: object) -> Iterator[tuple[Service, list[Proxy]]]:
        """Run a service under load, with a proxy on each link.

        At the end of the block they are healed.
        """
        with self.service(**settings) as service, ExitStack() as stack:
            proxies = [stack.enter_context(self.proxied(service, link)) for link in links]
            with self.under_load(service, seconds):
                yield service, proxies
                for proxy in proxies:
                    proxy.heal()

    @contextmanager
    def proxied(self, service: Service, link: str) -> Iterator[Proxy]:
        """Put a proxy on a link of a service that is not started yet.

        ``link`` is ``api-database``, ``worker-queue`` and the like, or ``smtp``.
        """
        side, _, server = link.partition("-")
        if link == "smtp":
            side, name, url = "worker", "SMTP_URL", make_url(service.environment["MAILBBGUN_SMTP_URL"])
        else:
            name = {"database": "DATABASE_URL", "queue": "QUEUE_URL"}[server]
            url = make_url(getattr(self.settings, name))
        assert url.port is not None
        with Proxy(url.port, random.Random(self.dice.random())) as proxy:
            service.only[side][name] = url.set(port=proxy.port).render_as_string(hide_password=False)
            yield proxy


@contextmanager
def settings_of(kind: str, var: Path, postgresql: PostgreSQL, rabbitmq: RabbitMQ) -> Iterator[Settings]:
    """Yield the settings of a configuration, with nothing in its database and queue yet."""
    settings = load_settings({"MAILBBGUN_VAR": str(var), "MAILBBGUN_HOSTNAME": "mail.example.com"})
    if kind == EMBEDDED:
        yield settings
        return
    database, vhost = postgresql.create_database(), rabbitmq.vhost()
    try:
        yield replace(settings, DATABASE_URL=postgresql.url(database), QUEUE_URL=rabbitmq.url(vhost))
    finally:
        rabbitmq.release(vhost)
        postgresql.start()
        postgresql.drop_database(database)
