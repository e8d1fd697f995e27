"""Hands in a message now and then, and tells how long each took to arrive."""

import time

from bench import phases
from bench.processes.service import Service
from bench.processes.sink import Sink
from bench.programs import load
from bench.programs.payload import DOMAIN
from bench.programs.shapes import MARK, SHORT, requests

EVERY_SECONDS = 0.025  # between two messages


class Trickle:
    """Sends one message to the neighbour every :data:`EVERY_SECONDS`."""

    def __init__(self, service: Service, sink: Sink) -> None:
        self._service, self._sink, self._sent = service, sink, 0

    def send(self, count: int) -> list[float]:
        """Send so many messages and return the latency of each in seconds, once all have arrived."""
        numbers = range(self._sent, self._sent + count)
        self._sent += count
        asked = post(self._service, DOMAIN, numbers, EVERY_SECONDS)
        phases.wait_for(self._sink, self._sent, self._service, phases.LOOK_SECONDS)
        arrived = self._sink.arrivals()
        return [arrived[address] - moment for address, moment in asked.items()]


def post(service: Service, domain: str, numbers: range, every: float = 0.0) -> dict[str, float]:
    """POST a message to each of these recipients of a domain, one after the other, every so many seconds.

    Returns address → ``time.monotonic()`` when it was posted.
    """
    [request] = requests(SHORT, service.port)
    mine, other = f"{MARK.decode()}@{DOMAIN}".encode(), f"{MARK.decode()}@{domain}".encode()
    if len(mine) != len(other):
        raise ValueError(f"{domain} must be as long as {DOMAIN}: the request says how long it is")
    request, asked = request.replace(mine, other), {}
    line, began = load.Connection(service.port), time.monotonic()
    for turn, number in enumerate(numbers):
        time.sleep(max(0.0, began + turn * every - time.monotonic()))
        asked[f"u{number:08d}@{domain}"] = time.monotonic()
        line.ask(request.replace(MARK, b"%08d" % number))
        while line.hear() is None:
            pass
    line.socket.close()
    return asked
