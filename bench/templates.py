"""Measures the latency of requests beside templates of people who mean harm: ``python -m bench.templates``.

Another process renders every attack of ``tests/templates/attacks.py`` that can be saved, with every set of
variables, by several clients at once. Meanwhile this process times ``GET /health`` and ``POST /messages``.
"""

import argparse
import http.client
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from bench import ROOT
from bench.processes.service import Service
from bench.slow_clients import measured_requests, p99
from tests.templates.attacks import ATTACKS, VARIABLES

#: Seconds that an answer to an attack may take.
PATIENCE = 60.0


def main() -> None:
    """Measure, or attack for the process that measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=2, help="attacking clients")
    parser.add_argument("--attack", type=int, metavar="PORT", help="attack the API at this port until stdin ends")
    given = parser.parse_args()
    if given.attack:
        attack(given.attack, given.clients)
    else:
        measure(given.clients)


def measure(clients: int) -> None:
    """Print the 99th percentile of each request, alone and beside attacks."""
    with Service("templates", {}, {}) as service:
        service.open()
        measured_requests(service.port)  # to warm up
        idle = measured_requests(service.port)
        with _attacked(service.port, clients) as told:
            beside = measured_requests(service.port)
        service.shut()
    print(f"{'request':16}{'p99 ms':>9}{'beside attacks':>16}{'more':>8}")
    for request, seconds in beside.items():
        alone, attacked = p99(idle[request]), p99(seconds)
        print(f"{request:16}{alone:9.2f}{attacked:16.2f}{attacked - alone:8.2f}")
    print(f"{told['attacks']} attacks of {told['templates']} templates; the longest took {told['longest']:.0f} ms")


@contextmanager
def _attacked(port: int, clients: int) -> Iterator[dict[str, Any]]:
    """Let another process attack during the block. What this yields then says what it did."""
    told: dict[str, Any] = {}
    argv = [sys.executable, "-m", "bench.templates", "--attack", str(port), "--clients", str(clients)]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the templates are saved
        yield told
        said, _ = process.communicate()  # closes its stdin, which ends it
        told |= json.loads(said)


def attack(port: int, clients: int) -> None:
    """Save the attacks, say so, render them until stdin ends, and print what was done."""
    saved = [name for number, attack in enumerate(ATTACKS.values()) if _saved(port, name := f"a{number}", attack)]
    print("saved", flush=True)
    turns = itertools.cycle(itertools.product(saved, VARIABLES.values()))
    ended: list[bool] = []
    took: list[float] = []

    def render() -> None:
        while not ended:
            name, variables = next(turns)
            began = time.perf_counter()
            _ask(port, f"/templates/{name}/render", {"variables": variables})
            took.append(time.perf_counter() - began)

    with ThreadPoolExecutor(clients) as pool:
        working = [pool.submit(render) for _ in range(clients)]
        sys.stdin.read()
        ended.append(True)
        for one in working:
            one.result()
    print(json.dumps({"templates": len(saved), "attacks": len(took), "longest": max(took, default=0.0) * 1000}))


def _saved(port: int, name: str, text: str) -> bool:
    return _ask(port, "/templates", {"name": name, "subject": "x", "text": text}) == 201


def _ask(port: int, path: str, body: dict[str, Any]) -> int:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    line.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = line.getresponse()
    answer.read()
    line.close()
    return answer.status


if __name__ == "__main__":
    main()
