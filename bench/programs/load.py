"""POSTs messages over keep-alive connections as fast as the API answers.

Run as ``python -m bench.programs.load PORT FIRST COUNT CONNECTIONS [SHAPE]``. It uses one thread,
epoll and prebuilt requests, so that it leaves the CPU to the API. It prints the number of answers
from time to time, and one line of JSON at the end.
"""

import json
import os
import re
import resource
import select
import socket
import sys
import time

from bench.programs.shapes import MARK, SHORT, requests

KEY = "BENCH_API_KEY"  # environment variable with the API key to send
SILENCE = 30.0  # seconds without any answer until it gives up
TELL = 100  # answers between two lines of progress

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class Connection:
    """One connection with at most one request in flight."""

    def __init__(self, port: int, wanted: bytes = b"201") -> None:
        """``wanted`` is the status of each answer."""
        self._status = b"HTTP/1.1 " + wanted
        self.socket = socket.create_connection(("127.0.0.1", port), SILENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._began = 0.0

    def ask(self, request: bytes) -> None:
        """Send a request."""
        self._began = time.perf_counter()
        self.socket.sendall(request)

    def hear(self) -> float | None:
        """Read what has arrived; return the response time in seconds once the answer is complete.

        Returns None before that. Ends the program if the status is not the wanted one.
        """
        data = self.socket.recv(65_536)
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n") if end else None
        if length and len(body) >= int(length[1]):
            took = time.perf_counter() - self._began
            if not head.startswith(self._status):
                sys.exit(f"the API answered {self._buffer[:500].decode(errors='replace')}")
            self._buffer = b""
            return took
        if not data:
            sys.exit(f"the API hung up after {self._buffer[:500]!r}")
        return None


def run(port: int, first: int, count: int, connections: int, shape: str = SHORT) -> dict[str, object]:
    """Post ``count`` messages of a shape.

    Returns when it began, the seconds it took, its own CPU seconds and the seconds of each answer.
    """
    templates = requests(shape, port, os.environ.get(KEY, ""))

    def request(number: int) -> bytes:
        return templates[number % len(templates)].replace(MARK, b"%08d" % number)

    epoll, lines = select.epoll(), {}
    for _ in range(min(connections, count)):
        one = Connection(port)
        lines[one.socket.fileno()] = one
        epoll.register(one.socket, select.EPOLLIN)
    numbers = iter(range(first, first + count))
    answers: list[float] = []
    began = time.perf_counter()
    for line in lines.values():
        line.ask(request(next(numbers)))
    while len(answers) < count:
        ready = epoll.poll(SILENCE)
        if not ready:
            sys.exit(f"the API answered {len(answers)} of {count} and then nothing for {SILENCE:.0f} s")
        for descriptor, _ in ready:
            if (took := lines[descriptor].hear()) is None:
                continue
            answers.append(took)
            if (number := next(numbers, None)) is not None:
                lines[descriptor].ask(request(number))
            if len(answers) % TELL == 0:
                print(len(answers), flush=True)
    seconds = time.perf_counter() - began
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"began": began, "seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime, "answers": answers}


if __name__ == "__main__":
    _port, _first, _count, _connections = map(int, sys.argv[1:5])
    print(json.dumps(run(_port, _first, _count, _connections, *sys.argv[5:])))
