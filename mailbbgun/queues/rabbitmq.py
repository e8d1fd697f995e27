"""Hints on RabbitMQ: quorum queues, publisher confirms, one connection to publish and one for each
consumer.

What exchanges and queues there are says ``topology.py``.

RabbitMQ, and we, take as long for an AMQP message of sixteen hints as for one of a single hint. So
hints travel in *bunches*: the body is 1 to :data:`BUNCH` message ids, in lower case, with a line
break between two. A bunch is acked when all its hints are settled; until then it comes again whole.
"""

import logging
import os
import re
import threading
import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from typing import Any
from uuid import UUID

from mailbbgun.core.errors import QueueMisconfigured, QueueUnavailable
from mailbbgun.core.logs import safe
from mailbbgun.queues.amqp import DEADLINE, Channel, Hosts, Link, address_of, at_once, hosts_of, persistent
from mailbbgun.queues.base import Consumer, Hint, Queue
from mailbbgun.queues.lanes import LANES, WeightedRoundRobin
from mailbbgun.queues.topology import WORK as WORK
from mailbbgun.queues.topology import Topology, delay_queue, work_queue

LONGEST_WAIT = 5.0  # seconds between two tries to connect
BUNCH = (
    16  # ids an AMQP message has at most; a consumer that knows fewer takes it for junk, and the sweep hints them again
)
FEWEST_FETCHED = 8  # bunches; in quiet times each holds a single id, and so many must do for a claim
LARGEST_PREFETCH = 2000  # RabbitMQ's own limit for quorum queues

_ID = b"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_BODY = re.compile(b"%b(?:\n%b){0,%d}" % (_ID, _ID, BUNCH - 1))

_REFUSED = "RabbitMQ refused a hint"

log = logging.getLogger(__name__)


