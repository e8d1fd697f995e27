"""The queue on RabbitMQ: quorum queues and publisher confirms."""

import os
from collections.abc import Collection, Sequence
from uuid import UUID

from mailbbgun.core.errors import QueueMisconfigured, QueueUnavailable
from mailbbgun.queues.amqp import DEADLINE, Channel, hosts_of, run_blocking
from mailbbgun.queues.base import Consumer, Queue
from mailbbgun.queues.bunches import BUNCH, bodies_of, fetched
from mailbbgun.queues.lanes import LANES
from mailbbgun.queues.rabbitmq_consumer import RabbitConsumer
from mailbbgun.queues.rabbitmq_publisher import Publishing, Unrouted
from mailbbgun.queues.topology import WORK, Topology, delay_queue, work_queue


class RabbitMQ(Queue):
    """The queue of ``amqp://user:password@host1:port,host2,host3/vhost``.

    The hosts are nodes of one cluster and are tried in turn; ``delays`` are seconds. A connection
    is made on first use. Raises :class:`ConfigurationError` if the URL is malformed.
    """

    def __init__(self, url: str, delays: Sequence[int]) -> None:
        self._hosts = hosts_of(url)
        self._delays = tuple(sorted(set(delays)))
        self._topology = Topology(self._hosts, self._delays)
        self._unrouted = False  # whether a hint had no queue since the last mend()
        self._publishing: dict[int, Publishing] = {}  # by process id: a connection does not survive a fork

    @property
    def delays(self) -> Sequence[int]:
        """Return the delays in seconds, ascending; each has a queue of its own."""
        return self._delays

    def declare(self) -> None:
        """Make exchanges, queues and bindings.

        Call it once for each installation: a quorum queue can be lost if the broker is killed in
        the queue's first second.
        """
        self._topology.declare()

    def check(self) -> None:
        """Check that every exchange and queue exists.

        Bindings and arguments cannot be checked this way; publishing notices them.
        """
        self._topology.check()

    def mend(self) -> Sequence[str]:
        """Make missing exchanges and queues; return their names.

        Bindings are made too if something was missing, or if a hint had no queue.
        """
        unrouted, self._unrouted = self._unrouted, False
        try:
            return self._topology.mend(unrouted=unrouted)
        except (QueueUnavailable, QueueMisconfigured):
            self._unrouted = self._unrouted or unrouted
            raise

    def depth(self) -> dict[str, int]:
        """Return :data:`BUNCH` for each ready bunch, full or not.

        RabbitMQ counts messages and does not look into them.
        """
        return run_blocking(self._hosts, self._depth)

    def _depth(self, channel: Channel) -> dict[str, int]:
        return {
            lane: BUNCH * channel.queue_declare(work_queue(lane), passive=True).method.message_count for lane in LANES
        }

    def publish(self, lane: str, message_ids: Sequence[UUID], delay: int = 0) -> None:
        """Publish persistent and mandatory messages, all at once, and wait for the confirms."""
        if lane not in LANES:
            raise ValueError(f"there is no lane {lane!r}")
        if delay and delay not in self._delays:
            raise ValueError(f"there is no delay of {delay} s")
        if message_ids:
            try:
                self._of_this_process().publish(delay_queue(delay) if delay else WORK, lane, bodies_of(message_ids))
            except Unrouted:
                self._unrouted = True
                raise

    def consumer(self, prefetch: int, lanes: Collection[str] = LANES) -> Consumer:
        """Connect and consume these lanes; wait up to 10 s for the broker.

        The prefetch of RabbitMQ counts bunches: see :func:`fetched`.
        """
        consumer = RabbitConsumer(self._hosts, fetched(prefetch), lanes)
        try:
            consumer.wait(DEADLINE)
        except QueueUnavailable:
            consumer.close()
            raise
        return consumer

    def close(self) -> None:
        """Close this process's publishing connection. Consumers are closed by their owners."""
        publishing = self._publishing.pop(os.getpid(), None)
        if publishing:
            publishing.close()

    def _of_this_process(self) -> Publishing:
        pid = os.getpid()
        found = self._publishing.get(pid)
        return found or self._publishing.setdefault(pid, Publishing(self._hosts))
