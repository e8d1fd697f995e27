"""Several things at once."""

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from tests.chaos.load import Load
from tests.chaos.proxy import Proxy
from tests.chaos.round import EMBEDDED, REAL, Round
from tests.chaos.scenarios.links import LINKS
from tests.chaos.scenarios.servers import RIPE
from tests.chaos.scenarios.table import scenario
from tests.flow.service import Service

Blow = Callable[[Round, Service, Sequence[Proxy]], None]
DEATHS = 3  # of workers: a message is parked after five


def _worker_dies(_round: Round, service: Service, _proxies: Sequence[Proxy]) -> None:
    service.kill("worker")
    service.start_worker()


def _api_dies(_round: Round, service: Service, _proxies: Sequence[Proxy]) -> None:
    service.kill("api")
    service.start_api()


def _worker_stands_still(round_: Round, service: Service, _proxies: Sequence[Proxy]) -> None:
    service.processes["second"].send_signal(signal.SIGSTOP)
    round_.pause(1, 7)
    service.processes["second"].send_signal(signal.SIGCONT)


def _receiver_dies(_round: Round, service: Service, _proxies: Sequence[Proxy]) -> None:
    service.kill("sink")
    service.start_sink()


def _links_are_cut(_round: Round, _service: Service, proxies: Sequence[Proxy]) -> None:
    for proxy in proxies:
        proxy.cut()


def _a_link_falls_silent(round_: Round, _service: Service, proxies: Sequence[Proxy]) -> None:
    proxy = round_.dice.choice(proxies)
    proxy.black_hole()
    round_.pause(1, 6)
    proxy.heal()


def _replies_are_cut(round_: Round, _service: Service, proxies: Sequence[Proxy]) -> None:
    for proxy in proxies:
        proxy.cut_replies_to(round_.dice.choice([b"COMMIT", b"\r\n.\r\n"]), 2)


def _database_dies(round_: Round, _service: Service, _proxies: Sequence[Proxy]) -> None:
    round_.postgresql.kill9()
    round_.postgresql.start()


def _broker_dies(round_: Round, _service: Service, _proxies: Sequence[Proxy]) -> None:
    round_.rabbitmq.kill9()
    round_.rabbitmq.start()


OURS: list[Blow] = [
    _worker_dies,
    _api_dies,
    _worker_stands_still,
    _receiver_dies,
    _links_are_cut,
    _a_link_falls_silent,
    _replies_are_cut,
]


@scenario(EMBEDDED, REAL)
def storm(round_: Round) -> None:
    """Processes, servers and links struck one after the other, with two workers."""
    blows = OURS + ([_database_dies, _broker_dies] if round_.real else [])
    deaths = 0
    with round_.proxies(*(LINKS if round_.real else ("smtp",)), seconds=12) as (service, proxies):
        service.start_worker("second")
        time.sleep(RIPE)
        for _ in range(round_.dice.randint(3, 7)):
            blow = round_.dice.choice(blows)
            deaths += blow is _worker_dies
            if deaths > DEATHS:
                break
            round_.say(blow.__name__.strip("_").replace("_", "-"))
            blow(round_, service, proxies)
            round_.pause(0.1, 1)


@scenario(EMBEDDED, REAL)
def same_keys(round_: Round) -> None:
    """Three clients send the same under the same Idempotency-Keys while the API is killed: one message for each key."""
    with round_.service() as service, service, ExitStack() as clients:
        service.start_worker()
        mail, loads = round_.mail(), [Load(service) for _ in range(3)]
        with clients:
            for load in loads:
                clients.enter_context(load.sending(mail, 4, seconds=4.0))
            for _ in range(round_.dice.randint(0, 3)):
                round_.pause(0.2, 1)
                service.kill("api")
                service.start_api()
        assert loads[0].accepted == loads[1].accepted == loads[2].accepted
        round_.end(service, loads[0])
