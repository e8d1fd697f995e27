"""Submits messages by SMTP over connections that stay open, as fast as the server answers.

Run as ``python -m bench.programs.submit PORT FIRST COUNT CONNECTIONS [SHAPE]``. It uses one thread,
epoll and prebuilt messages. Each connection says EHLO, logs in if there is a key, and then sends one
command after the other: it does not pipeline, like smtp-source and most libraries. It prints the
number of messages from time to time, and one line of JSON at the end.
"""

import base64
import json
import os
import resource
import select
import socket
import sys
import time
from collections.abc import Iterator

from bench.programs.load import KEY, SILENCE, TELL
from bench.programs.loop import HOSTNAME, message
from bench.programs.payload import SENDER
from bench.programs.shapes import MARK, SHORT, of


class Dialogue:
    """One connection. ``commands`` yields what to send, each with the code that its reply must have."""

    def __init__(self, port: int, commands: Iterator[tuple[bytes, bytes]]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), SILENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._commands, self._buffer, self._wanted = commands, b"", b"220"

    def hear(self) -> bool:
        """Read what has arrived, and send the next command. Return False when there is none.

        Ends the program if a reply is not the wanted one.
        """
        data = self.socket.recv(65_536)
        self._buffer += data
        if not data:
            sys.exit(f"the server hung up after {self._buffer[:500]!r}")
        last = self._buffer[:-2].rpartition(b"\r\n")[2]
        if not self._buffer.endswith(b"\r\n") or last[3:4] == b"-":
            return True
        if not last.startswith(self._wanted):
            sys.exit(f"the server answered {last[:500].decode(errors='replace')}")
        self._buffer = b""
        if (given := next(self._commands, None)) is None:
            return False
        command, self._wanted = given
        self.socket.sendall(command)
        return True


def run(port: int, first: int, count: int, connections: int, shape: str = SHORT) -> dict[str, object]:
    """Submit ``count`` messages of a shape; return when it began, seconds and its own CPU seconds."""
    numbers, taken = iter(range(first, first + count)), [0]
    shapes = of(shape)
    bodies = [message(one).replace(b"<bench@", b"<%s.bench@" % MARK) for one in shapes]

    def commands() -> Iterator[tuple[bytes, bytes]]:
        yield f"EHLO {HOSTNAME}\r\n".encode(), b"250"
        if key := os.environ.get(KEY, ""):
            yield b"AUTH PLAIN " + base64.b64encode(f"\0bench\0{key}".encode()) + b"\r\n", b"235"
        for number in numbers:
            digits, which = b"%08d" % number, number % len(shapes)
            yield f"MAIL FROM:<{SENDER}>\r\n".encode(), b"250"
            for address in shapes[which].addresses(digits.decode()):
                yield f"RCPT TO:<{address}>\r\n".encode(), b"250"
            yield b"DATA\r\n", b"354"
            # The messages have no line that begins with a dot.
            yield bodies[which].replace(MARK, digits) + b".\r\n", b"250"
            taken[0] += 1
            if taken[0] % TELL == 0:
                print(taken[0], flush=True)

    epoll, lines = select.epoll(), {}
    began = time.perf_counter()
    for _ in range(min(connections, count)):
        one = Dialogue(port, commands())
        lines[one.socket.fileno()] = one
        epoll.register(one.socket, select.EPOLLIN)
    while lines:
        ready = epoll.poll(SILENCE)
        if not ready:
            sys.exit(f"the server took {taken[0]} of {count} and then said nothing for {SILENCE:.0f} s")
        for descriptor, _ in ready:
            if not lines[descriptor].hear():
                lines.pop(descriptor).socket.close()
    seconds = time.perf_counter() - began
    if taken[0] != count:
        sys.exit(f"the server took {taken[0]} of {count}")
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"began": began, "seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime}


if __name__ == "__main__":
    _port, _first, _count, _connections = map(int, sys.argv[1:5])
    print(json.dumps(run(_port, _first, _count, _connections, *sys.argv[5:])))
