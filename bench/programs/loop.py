"""The simplest senders: one connection, one prebuilt message after the other.

Run as ``python -m bench.programs.loop smtplib|client PORT COUNT CORE``. ``smtplib`` is the standard
library's client, ``client`` the one of ``mailbbgun/relays``. Prints one line of JSON.
"""

import json
import os
import resource
import smtplib
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from bench.programs.payload import SENDER, recipient
from bench.programs.shapes import SHAPES, Shape
from mailbbgun.composing.mime import Mailbox, compose
from mailbbgun.drivers import blocking
from mailbbgun.relays.client import SMTPConnection
from mailbbgun.smtp.endpoint import Endpoint, Timeouts
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Delivered
from mailbbgun.smtp.reply import Reply

HOSTNAME = "bench.example.test"
WARM = 20  # messages sent before the clock starts

Send = Callable[[str], None]


def by_smtplib(port: int, raw: bytes) -> tuple[Send, Callable[[], object]]:
    """Return a function that sends to an address with ``smtplib``, and one that quits."""
    server = smtplib.SMTP("127.0.0.1", port, HOSTNAME)

    def send(address: str) -> None:
        server.sendmail(SENDER, [address], raw)

    return send, server.quit


def by_client(port: int, raw: bytes) -> tuple[Send, Callable[[], object]]:
    """Return a function that sends to an address with our client, and one that quits."""
    endpoint = Endpoint("127.0.0.1", port, "none", addresses=("127.0.0.1",))
    connection = blocking.run(SMTPConnection.open(endpoint, HOSTNAME, Timeouts()))

    def send(address: str) -> None:
        outcome = blocking.run(connection.send(Envelope(SENDER, (address,), raw), _before_dot, _after_dot))[address]
        if not isinstance(outcome, Delivered):
            sys.exit(f"the sink said {outcome}")

    return send, lambda: blocking.run(connection.quit())


async def _before_dot(accepted: tuple[str, ...]) -> bool:
    return True


async def _after_dot(accepted: tuple[str, ...], reply: Reply | None) -> None:
    return None


LOOPS = {"smtplib": by_smtplib, "client": by_client}


def message(shape: Shape = SHAPES["short"]) -> bytes:
    """Return a message of a shape as MIME, composed by our own code."""
    to = [Mailbox("", address) for address in shape.addresses("00000000")]
    return compose(
        sender=Mailbox("", SENDER),
        to=to,
        subject=shape.subject,
        text=shape.text,
        html=shape.html or None,
        message_id_header=f"<bench@{HOSTNAME}>",
        date=datetime.now(UTC),
    )


def run(name: str, port: int, count: int) -> dict[str, float]:
    """Send ``count`` messages, after a few to warm up; return seconds and CPU seconds."""
    send, end = LOOPS[name](port, message())
    for number in range(WARM):
        send(recipient(number))
    cpu, began = cpu_seconds(), time.perf_counter()
    for number in range(count):
        send(recipient(number))
    figures = {"seconds": time.perf_counter() - began, "cpu": cpu_seconds() - cpu}
    end()
    return figures


def cpu_seconds() -> float:
    """Return the CPU seconds, user and system, that this process has used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[4])})
    print(json.dumps(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
