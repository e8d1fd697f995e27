"""Publishes hints to RabbitMQ: one connection for each process, with publisher confirms."""

import threading
import time
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from mailbbgun.core.errors import QueueUnavailable
from mailbbgun.queues.amqp import DEADLINE, Channel, Hosts, Link, address_of, persistent

#: Seconds between two tries to connect, at most.
LONGEST_WAIT = 5.0

_REFUSED = "RabbitMQ refused a hint"


class Unrouted(QueueUnavailable):
    """What was published has no queue to go to."""


@dataclass(eq=False)
class _HintBatch:
    """The bunches that one call publishes.

    ``left`` counts bunches that are not confirmed; ``unrouted`` says that a bunch had no queue.
    """

    exchange: str
    lane: str
    bodies: list[bytes]
    left: int
    sent: float = field(default_factory=time.monotonic)
    refused: str = ""
    unrouted: bool = False


class Publishing:
    """The publishing of one process: its connection, and when to try again after a failure."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._lock = threading.Lock()
        self._link: _Publisher | None = None
        self._failures = 0
        self._not_before = 0.0

    def publish(self, exchange: str, lane: str, bodies: list[bytes]) -> None:
        """Return when all bodies are confirmed. Raises :class:`QueueUnavailable` within 10 s."""
        until = time.monotonic() + DEADLINE
        link = self._current()
        try:
            link.wait(until - time.monotonic())
            link.publish(_HintBatch(exchange, lane, bodies, len(bodies)), until)
        except QueueUnavailable:
            self._failed(link)
            raise
        self._failures = 0

    def close(self) -> None:
        """Close the connection; the next publish opens a new one."""
        with self._lock:
            link, self._link = self._link, None
        if link:
            link.close()

    def _current(self) -> "_Publisher":
        with self._lock:
            # An idle link may have died: that is no failure yet.
            if self._link is None or self._link.error or self._link.spent:
                wait = self._not_before - time.monotonic()
                if wait > 0:
                    raise QueueUnavailable(
                        "RabbitMQ did not answer; the next try is soon",
                        retry_after=max(1, round(wait)),
                        address=address_of(self._hosts),
                    )
                self._link = _Publisher(self._hosts, "rabbitmq-publisher")
            return self._link

    def _failed(self, link: "_Publisher") -> None:
        with self._lock:
            if link.error and self._link is link and not link.spent:
                self._link = None
                self._failures += 1
                self._not_before = time.monotonic() + min(0.05 * 2**self._failures, LONGEST_WAIT)


class _Publisher(Link):
    """Publishes with confirms.

    A nack or a return fails its own batch; anything else fails the link. After a nack the link ends
    by itself, once everything sent is answered. The reason is RabbitMQ 3.10: a channel that was
    opened while a queue had no leader refuses everything until the former leader is back, even if
    there is a new leader.
    """

    def __init__(self, hosts: Hosts, name: str) -> None:
        self.spent = False  # whether the next batch needs another link
        self._unconfirmed: dict[int, _HintBatch] = {}  # by delivery tag, ascending; belongs to the link's thread
        self._tag = 0
        self._last_confirm = 0.0
        super().__init__(hosts, name)

    def publish(self, batch: _HintBatch, until: float) -> None:
        """Publish and wait for every confirm. Raises :class:`QueueUnavailable`."""
        with self.guard:
            self.post(lambda: self._send(batch))
            done = self.guard.wait_for(lambda: not batch.left or batch.refused or self.error, until - time.monotonic())
            if batch.refused:
                raise Unrouted(batch.refused) if batch.unrouted else QueueUnavailable(batch.refused)
            if not done and self._last_confirm < batch.sent:
                self.abort("RabbitMQ confirms nothing")
            if batch.left:
                self.raise_error()
                # The queue may have no leader; other queues may work.
                raise QueueUnavailable("RabbitMQ did not confirm in time")

    def on_opened(self, connection: Any) -> None:
        """Open the channel."""
        connection.add_on_connection_blocked_callback(lambda *_: self.abort("RabbitMQ is short of memory or disk"))
        connection.channel(on_open_callback=self._channel_opened)

    def _channel_opened(self, channel: Channel) -> None:
        self._channel = channel
        channel.add_on_close_callback(self.on_closed)
        channel.add_on_return_callback(self._returned)
        channel.confirm_delivery(self._confirmed, callback=lambda _: self.set_ready())

    def _send(self, batch: _HintBatch) -> None:
        if self.error:
            return  # the channel may be closed, and the caller has got the error
        if self.spent:
            with self.guard:
                batch.refused = _REFUSED
                self.guard.notify_all()
            return
        for body in batch.bodies:
            self._tag += 1
            self._unconfirmed[self._tag] = batch
            self._channel.basic_publish(batch.exchange, batch.lane, body, persistent(), mandatory=True)

    def _confirmed(self, frame: Any) -> None:
        tag, multiple = frame.method.delivery_tag, frame.method.multiple
        tags = list(takewhile(lambda one: one <= tag, self._unconfirmed)) if multiple else [tag]
        nack = frame.method.NAME == "Basic.Nack"
        with self.guard:
            self._last_confirm = time.monotonic()
            for batch in [self._unconfirmed.pop(one) for one in tags]:
                batch.left -= 1
                if nack:
                    batch.refused = batch.refused or _REFUSED
                if not batch.left or nack:
                    self.guard.notify_all()
            self.spent = self.spent or nack
        if self.spent and not self._unconfirmed:
            self._close_connection()

    def _returned(self, _channel: object, method: Any, _properties: object, body: bytes) -> None:
        # A confirm follows each return, but says only that the broker is done with the message.
        with self.guard:
            for batch in set(self._unconfirmed.values()):
                if batch.exchange == method.exchange and batch.lane == method.routing_key and body in batch.bodies:
                    batch.refused, batch.unrouted = f"RabbitMQ has no queue for {batch.exchange}; run initdb.py", True
            self.guard.notify_all()
