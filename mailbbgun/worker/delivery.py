"""The delivery loop: one thread delivers all transactions of the send queue, each by a coroutine.

``LoopWatch`` notices a loop that hangs.
"""

import logging
import sys
import threading
import traceback
from math import inf
from time import monotonic

from mailbbgun.core.errors import DatabaseUnavailable
from mailbbgun.deliver.context import WorkerContext
from mailbbgun.deliver.deliver import deliver, give_back, move
from mailbbgun.deliver.transaction import Transaction
from mailbbgun.drivers.loop import Loop
from mailbbgun.routing.send_queue import SendQueue

#: Seconds, at most, of one turn in which nothing new can begin: ``LoopWatch`` must see turns.
_LOOK_SECONDS = 0.5

#: Seconds between two looks for connections that were idle too long.
_REAP_SECONDS = 5.0

#: Seconds until a delivery is due again whose message could not be read from the database.
_UNREAD_SECONDS = 1.0

log = logging.getLogger("mailbbgun.worker")


def turn(context: WorkerContext, loop: Loop, longest: float) -> None:
    """Wait for at most ``longest`` seconds, do one turn of the loop, and write its journal lines."""
    loop.turn(0.0 if context.journal_turns.waiting else longest)
    context.journal_turns.end()


class DeliveryLoop:
    """Delivers what is in the send queue until ``stop`` is set, and then finishes what it has begun.

    :meth:`run` is the job of one thread. At most ``connections`` transactions are under way.
    """

    def __init__(
        self,
        context: WorkerContext,
        send_queue: SendQueue[Transaction],
        loop: Loop,
        connections: int,
        stop: threading.Event,
    ) -> None:
        self._context, self._send_queue, self._loop, self._stop = context, send_queue, loop, stop
        #: Transactions under way, at most.
        self.connections = connections
        self._under_way = 0

    def run(self) -> None:
        """Deliver; whoever sets ``stop`` must wake the loop."""
        reap_at = monotonic() + _REAP_SECONDS
        while not self._stop.is_set():
            turn(self._context, self._loop, self._begin())
            if monotonic() >= reap_at:
                self._loop.start(self._context.routes.reap())
                reap_at = monotonic() + _REAP_SECONDS
        self._loop.start(self._context.routes.close())
        while len(self._loop):
            turn(self._context, self._loop, _LOOK_SECONDS)
        self._loop.turned = inf  # it has ended, and does not stand still

    def _begin(self) -> float:
        """Begin to deliver what may go; return for how many seconds the next turn may wait."""
        free = self.connections - self._under_way
        if free <= 0:
            return _LOOK_SECONDS
        for transaction in self._send_queue.take(free):
            self._under_way += 1
            self._loop.start(self._deliver(transaction))
        return self._send_queue.again_in()

    async def _deliver(self, transaction: Transaction) -> None:
        try:
            try:
                route = await deliver(self._context, transaction)
            finally:
                self._under_way -= 1
                self._send_queue.done(transaction)
            if route:
                self._send_queue.add(move(self._context, transaction, route))
        except DatabaseUnavailable:  # raised before anything was sent
            give_back(self._context, transaction, _UNREAD_SECONDS)
        except Exception:
            # Nobody knows how far it came. Once its lease has run out, the journal decides.
            log.exception("delivery_failed", extra=transaction.log_fields)
            self._context.leases.let_expire(transaction)


class LoopWatch:
    """Notices that a loop has been in one turn for ``seconds``.

    Ask it several times within these, from another thread.
    """

    def __init__(self, loop: Loop, seconds: float) -> None:
        self._loop, self._seconds = loop, seconds
        self._turned = 0.0  # the last turn that was seen

    def stands_still(self) -> bool:
        """Return whether the loop stands still; if so, log at which place of the program.

        Two looks must see the same turn: after the process was suspended, the first one sees an old
        turn, too.
        """
        before, self._turned = self._turned, self._loop.turned
        seconds = monotonic() - self._turned
        if before != self._turned or seconds < self._seconds:
            return False
        frame = sys._current_frames().get(self._loop.thread)
        place = "".join(traceback.format_stack(frame, limit=-5)) if frame else None
        log.critical("loop_stands_still", extra={"seconds": round(seconds), "at": place})
        return True
