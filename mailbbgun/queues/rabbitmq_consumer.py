"""Consumes hints from RabbitMQ: one connection for each consumer, with a channel for each of its lanes."""

import logging
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mailbbgun.core.logs import safe
from mailbbgun.queues.amqp import Channel, Hosts, Link
from mailbbgun.queues.base import Consumer, Hint
from mailbbgun.queues.bunches import ids_of
from mailbbgun.queues.lanes import LANES, WeightedRoundRobin
from mailbbgun.queues.topology import work_queue

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Token:
    """A hint's bunch, by its delivery tag, and the hint's ``place`` in it."""

    owner: "RabbitConsumer"
    tag: int
    place: int


class RabbitConsumer(Link, Consumer):
    """A consumer with a channel and a buffer for each of its lanes; it holds ``bunches`` of each lane."""

    def __init__(self, hosts: Hosts, bunches: int, lanes: Collection[str] = LANES) -> None:
        self._bunches = bunches
        self._lanes = tuple(lanes)
        self._turns = WeightedRoundRobin()
        self._buffers: dict[str, deque[Hint]] = {lane: deque() for lane in LANES}
        self._channels: dict[str, Any] = {}
        self._waiting_for = set(self._lanes)
        # By lane and delivery tag, ascending: the places of a bunch that are not settled. Only the
        # link's thread uses it.
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
        """Pass the acks to the link's thread."""
        tokens: dict[str, list[_Token]] = {}
        for hint in hints:
            token = hint.token
            # A delivery tag means nothing on another connection.
            if isinstance(token, _Token) and token.owner is self:
                tokens.setdefault(hint.lane, []).append(token)
        with self.guard:
            self.post(lambda: self._settle(tokens))

    def on_opened(self, connection: Any) -> None:
        """Open a channel for each lane."""
        for lane in self._lanes:
            connection.channel(on_open_callback=partial(self._channel_opened, lane))

    def _channel_opened(self, lane: str, channel: Channel) -> None:
        self._channels[lane] = channel
        channel.add_on_close_callback(self.on_closed)
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
            self.set_ready()

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
        """Ack the bunches whose hints are all settled.

        One frame acks all bunches before the oldest that is still held; the rest are acked singly.
        """
        if self.error:
            return  # the connection is gone, and the hints come again
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
