"""The threads that send webhooks: they are made when they are needed."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from mailbbgun.outgoing.http import HTTPClient
from mailbbgun.webhooks.sending import SentRequest, WebhookTarget, send
from mailbbgun.webhooks.serving.served import Served
from mailbbgun.webhooks.serving.track import Item
from mailbbgun.webhooks.verdict import WebhookVerdict, verdict

#: Most requests at once of one process, and of these to endpoints that are slow or not known yet.
MOST, MOST_SLOW = 96, 72
#: Seconds after which a thread hands back events that it has not begun to send.
ONE_TURN = 0.5

log = logging.getLogger("mailbbgun.webhooks")


class Work(NamedTuple):
    """Events for an endpoint, to be sent one after the other."""

    served: Served
    to: WebhookTarget
    items: Sequence[Item]


class SendResult(NamedTuple):
    """What became of :class:`Work`."""

    served: Served
    to: WebhookTarget
    tried: Sequence[tuple[Item, SentRequest]]
    left: Sequence[Item]  # not begun: one before them was not acknowledged, or they took long


class Senders:
    """A pool of threads. ``results`` is called by them, and must be safe to call from any thread."""

    def __init__(self, client: HTTPClient, results: Callable[[SendResult], None]) -> None:
        self._client, self._results = client, results
        self._work: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._threads = 0
        self.busy = 0  # the thread that gives work counts it

    def give(self, work: Work) -> None:
        """Let a thread send these. Call it from one thread only, with ``busy`` below :data:`MOST`."""
        self.busy += 1
        self._work.put(work)
        if self.busy > self._threads:
            name = f"webhook-{self._threads + 1}"
            threading.Thread(target=self._run, name=name, daemon=True).start()  # may fail; then others take the work
            self._threads += 1

    def _run(self) -> None:
        while True:
            self._results(self._sent(self._work.get()))

    def _sent(self, work: Work) -> SendResult:
        tried: list[tuple[Item, SentRequest]] = []
        end = time.monotonic() + ONE_TURN
        for item in work.items:
            result = self._tried(work.to, item)
            tried.append((item, result))
            if verdict(result) is not WebhookVerdict.DONE or time.monotonic() > end:
                break
        return SendResult(work.served, work.to, tried, work.items[len(tried) :])

    def _tried(self, to: WebhookTarget, item: Item) -> SentRequest:
        began, now = time.monotonic(), datetime.now(UTC)
        try:
            return send(self._client, to, item.event.id, item.event.payload)
        except Exception as error:
            # A bug of ours, or an answer that nobody foresaw: it must not end what sends for all endpoints.
            log.exception("webhook_failed", extra={"endpoint_id": to.endpoint_id, "event_id": item.event.id})
            why = f"The request failed by an error of Mail BB Gun: {type(error).__name__}."
            return SentRequest(now, time.monotonic() - began, {}, None, {}, b"", "broken", why)
