"""The exchanges and queues of ours on RabbitMQ.

Arguments of a queue cannot change in place, so names carry a version::

    mailbbgun.work.v1       direct ─ high, normal, bulk ─▸ mailbbgun.work.<lane>.v1
    mailbbgun.delay.<N>.v1  fanout ─▸ mailbbgun.delay.<N>.v1 ─ after N seconds, still under its
    lane's key ─▸ mailbbgun.work.v1

``initdb.py`` makes them once, and a worker only those that are missing: a quorum queue that is
killed in its first second can be lost, so nothing is declared at each start. The work exchange has
no alternate exchange: one would swallow what cannot be routed, and it would count as confirmed. A
time to live per message would wait behind the head of the queue, so each delay has a queue of its
own.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from mailbbgun.core.errors import QueueMisconfigured
from mailbbgun.queues.amqp import BrokerRefused, Channel, Hosts, at_once, missing
from mailbbgun.queues.lanes import LANES

WORK = "mailbbgun.work.v1"

# RabbitMQ 4 drops a hint after 20 deliveries unless told otherwise, but one that was prefetched by
# 20 workers that crashed is no verdict on its message. -1, "no limit" to 4.0, lets 3.10 drop a hint
# that comes back even once, so: a number that works everywhere and is never met.
_WORK_ARGUMENTS = {"x-queue-type": "quorum", "x-overflow": "reject-publish", "x-delivery-limit": 1_000_000}
_DELAY_ARGUMENTS = {
    "x-queue-type": "quorum",
    "x-overflow": "reject-publish",  # without it dead-lettering is silently at most once
    "x-dead-letter-exchange": WORK,
    "x-dead-letter-strategy": "at-least-once",
}

_OTHER_ARGUMENTS = "was declared with other arguments; delete it when it is empty, then run initdb.py"
_NOT_ALLOWED = "is missing, and our user may not make it: run initdb.py with a user in QUEUE_URL that may configure, write and read"


def work_queue(lane: str) -> str:
    """Return the name of a lane's queue."""
    return f"mailbbgun.work.{lane}.v1"


def delay_queue(seconds: int) -> str:
    """Return the name of a delay's queue, and of its exchange."""
    return f"mailbbgun.delay.{seconds}.v1"


class Topology:
    """Makes and looks for what there must be on one broker, for these delays in seconds.

    All may raise :class:`QueueUnavailable`.
    """

    def __init__(self, hosts: Hosts, delays: Sequence[int]) -> None:
        self._hosts = hosts
        self._exchanges = {WORK: "direct"} | {delay_queue(seconds): "fanout" for seconds in delays}
        self._queues = {work_queue(lane): (WORK, lane, _WORK_ARGUMENTS) for lane in LANES}
        self._queues |= {
            delay_queue(one): (delay_queue(one), "", _DELAY_ARGUMENTS | {"x-message-ttl": one * 1000}) for one in delays
        }

    def declare(self) -> None:
        """Make all of it; what is there stays.

        Raises :class:`QueueMisconfigured` for what is there with other arguments.
        """
        with _misconfigured({406: _OTHER_ARGUMENTS, 403: _NOT_ALLOWED}):
            at_once(self._hosts, partial(self._make, exchanges=self._exchanges, queues=self._queues))

    def check(self) -> None:
        """Look for each exchange and queue; bindings cannot be seen.

        Raises :class:`QueueMisconfigured` for the first that is missing.
        """
        with _misconfigured({404: "is missing; run initdb.py"}):
            at_once(self._hosts, self._look)

    def mend(self, *, unrouted: bool) -> list[str]:
        """Make what is missing and return its names; bind it, and, if something is known to be
        ``unrouted``, all the rest.

        Raises :class:`QueueMisconfigured` if our user may not.
        """
        exchanges = missing(self._hosts, {name: partial(_look_for_exchange, name=name) for name in self._exchanges})
        queues = missing(self._hosts, {name: partial(_look_for_queue, name=name) for name in self._queues})
        if exchanges or queues or unrouted:
            with _misconfigured({406: _OTHER_ARGUMENTS, 403: _NOT_ALLOWED}, gone=[*exchanges, *queues]):
                at_once(self._hosts, partial(self._make, exchanges=exchanges, queues=queues))
        return list(dict.fromkeys([*exchanges, *queues]))

    def _look(self, channel: Channel) -> None:
        for name in self._exchanges:
            _look_for_exchange(channel, name)
        for name in self._queues:
            _look_for_queue(channel, name)

    def _make(self, channel: Channel, exchanges: Collection[str], queues: Collection[str]) -> None:
        for name in exchanges:
            channel.exchange_declare(name, self._exchanges[name], durable=True)
        for name, (exchange, key, arguments) in self._queues.items():
            if name in queues:
                channel.queue_declare(name, durable=True, arguments=arguments)
            channel.queue_bind(name, exchange, key)  # what is bound stays so


def _look_for_exchange(channel: Channel, name: str) -> None:
    channel.exchange_declare(name, passive=True)


def _look_for_queue(channel: Channel, name: str) -> None:
    channel.queue_declare(name, passive=True)


@contextmanager
def _misconfigured(faults: dict[int, str], gone: Sequence[str] = ()) -> Iterator[None]:
    try:
        yield
    except BrokerRefused as error:
        if error.reply_code not in faults:
            raise
        # The broker's text names the culprit: "no queue 'x' in vhost 'y'", "inequivalent arg 'z'
        # for queue 'x' in vhost 'y'…".
        named = next((word for word in error.message.split("'") if word.startswith("mailbbgun.")), "the topology")
        name = gone[0] if gone and error.reply_code == 403 else named
        raise QueueMisconfigured(f"RabbitMQ: {name} {faults[error.reply_code]}") from error
