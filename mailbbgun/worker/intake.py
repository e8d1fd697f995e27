"""The intake: it takes hints, claims deliveries, and puts them into the send queue.

Mail of high priority has an intake of its own, so that it does not wait behind a claim of bulk mail.
"""

import threading
import time
from collections.abc import Collection, Sequence

from mailbbgun.core.clock import LONGEST, LONGEST_URGENT, rest_after
from mailbbgun.core.errors import DatabaseUnavailable, QueueUnavailable, Unavailable
from mailbbgun.core.faults import fault
from mailbbgun.deliver.claim import put_early_back
from mailbbgun.deliver.context import WorkerContext
from mailbbgun.deliver.deliver import give_back, move, next_candidate, take
from mailbbgun.deliver.transaction import Transaction
from mailbbgun.queues.base import Consumer, Hint
from mailbbgun.queues.lanes import HIGH, LANES
from mailbbgun.routing.routes import SMARTHOST, SOON_SECONDS
from mailbbgun.routing.send_queue import AWAY_SECONDS, ROOM_PER_CONNECTION, SendQueue
from mailbbgun.services import Services
from mailbbgun.sweep.mend import Mender

#: Hints in one claim, at most.
CLAIM_BATCH = 200

#: Seconds. If an account's limits, such as a limit a day, let a transaction leave only later than
#: this, it does not wait in the send queue.
LIMIT_TOO_FAR_SECONDS = 60.0

#: Seconds, at least, until such a transaction is tried again if no other account takes it.
LIMIT_REACHED_SECONDS = 15.0

#: What its timeline shows then.
LIMITS_USED_UP = "the account's limits are used up for now"

#: If a transaction from a lane cannot leave, hints of that lane are taken sparingly for a while:
#: how many hints in one claim, how many seconds between two claims, and for how many seconds.
SPARING_BATCH, SPARING_REST, SPARING_SECONDS = 8, 0.04, 1.0

#: Seconds to wait for room, or for hints, at most.
WAIT = 0.5

#: Seconds to wait after the first, second, third … failure in a row.
BACK_OFF = (0.5, 1.0, 2.0, 5.0)


class _OnlyRouteClosed(Unavailable):
    """All mail leaves through one server, and that server takes none now."""

    kind = "mail_server"


