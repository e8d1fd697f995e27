"""POSTs batches of personal messages over keep-alive connections as fast as the API answers.

Run as ``python -m bench.programs.batches PORT FIRST COUNT CONNECTIONS``. Each message has the text of
``short``, with two values of its own. Like ``bench.programs.load`` it uses one thread and prebuilt
requests. It prints the number of messages from time to time, and one line of JSON at the end.
"""

import json
import resource
import select
import sys
import time
from collections.abc import Iterator

from bench.programs.load import SILENCE, Connection
from bench.programs.payload import DOMAIN, SENDER, SUBJECT, TEXT

EACH = 1000  # messages in a batch, at most


def requests(port: int, first: int, count: int) -> Iterator[tuple[int, bytes]]:
    """Yield complete HTTP requests, each with how many messages it has. No address is used twice."""
    for start in range(first, first + count, EACH):
        numbers = range(start, min(start + EACH, first + count))
        people = [
            {"to": f"u{number:08}@{DOMAIN}", "variables": {"name": f"Ann {number}", "order": number}}
            for number in numbers
        ]
        given = {
            "from": SENDER,
            "subject": f"{SUBJECT} {{{{ order }}}}",
            "text": f"Dear {{{{ name }}}},\n\n{TEXT}",
            "recipients": people,
        }
        body = json.dumps(given).encode()
        described = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        head = f"POST /messages/batch HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{described}"
        yield len(numbers), head.encode() + body


def run(port: int, first: int, count: int, connections: int) -> dict[str, object]:
    """Post ``count`` messages in batches.

    Returns the seconds it took, and its own CPU seconds without those to build the requests.
    """
    waiting = list(requests(port, first, count))
    waiting.reverse()
    before = _cpu()
    epoll, lines, sizes = select.epoll(), {}, {}
    began, answered = time.perf_counter(), 0
    for _ in range(min(connections, len(waiting))):
        one = Connection(port, b"202")
        descriptor = one.socket.fileno()
        lines[descriptor] = one
        epoll.register(descriptor, select.EPOLLIN)
        sizes[descriptor], request = waiting.pop()
        one.ask(request)
    while answered < count:
        ready = epoll.poll(SILENCE)
        if not ready:
            sys.exit(f"the API took {answered} of {count} and then answered nothing for {SILENCE:.0f} s")
        for descriptor, _ in ready:
            if lines[descriptor].hear() is None:
                continue
            answered += sizes[descriptor]
            print(answered, flush=True)
            if waiting:
                sizes[descriptor], request = waiting.pop()
                lines[descriptor].ask(request)
    return {"seconds": time.perf_counter() - began, "cpu": _cpu() - before}


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    print(json.dumps(run(*map(int, sys.argv[1:5]))))
