"""Measures latency beside slow clients, and busy ones: ``bin/bench --slow-clients``.

It times ``GET /health`` and ``POST /messages``, idle and under attack. Another process opens many
sockets of one kind, on loopback only. Like an attacker, it opens a socket again when the server
closes it. This process sends one request after the other, each on a new connection.
"""

import http.client
import json
import resource
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from bench import ROOT, BenchError
from bench.processes.service import Service

SOCKETS, SILENT_SOCKETS = 500, 2100

#: Requests of each sort to measure, and the seconds after which no more are sent.
SAMPLES, MOST_SECONDS = 300, 60.0

#: How often, at most, the attacker opens each socket again.
_REOPENED = 20

_POST = b"POST /messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
_HEAD = _POST + b"Content-Length: 100000\r\n\r\n"
_CHUNKED = _POST + b"Transfer-Encoding: chunked\r\n\r\n"
_UPLOAD = (
    b"POST /attachments HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=X\r\n"
    b"Content-Length: 1000000\r\n\r\n"
)
KINDS: dict[str, tuple[bytes, int]] = {
    "half heads of GET": (b"GET /health HTTP/1.1\r\nX", SOCKETS),
    "half heads of DELETE": (b"DELETE /messages HTTP/1.1\r\nX", SOCKETS),
    "unread answers": (b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100, SOCKETS),
    "stalled bodies": (_HEAD + b"x" * 50_000, SOCKETS),
    "stalled uploads": (_UPLOAD + b"x" * 100_000, SOCKETS),
    "silent sockets": (b"", SILENT_SOCKETS),
    "bodies in tiny chunks": (_CHUNKED + b"1\r\n{\r\n" * 20_000, SOCKETS),
    "pipelined requests": (b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1500, SOCKETS),
}
ALL = "all of them"

_BODY = json.dumps({"to": "ann@example.test", "subject": "Hello", "text": "Hi"})


def run(settings: Mapping[str, str], on_progress: Callable[[str], None]) -> str:
    """Measure and return a table. ``on_progress`` is called with the name of each step.

    Raises :class:`BenchError`.
    """
    lines = [f"{'beside':24}{'sockets':>8}{'':3}{'request':16}{'p50 ms':>8}{'p99 ms':>9}{'p99 / idle':>12}"]
    with Service("slow-clients", settings, {}) as service:
        service.open()
        measured_requests(service.port)  # to warm up
        on_progress("idle")
        idle = measured_requests(service.port)
        lines += _rows("nobody", 0, idle, idle)
        for kind in (*KINDS, ALL):
            on_progress(kind)
            with _attacked(service.port, kind) as sockets:
                lines += _rows(kind, sockets, measured_requests(service.port), idle)
        service.shut()
    return "\n".join(lines)


def _rows(
    kind: str, sockets: int, measured: Mapping[str, list[float]], idle: Mapping[str, list[float]]
) -> Iterator[str]:
    for request, seconds in measured.items():
        middle, late, before = statistics.median(seconds) * 1000, p99(seconds), p99(idle[request])
        yield f"{kind:24}{sockets:8}{'':3}{request:16}{middle:8.2f}{late:9.2f}{late / before:12.2f}"


def p99(seconds: list[float]) -> float:
    """Return the 99th percentile in milliseconds."""
    return statistics.quantiles(seconds, n=100)[98] * 1000


def measured_requests(port: int) -> dict[str, list[float]]:
    """Return the seconds of each request, by method and path."""
    measured: dict[str, list[float]] = {"GET /health": [], "POST /messages": []}
    end = time.monotonic() + MOST_SECONDS
    for _ in range(SAMPLES):
        for request, seconds in measured.items():
            began = time.perf_counter()
            _ask(port, *request.split())
            seconds.append(time.perf_counter() - began)
        if time.monotonic() > end and len(measured["POST /messages"]) > 1:
            break
    return measured


def _ask(port: int, method: str, path: str) -> None:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=MOST_SECONDS)
    try:
        line.request(method, path, _BODY if method == "POST" else None, {"Content-Type": "application/json"})
        answer = line.getresponse()
        if answer.status not in (200, 201):
            raise BenchError(f"{method} {path}: {answer.status} {answer.read(500)!r}")
        answer.read()
    except OSError as error:
        raise BenchError(f"{method} {path}: {error!r}") from error
    finally:
        line.close()


@contextmanager
def _attacked(port: int, kind: str) -> Iterator[int]:
    """Let another process attack during the block; yield the number of its sockets."""
    argv = [sys.executable, "-m", "bench.slow_clients", str(port), kind]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline() or b"0")
        finally:
            process.terminate()


def attack(port: int, kind: str) -> None:
    """Open all sockets of a kind, print their number, and keep them open until stdin ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else max(soft, 8192), hard))
    chosen = list(KINDS.values()) if kind == ALL else [KINDS[kind]]
    epoll = select.epoll()
    lines: dict[int, tuple[socket.socket, bytes]] = {}
    for sent, count in chosen:
        for _ in range(count):
            _open(epoll, lines, port, sent)
    print(len(lines), flush=True)
    epoll.register(sys.stdin.fileno(), select.EPOLLIN)
    left = len(lines) * _REOPENED
    while True:
        for descriptor, _ in epoll.poll():
            if descriptor == sys.stdin.fileno():
                return
            line, sent = lines.pop(descriptor)
            line.close()
            if left:
                left -= 1
                _open(epoll, lines, port, sent)


def _open(epoll: select.epoll, lines: dict[int, tuple[socket.socket, bytes]], port: int, sent: bytes) -> None:
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.connect(("127.0.0.1", port))
    line.setblocking(False)
    with suppress(OSError):  # the server closed it already, which epoll will report
        line.send(sent)
    lines[line.fileno()] = line, sent
    # It never reads answers, so it asks epoll only for closed connections.
    epoll.register(line.fileno(), select.EPOLLRDHUP)


if __name__ == "__main__":
    attack(int(sys.argv[1]), sys.argv[2])
