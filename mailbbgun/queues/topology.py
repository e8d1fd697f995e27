"""Our exchanges and queues on RabbitMQ.

The arguments of a queue cannot be changed, so names carry a version::

    mailbbgun.work.v1       direct ─ high, normal, crowd, bulk ─▸ mailbbgun.work.<lane>.v1
    mailbbgun.delay.<N>.v1  fanout ─▸ mailbbgun.delay.<N>.v1 ─ after N seconds, with the lane as
                            routing key ─▸ mailbbgun.work.v1

``initdb.py`` makes them once, and a worker makes only missing ones: a quorum queue can be lost if
the broker is killed in the queue's first second, so nothing is declared at each start. The work
exchange has no alternate exchange, because RabbitMQ would confirm what cannot be routed. Each delay
has a queue of its own, because a message with a longer time to live would hold up those behind it.
"""

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from mailbbgun.core.errors import QueueMisconfigured
from mailbbgun.queues.amqp import GIVE_RIGHTS, BrokerRefused, Channel, Hosts, missing, run_blocking
from mailbbgun.queues.lanes import LANES

WORK = "mailbbgun.work.v1"

# RabbitMQ 4 drops a message after 20 deliveries unless told otherwise. But a hint may be prefetched
# by 20 workers that crash, which says nothing about its message. -1 means "no limit" up to 4.0, but
# 3.10 then drops a hint that comes back even once. So the limit is a number that is never reached.
WORK_ARGUMENTS = {"x-queue-type": "quorum", "x-overflow": "reject-publish", "x-delivery-limit": 1_000_000}
_DELAY_ARGUMENTS = {
    "x-queue-type": "quorum",
    "x-overflow": "reject-publish",  # without it dead-lettering is silently at most once
    "x-dead-letter-exchange": WORK,
    "x-dead-letter-strategy": "at-least-once",
}

#: Seconds between finding that a queue is missing and making it. Consumers of a deleted quorum queue
#: must hear of its end first. If there is a queue of that name again before their channel has, within
#: some ten milliseconds, RabbitMQ 3.10 moves them to the new one without a word and then drops what
#: it delivers to them, for it counts messages from one again.
SETTLE_SECONDS = 1.0

_OTHER_ARGUMENTS = "was declared with other arguments; delete it when it is empty, then run initdb.py"
_NOT_ALLOWED = (
    "is missing, and our user may not make it: run initdb.py with a user in QUEUE_URL "
    "that may configure, write and read"
)
_NO_RIGHTS = f"is there, but our user may not write and read it; {GIVE_RIGHTS}"
_NOT_CONFIGURABLE = f"is there, but our user may not configure it, so what it is like cannot be checked; {GIVE_RIGHTS}"
_MISSING = "is missing; run initdb.py"


def work_queue(lane: str) -> str:
    """Return the name of a lane's queue."""
    return f"mailbbgun.work.{lane}.v1"


def delay_queue(seconds: int) -> str:
    """Return the name of a delay's queue, which is also that of its exchange."""
    return f"mailbbgun.delay.{seconds}.v1"


class Topology:
    """Makes and checks the exchanges and queues of one broker. ``delays`` are seconds.

    Every method may raise :class:`QueueUnavailable`.
    """

    def __init__(self, hosts: Hosts, delays: Sequence[int]) -> None:
        self._hosts = hosts
        self._exchanges = {WORK: "direct"} | {delay_queue(seconds): "fanout" for seconds in delays}
        self._queues = {work_queue(lane): (WORK, lane, WORK_ARGUMENTS) for lane in LANES}
        self._queues |= {
            delay_queue(one): (delay_queue(one), "", _DELAY_ARGUMENTS | {"x-message-ttl": one * 1000}) for one in delays
        }

    def declare(self) -> None:
        """Make all exchanges, queues and bindings that are missing.

        Raises :class:`QueueMisconfigured` if one exists with other arguments, or our user lacks a
        right.
        """
        with _misconfigured({406: _OTHER_ARGUMENTS, 403: _NOT_CONFIGURABLE}):
            try:
                run_blocking(self._hosts, partial(self._make, exchanges=self._exchanges, queues=self._queues))
            except BrokerRefused as error:
                if error.reply_code == 403:
                    self._check(_NOT_ALLOWED)
                raise

    def check(self) -> None:
        """Check that each exchange and queue exists, and that our user may write and read them;
        bindings cannot be checked.

        Raises :class:`QueueMisconfigured` for the first that is missing or forbidden.
        """
        self._check(_MISSING)

    def _check(self, told_if_missing: str) -> None:
        with _misconfigured({404: told_if_missing, 403: _NO_RIGHTS}):
            run_blocking(self._hosts, self._look)

    def mend(self, *, unrouted: bool) -> list[str]:
        """Make what is missing, with its bindings; return the names.

        With ``unrouted``, which means that a message had no queue, make all bindings. Raises
        :class:`QueueMisconfigured` if our user may not make them.
        """
        with _misconfigured({403: _NO_RIGHTS}):
            exchanges = missing(self._hosts, {name: partial(_look_for_exchange, name=name) for name in self._exchanges})
            queues = missing(self._hosts, {name: partial(_look_for_queue, name=name) for name in self._queues})
        if queues:
            time.sleep(SETTLE_SECONDS)
        if exchanges or queues or unrouted:
            with _misconfigured({406: _OTHER_ARGUMENTS, 403: _NOT_ALLOWED}, gone=[*exchanges, *queues]):
                run_blocking(self._hosts, partial(self._make, exchanges=exchanges, queues=queues))
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
            channel.queue_bind(name, exchange, key)  # changes nothing if the binding exists


def _look_for_exchange(channel: Channel, name: str) -> None:
    """Find out whether it exists and our user may write and read it.

    To find an exchange takes no right. To remove a binding takes both, even one that does not
    exist, and that changes nothing. To publish a message would not do: under an alarm the broker
    does not answer.
    """
    channel.exchange_declare(name, passive=True)
    channel.exchange_unbind(name, name, "mailbbgun.none")


def _look_for_queue(channel: Channel, name: str) -> None:
    channel.queue_declare(name, passive=True)


@contextmanager
def _misconfigured(faults: dict[int, str], gone: Sequence[str] = ()) -> Iterator[None]:
    try:
        yield
    except BrokerRefused as error:
        if error.reply_code not in faults:
            raise
        # The broker's text names the queue: "no queue 'x' in vhost 'y'", "inequivalent arg 'z' for
        # queue 'x' in vhost 'y'…".
        named = next((word for word in error.message.split("'") if word.startswith("mailbbgun.")), "the topology")
        name = gone[0] if gone and error.reply_code == 403 else named
        raise QueueMisconfigured(f"RabbitMQ: {name} {faults[error.reply_code]}") from error