class Intake:
    """Claims deliveries of some lanes until ``stop`` is set. :meth:`run` is the job of one thread.

    ``hints_lost`` is set when a sweep has found lost hints.
    """

    def __init__(
        self,
        services: Services,
        context: WorkerContext,
        send_queue: SendQueue[Transaction],
        mender: Mender,
        stop: threading.Event,
        lanes: Collection[str] = LANES,
    ) -> None:
        self._services, self._context, self._send_queue = services, context, send_queue
        self._mender, self._stop = mender, stop
        self.hints_lost = threading.Event()
        self._lanes = tuple(lanes)
        self._urgent = self._lanes == (HIGH,)
        self.sparing: dict[str, float] = {}  # lane → until when its hints are taken sparingly; monotonic seconds
        self._their_turn = 0.0  # when these lanes have their next turn; monotonic seconds

    def run(self) -> None:
        """Claim while the send queue has room.

        Rest while a server that the intake needs is away.
        """
        if self._urgent:
            self._services.db.let_thread_go_first()
        consumer: Consumer | None = None
        failures = 0
        while not self._stop.is_set():
            try:
                self._check()
                if not (room := self._wait_for_room()):
                    continue
                if self.hints_lost.is_set():
                    self.hints_lost.clear()
                    # RabbitMQ may drop the hints for this consumer: see SETTLE_SECONDS in
                    # topology.py.
                    if consumer is not None:
                        consumer.close()
                        consumer = None
                consumer = consumer or self._services.queue.consumer(self._room(), self._lanes)
                hints = self.hints(consumer, room)
                self._stop.wait(self._claim(consumer, hints, room))
                failures = 0
                self._worked(claimed=bool(hints))
            except (QueueUnavailable, DatabaseUnavailable, _OnlyRouteClosed) as error:
                # Closed, because a consumer keeps hints from other workers, or would nack them in a
                # loop.
                if consumer is not None:
                    consumer.close()
                    consumer = None
                self._failed(error)
                self._stop.wait(BACK_OFF[min(failures, len(BACK_OFF) - 1)])
                failures += 1
        if consumer is not None:
            consumer.close()

    def _room(self) -> int:
        return self._services.settings.WORKER_CONNECTIONS * ROOM_PER_CONNECTION

    def _wait_for_room(self) -> int:
        """Wait for room in the send queue, and return it. One intake also takes out what cannot leave soon."""
        room = self._send_queue.wait_for_room(WAIT, urgent=self._urgent)
        if not self._urgent:
            self._move_shut_out()
            self._put_off()
        return room

    def _check(self) -> None:
        """Raise an error if a claimed delivery could not be sent, or its result not be written."""
        if not self._context.results.healthy:
            raise DatabaseUnavailable("results cannot be written")
        routes = self._context.routes
        if routes.default_route_only and not routes.per_domain and self._context.breaker.paused_for(SMARTHOST) > 0:
            raise _OnlyRouteClosed("the mail server of SMTP_URL, the only way out, refuses us or does not answer")

    def _worked(self, *, claimed: bool) -> None:
        """Note that the servers are there that the intake needs.

        The intake reaches the broker more often than other tasks do, so it notes that for them.
        """
        outages = self._services.outages
        outages.worked("queue", "intake", "sweep", "publish", "start")
        outages.worked("mail_server", "intake")
        if claimed:
            outages.worked("database", "intake", "start")

    def _failed(self, error: Unavailable) -> None:
        self._services.outages.failed("intake", error)
        if isinstance(error, QueueUnavailable):
            self._mender.mend()

    def hints(self, consumer: Consumer, room: int) -> list[Hint]:
        """Take hints, for at most ``room`` transactions.

        A lane in :attr:`sparing` has its turn only now and then. No other lane waits for it.
        """
        now = time.monotonic()
        limit = min(room, CLAIM_BATCH)
        sparing = {lane for lane, until in self.sparing.items() if now < until}
        if not sparing:
            return consumer.take(limit, WAIT, self._lanes)
        if now >= self._their_turn and (hints := consumer.take(min(room, SPARING_BATCH), 0.0, sparing)):
            self._their_turn = now + SPARING_REST
            return hints
        others = [lane for lane in self._lanes if lane not in sparing]
        wait = self._their_turn - now
        return consumer.take(limit, wait if wait > 0 else SPARING_REST, others)

    def _claim(self, consumer: Consumer, taken: Sequence[Hint], room: int) -> float:
        """Claim the deliveries that hints name. Return how many seconds to rest."""
        if not taken:
            return 0.0
        started = time.monotonic()
        wanted = list(dict.fromkeys(hint.message_id for hint in taken))
        transactions = take(self._context, wanted)
        for lane in self._enqueue(transactions):
            self.sparing[lane] = started + SPARING_SECONDS
        claimed = {transaction.message_id for transaction in transactions}
        if missing := [message_id for message_id in wanted if message_id not in claimed]:
            with self._services.db.statements() as statements:  # before their hints are acked
                put_early_back(statements, missing)
        consumer.settle(taken)
        fault("claim.acked")
        # Sparing lanes rest between their turns already.
        spared = all(started < self.sparing.get(hint.lane, 0.0) for hint in taken)
        if spared or len(taken) == min(room, CLAIM_BATCH):
            return 0.0
        return rest_after(time.monotonic() - started, longest=LONGEST_URGENT if self._urgent else LONGEST)

    def _enqueue(self, transactions: Sequence[Transaction]) -> set[str]:
        """Put transactions into the send queue, or give them back.

        Return the lanes of those that cannot leave now.
        """
        kept, held_back = [], set()
        for transaction in transactions:
            if self._context.breaker.paused_for(transaction.route) > 0:
                held_back.add(transaction.lane)
            if self._send_queue.takes(transaction.route):
                kept.append(transaction)
            else:
                held_back.add(transaction.lane)
                self._come_back_later(transaction)
        for transaction in self._send_queue.add(kept):
            held_back.add(transaction.lane)
            whose = str(transaction.tenant_id)  # one pace for all: it may have a hundred routes
            give_back(self._context, transaction, self._context.come_back_times.due_in(whose, AWAY_SECONDS))
        return held_back

    def _move_shut_out(self) -> None:
        """Move transactions whose account's limits are reached for long.

        They go through another account, or come back later.
        """
        for transaction in self._send_queue.take_out_shut(SOON_SECONDS, LIMIT_TOO_FAR_SECONDS):
            if route := next_candidate(self._context, transaction):
                self._send_queue.add(move(self._context, transaction, route))
            else:
                self._come_back_later(transaction, LIMIT_REACHED_SECONDS, LIMITS_USED_UP)

    def _put_off(self) -> None:
        """Give back transactions of slow routes, if they fill the send queue."""
        for transaction in self._send_queue.cut():
            self._come_back_later(transaction)

    def _come_back_later(self, transaction: Transaction, least: float = AWAY_SECONDS, why: str | None = None) -> None:
        give_back(self._context, transaction, self._context.come_back_times.due_in(transaction.route, least), why)
