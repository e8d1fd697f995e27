"""Senders: each takes a transaction from the send queue, delivers it, and takes the next."""

import threading

from mailbbgun.core.errors import DatabaseUnavailable
from mailbbgun.deliver.context import WorkerContext
from mailbbgun.deliver.deliver import deliver, give_back, move
from mailbbgun.deliver.transaction import Transaction
from mailbbgun.routing.send_queue import SendQueue

#: Seconds to wait for a transaction before checking again whether to stop.
_LOOK_SECONDS = 0.5

#: Seconds until a delivery is tried again that could not be read from the database.
_UNREAD_SECONDS = 1.0


class Senders:
    """Delivers what is in the send queue until ``stop`` is set.

    :meth:`run` is the job of each of several threads.
    """

    def __init__(self, context: WorkerContext, send_queue: SendQueue[Transaction], stop: threading.Event) -> None:
        self._context, self._send_queue, self._stop = context, send_queue, stop

    def run(self) -> None:
        """Take transactions and deliver them."""
        while not self._stop.is_set():
            if (transaction := self._send_queue.next(_LOOK_SECONDS)) is not None:
                self._send(transaction)

    def _send(self, transaction: Transaction) -> None:
        route = None
        try:
            route = deliver(self._context, transaction)
        except DatabaseUnavailable:  # raised before anything was sent
            give_back(self._context, transaction, _UNREAD_SECONDS)
        finally:
            self._send_queue.done(transaction)
        if route:
            for moved in move(self._context, transaction, route):
                self._send_queue.add(moved)
