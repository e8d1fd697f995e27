"""Measures the limit of this machine: prebuilt messages over connections that are never idle.

Run as ``python -m bench.programs.pipelined PORT COUNT CONNECTIONS``. It writes the end of one
message and the commands of the next together (RFC 2920 §3.1), so that a message costs one round
trip. It has one thread and epoll, no database, no queue and no MIME, and reads only the codes of
replies. Prints one line of JSON.
"""

import json
import re
import select
import socket
import sys
import time
from collections.abc import Iterator

from bench.programs.loop import HOSTNAME, cpu_seconds, message
from bench.programs.payload import SENDER, recipient

SILENCE = 30.0  # seconds without any reply until it gives up

_STUFFED = re.compile(rb"^\.", re.MULTILINE)
_REFUSED = re.compile(rb"^[45]", re.MULTILINE)


class Line:
    """A connection on which EHLO has been answered."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), SILENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.socket.makefile("rb") as replies:
            replies.readline()
            self.socket.sendall(f"EHLO {HOSTNAME}\r\n".encode())
            while replies.readline()[3:4] == b"-":
                pass
        self._due = 0  # reply lines not yet received
        self._said = b""

    def say(self, words: bytes, due: int) -> None:
        """Write commands that will be answered by ``due`` lines."""
        self._due, self._said = due, b""
        self.socket.sendall(words)

    def hear(self) -> bool:
        """Read what has arrived; return whether all replies are here.

        Ends the program on a refusal.
        """
        data = self.socket.recv(65_536)
        self._said += data
        self._due -= data.count(b"\n")
        if not data or (self._due <= 0 and _REFUSED.search(self._said)):
            sys.exit(f"the sink said {self._said[-500:]!r}" if data else "the sink hung up")
        return self._due <= 0


def run(port: int, count: int, connections: int) -> dict[str, float]:
    """Send ``count`` messages and return seconds and CPU seconds."""
    content, numbers = _STUFFED.sub(b"..", message()) + b".\r\n", iter(range(count))
    epoll, lines = select.epoll(), {}
    for _ in range(min(connections, count)):
        line = Line(port)
        lines[line.socket.fileno()] = line
        epoll.register(line.socket, select.EPOLLIN)
    cpu, began = cpu_seconds(), time.perf_counter()
    for line, commands in zip(lines.values(), _commands(numbers), strict=False):
        line.say(commands, 3)
    busy = len(lines)
    last = set()
    while busy:
        ready = epoll.poll(SILENCE)
        if not ready:
            sys.exit(f"the sink said nothing for {SILENCE:.0f} s")
        for descriptor, _ in ready:
            if not lines[descriptor].hear():
                continue
            if descriptor in last:
                busy -= 1
            elif commands := next(_commands(numbers), b""):
                lines[descriptor].say(content + commands, 4)
            else:
                lines[descriptor].say(content, 1)
                last.add(descriptor)
    return {"seconds": time.perf_counter() - began, "cpu": cpu_seconds() - cpu}


def _commands(numbers: Iterator[int]) -> Iterator[bytes]:
    for number in numbers:
        yield f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{recipient(number)}>\r\nDATA\r\n".encode()


if __name__ == "__main__":
    print(json.dumps(run(*map(int, sys.argv[1:4]))))
