"""Sends one event to an endpoint while a person waits for the answer."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from mailbbgun.core.errors import NotFound, Unavailable
from mailbbgun.core.ids import new_id
from mailbbgun.events.reading import Position
from mailbbgun.outgoing.http import HTTPClient
from mailbbgun.services import Services
from mailbbgun.webhooks import edit, repo
from mailbbgun.webhooks.sending import (
    TIMEOUT,
    SentRequest,
    WebhookTarget,
    keys_of,
    payload,
    request_id,
    send,
    test_payload,
)
from mailbbgun.webhooks.serving.progress import attempt, event_at
from mailbbgun.webhooks.verdict import WebhookVerdict, verdict

#: Most requests at once in one process.
MOST = 4


class ByHand:
    """Sends single events. Thread-safe."""

    def __init__(self, services: Services) -> None:
        settings = services.settings
        self._services = services
        self._client = HTTPClient.permitting(settings.ALLOW_PRIVATE_HOSTS, settings.HTTP_CA_FILE)
        self._places = threading.BoundedSemaphore(max(1, min(MOST, settings.API_THREADS // 2)))

    def test(self, tenant_id: UUID, identifier: UUID) -> dict[str, Any]:
        """Send a test event, which is not in the log; return the row of the request.

        Raises :class:`NotFound`; :class:`Unavailable` while too many are sent.
        """
        with self._services.db.read(tenant_id) as session:
            row = edit.found(session, tenant_id, identifier)
        place = Position(0, new_id())
        body = test_payload(datetime.now(UTC), identifier)
        return self._kept(tenant_id, identifier, place, "test", "test", self._sent(row, place.event_id, body))

    def redeliver(self, tenant_id: UUID, identifier: UUID, place: Position) -> dict[str, Any]:
        """Send the event at a place once more, with its ``webhook-id``; return the row of the request.

        Raises what :meth:`test` does.
        """
        with self._services.db.read(tenant_id) as session:
            row = edit.found(session, tenant_id, identifier)
            event = event_at(session, tenant_id, place)
        if event is None or event.test != row.test:
            raise NotFound("There is no event at this position.")
        tried = self._sent(row, event.id, payload(event))
        return self._kept(tenant_id, identifier, place, event.kind.value, "redelivery", tried)

    def close(self) -> None:
        """Close unused connections."""
        self._client.close()

    def _sent(self, row: repo.Found, event_id: UUID, body: bytes) -> SentRequest:
        to = WebhookTarget(row.id, row.url, keys_of(self._services.vault, row, datetime.now(UTC)))
        with self._place():
            return send(self._client, to, event_id, body)

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise Unavailable("Too many webhooks are being tried just now.", retry_after=int(TIMEOUT))
        try:
            yield
        finally:
            self._places.release()

    def _kept(
        self, tenant_id: UUID, identifier: UUID, place: Position, kind: str, cause: str, tried: SentRequest
    ) -> dict[str, Any]:
        row = attempt(tenant_id, identifier, place, kind, cause, tried)
        with self._services.db.write(tenant_id) as session:
            edit.found(session, tenant_id, identifier)
            repo.add_attempt(session, row)
            if verdict(tried) is WebhookVerdict.DONE:
                repo.remove_retry(session, tenant_id, request_id(identifier, place.event_id))
        return row