def bodies_of(message_ids: Sequence[UUID]) -> list[bytes]:
    """Cut ids into bunches, in their order.

    More than half a bunch is cut in two: of a burst a second worker process shall have its share.
    """
    size = min(BUNCH, max(BUNCH // 2, (len(message_ids) + 1) // 2))
    ids = [str(one) for one in message_ids]
    return ["\n".join(ids[first : first + size]).encode() for first in range(0, len(ids), size)]


def ids_of(body: bytes) -> list[UUID]:
    """Return the ids of a bunch; none at all if any part of it is junk.

    What was lost with that is hinted again by the sweep.
    """
    return [UUID(one) for one in body.decode("ascii").split("\n")] if _BODY.fullmatch(body) else []


def fetched(prefetch: int) -> int:
    """Return how many bunches to fetch for so many hints.

    If all are full, which is when there is a backlog, they hold twice as many: more would let one
    process sit on a small backlog while others have nothing to do. If each holds one id, an eighth:
    they are settled as soon as they are claimed, and the next come.
    """
    return min(max(prefetch // 8, FEWEST_FETCHED), LARGEST_PREFETCH)


class RabbitMQ(Queue):
    """The queue of ``amqp://user:password@host1:port,host2,host3/vhost``: the hosts of one cluster,
    tried in turn.

    ``delays`` are seconds. Nothing connects before it is used; raises :class:`ConfigurationError`
    for a malformed URL.
    """

    def __init__(self, url: str, delays: Sequence[int]) -> None:
        self._hosts = hosts_of(url)
        self._delays = tuple(sorted(set(delays)))
        self._topology = Topology(self._hosts, self._delays)
        self._unrouted = False  # something was published since the last look for which there was no queue
        self._publishing: dict[int, _Publishing] = {}  # by process: a connection does not survive a fork

    @property
    def delays(self) -> Sequence[int]:
        """Each a queue of its own."""
        return self._delays

    def declare(self) -> None:
        """Make exchanges, queues and bindings.

        Once per installation: a quorum queue killed in its first second can be lost.
        """
        self._topology.declare()

    def check(self) -> None:
        """Look for every exchange and queue.

        Bindings and arguments cannot be seen this way; publishing notices them.
        """
        self._topology.check()

    def mend(self) -> Sequence[str]:
        """Make the exchanges and queues that are missing; bindings too, if something was, or if
        what was published had no queue.
        """
        unrouted, self._unrouted = self._unrouted, False
        try:
            return self._topology.mend(unrouted=unrouted)
        except (QueueUnavailable, QueueMisconfigured):
            self._unrouted = self._unrouted or unrouted
            raise

    def depth(self) -> dict[str, int]:
        """Return :data:`BUNCH` for each bunch that is ready, full or not:

        RabbitMQ counts messages, and does not look into them.
        """
        return at_once(self._hosts, self._depth)

    def _depth(self, channel: Channel) -> dict[str, int]:
        return {
            lane: BUNCH * channel.queue_declare(work_queue(lane), passive=True).method.message_count for lane in LANES
        }

    def publish(self, lane: str, message_ids: Sequence[UUID], delay: int = 0) -> None:
        """Publish persistent, mandatory and confirmed, the whole batch in flight at once."""
        if lane not in LANES:
            raise ValueError(f"there is no lane {lane!r}")
        if delay and delay not in self._delays:
            raise ValueError(f"there is no delay of {delay} s")
        if message_ids:
            try:
                self._of_this_process().publish(delay_queue(delay) if delay else WORK, lane, bodies_of(message_ids))
            except _Unrouted:
                self._unrouted = True
                raise

    def consumer(self, prefetch: int) -> Consumer:
        """Connect, and consume all lanes; waits up to 10 s for the broker.

        What is fetched is counted in bunches: :func:`fetched`.
        """
        consumer = _RabbitConsumer(self._hosts, fetched(prefetch))
        try:
            consumer.wait(DEADLINE)
        except QueueUnavailable:
            consumer.close()
            raise
        return consumer

    def close(self) -> None:
        """Close this process's publishing connection. Consumers close themselves."""
        publishing = self._publishing.pop(os.getpid(), None)
        if publishing:
            publishing.close()

    def _of_this_process(self) -> "_Publishing":
        pid = os.getpid()
        found = self._publishing.get(pid)
        return found or self._publishing.setdefault(pid, _Publishing(self._hosts))


class _Unrouted(QueueUnavailable):
    """What was published has no queue to go to."""


@dataclass(eq=False)
class _HintBatch:
    """What one call publishes.

    ``left`` counts what is not confirmed; ``unrouted``: some of it had no queue.
    """

    exchange: str
    lane: str
    bodies: list[bytes]
    left: int
    sent: float = field(default_factory=time.monotonic)
    refused: str = ""
    unrouted: bool = False


class _Publishing:
    """One process's publishing: its link, and when the next try to connect may be made."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._lock = threading.Lock()
        self._link: _Publisher | None = None
        self._failures = 0
        self._not_before = 0.0

    def publish(self, exchange: str, lane: str, bodies: list[bytes]) -> None:
        """Return when all are confirmed; raises :class:`QueueUnavailable` within 10 s."""
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
        """Close the link; publishing again makes a new one."""
        with self._lock:
            link, self._link = self._link, None
        if link:
            link.close()

    def _current(self) -> "_Publisher":
        with self._lock:
            if (
                self._link is None or self._link.error or self._link.spent
            ):  # an idle link may have died: that is no failure yet
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

    A nack or a return fails its own batch; anything else fails the link.

    After a nack it ends by itself, when all it has sent is answered: RabbitMQ 3.10 lets a channel
    that was opened while a queue had no leader refuse whatever is published on it for as long as
    the former leader is down, although there is a new one.
    """

    def __init__(self, hosts: Hosts, name: str) -> None:
        self.spent = False  # publish the next on another link
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
                raise _Unrouted(batch.refused) if batch.unrouted else QueueUnavailable(batch.refused)
            if not done and self._last_confirm < batch.sent:
                self.abort("RabbitMQ confirms nothing")
            if batch.left:
                self.raise_error()
                raise QueueUnavailable(
                    "RabbitMQ did not confirm in time"
                )  # a queue without a leader: others may be well

    def opened(self, connection: Any) -> None:
        """Open the one channel."""
        connection.add_on_connection_blocked_callback(lambda *_: self.abort("RabbitMQ is short of memory or disk"))
        connection.channel(on_open_callback=self._channel_opened)

    def _channel_opened(self, channel: Channel) -> None:
        self._channel = channel
        channel.add_on_close_callback(self.broke)
        channel.add_on_return_callback(self._returned)
        channel.confirm_delivery(self._confirmed, callback=lambda _: self.is_ready())

    def _send(self, batch: _HintBatch) -> None:
        if self.error:
            return  # the channel may be closed by now, and who waits for this has been told
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
            self._goodbye()

    def _returned(self, _channel: object, method: Any, _properties: object, body: bytes) -> None:
        # The confirm that follows a return says only that the broker is done with it.
        with self.guard:
            for batch in set(self._unconfirmed.values()):
                if batch.exchange == method.exchange and batch.lane == method.routing_key and body in batch.bodies:
                    batch.refused, batch.unrouted = f"RabbitMQ has no queue for {batch.exchange}; run initdb.py", True
            self.guard.notify_all()


@dataclass(frozen=True, slots=True)
class _Token:
    """``tag`` is the bunch's delivery tag, ``place`` the hint's among its ids."""

    owner: "_RabbitConsumer"
    tag: int
    place: int


class _RabbitConsumer(Link, Consumer):
    """A channel and a buffer for each lane. ``bunches`` are the most it holds of each."""

    def __init__(self, hosts: Hosts, bunches: int) -> None:
        self._bunches = bunches
        self._turns = WeightedRoundRobin()
        self._buffers: dict[str, deque[Hint]] = {lane: deque() for lane in LANES}
        self._channels: dict[str, Any] = {}
        self._waiting_for = set(LANES)
        # By ascending tag the places of a bunch that are not settled; the link's thread's.
        self._unsettled: dict[str, dict[int, set[int]]] = {lane: {} for lane in LANES}
        super().__init__(hosts, "rabbitmq-consumer")

    def take(self, limit: int, timeout: float, lanes: Collection[str] = LANES) -> list[Hint]:
        """Take from the buffers; the broker refills them."""
        taken: list[Hint] = []
        with self.guard:
            self.guard.wait_for(lambda: self.error or any(self._buffers[lane] for lane in lanes), timeout)
            self.raise_error()
            wanted = {lane: buffer if lane in lanes else () for lane, buffer in self._buffers.items()}
            while len(taken) < limit and (lane := self._turns.next(wanted)):
                taken.append(self._buffers[lane].popleft())
        return taken

    def settle(self, hints: Sequence[Hint]) -> None:
        """Hand the acks to the link's thread."""
        tokens: dict[str, list[_Token]] = {}
        for hint in hints:
            token = hint.token
            if isinstance(token, _Token) and token.owner is self:  # a tag means nothing to another connection
                tokens.setdefault(hint.lane, []).append(token)
        with self.guard:
            self.post(lambda: self._settle(tokens))

    def opened(self, connection: Any) -> None:
        """Open a channel for each lane."""
        for lane in LANES:
            connection.channel(on_open_callback=partial(self._channel_opened, lane))

    def _channel_opened(self, lane: str, channel: Channel) -> None:
        self._channels[lane] = channel
        channel.add_on_close_callback(self.broke)
        channel.add_on_cancel_callback(
            lambda _frame: self.abort(f"RabbitMQ cancelled the consumer of {work_queue(lane)}")
        )
        channel.basic_qos(prefetch_count=self._bunches, callback=lambda _: self._consume(lane, channel))

    def _consume(self, lane: str, channel: Channel) -> None:
        channel.basic_consume(
            work_queue(lane),
            lambda _channel, method, _properties, body: self._delivered(lane, method.delivery_tag, body),
            callback=lambda _frame: self._consuming(lane),
        )

    def _consuming(self, lane: str) -> None:
        self._waiting_for.discard(lane)
        if not self._waiting_for:
            self.is_ready()

    def _delivered(self, lane: str, tag: int, body: bytes) -> None:
        message_ids = ids_of(body)
        if not message_ids:
            log.warning("junk on the queue", extra={"lane": lane, "size": len(body), "body": safe(body[:64])})
            self._channels[lane].basic_ack(tag)
            return
        self._unsettled[lane][tag] = set(range(len(message_ids)))
        with self.guard:
            self._buffers[lane].extend(
                Hint(one, lane, _Token(self, tag, place)) for place, one in enumerate(message_ids)
            )
            self.guard.notify_all()

    def _settle(self, tokens: dict[str, list[_Token]]) -> None:
        """Ack the bunches none of whose hints is left: with one frame all up to the oldest still
        held, the rest one by one.
        """
        if self.error:
            return  # they come again
        for lane, settled in tokens.items():
            held, channel = self._unsettled[lane], self._channels[lane]
            done = []
            for token in settled:
                left = held.get(token.tag)
                if left is None:
                    continue  # settled before
                left.discard(token.place)
                if not left:
                    del held[token.tag]
                    done.append(token.tag)
            done.sort()
            oldest = next(iter(held), None)
            together = [tag for tag in done if oldest is None or tag < oldest]
            if together:
                channel.basic_ack(together[-1], multiple=True)
            for tag in done[len(together) :]:
                channel.basic_ack(tag)
