"""Makes one request of an event, and sends it."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID, uuid5

import orjson

from mailbbgun.core.clock import rfc3339
from mailbbgun.core.errors import InvalidInput
from mailbbgun.database.crypto import Vault
from mailbbgun.events.kinds import Kind
from mailbbgun.events.reading import LoggedEvent, shown
from mailbbgun.outgoing.http import HTTPClient, NoHTTPAnswer
from mailbbgun.outgoing.signing import key_of, signature

#: Seconds that a request may take in all.
TIMEOUT = 10.0
#: ``why`` of a try whose host we do not connect to.
NOT_PERMITTED = "not_permitted"


class WebhookTarget(NamedTuple):
    """Where requests go, and the keys that sign them. ``changed_at``: when a person last changed that."""

    endpoint_id: UUID
    url: str
    keys: tuple[bytes, ...]
    changed_at: datetime | None = None


class SentRequest(NamedTuple):
    """What became of one request."""

    at: datetime
    seconds: float
    request_headers: dict[str, str]
    status: int | None  # None: there was no answer
    answer_headers: dict[str, str]
    answer: bytes
    why: str | None  # the step that failed, if there was no answer
    error: str | None  # the same for people


def request_id(endpoint_id: UUID, event_id: UUID) -> UUID:
    """Return the id of an event for an endpoint. It is the same for each try, also of a replay."""
    return uuid5(endpoint_id, event_id.hex)


def webhook_id(endpoint_id: UUID, event_id: UUID) -> str:
    """Return the header ``webhook-id``, by which receivers know an event that they have had already."""
    return f"evt_{request_id(endpoint_id, event_id).hex}"


def type_of(kind: Kind, *, of_message: bool) -> str:
    """Return the ``type`` of a payload: ``message.delivered``, ``circuit.opened``."""
    return f"message.{kind.value}" if of_message else kind.value.replace("_", ".", 1)


def payload(event: LoggedEvent) -> bytes:
    """Return the body of the request about an event."""
    kind = type_of(event.kind, of_message=event.message_id is not None)
    return orjson.dumps({"type": kind, "timestamp": rfc3339(event.at), "data": shown(event)}, default=str)


def keys_of(vault: Vault, row: Any, now: datetime) -> tuple[bytes, ...]:
    """Return the keys that sign an endpoint's requests: the newest first. Raises :class:`SecretUnreadable`."""
    valid = [row.secret]
    if row.previous_secret is not None and row.previous_until > now:
        valid.append(row.previous_secret)
    return tuple(key_of(vault.decrypt(one)) for one in valid)


class SharedEvent(LoggedEvent):
    """An event whose payload is made once, however many endpoints and tries it has."""

    @cached_property
    def payload(self) -> bytes:
        """The body of the request about it."""
        return payload(self)


def send(client: HTTPClient, to: WebhookTarget, event_id: UUID, body: bytes) -> SentRequest:
    """Send a request once, within :data:`TIMEOUT`. Whatever happens is in the result."""
    identifier, now = webhook_id(to.endpoint_id, event_id), datetime.now(UTC)
    timestamp = int(now.timestamp())
    headers = {
        "Content-Type": "application/json",
        "webhook-id": identifier,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(to.keys, identifier, timestamp, body),
    }
    began = time.monotonic()
    try:
        answer = client.post(to.url, body, headers, TIMEOUT, repeatable=True)
    except NoHTTPAnswer as error:
        return SentRequest(now, error.seconds, headers, None, {}, b"", error.why, f"{error}.")
    except InvalidInput as error:  # NotPermitted is one: the host's addresses, or ALLOW_PRIVATE_HOSTS, have changed
        return SentRequest(now, time.monotonic() - began, headers, None, {}, b"", NOT_PERMITTED, f"{error}.")
    return SentRequest(now, answer.seconds, headers, answer.status, dict(answer.headers), answer.body, None, None)


def test_payload(now: datetime, endpoint_id: UUID) -> bytes:
    """Return the body of a request that only tries an endpoint."""
    data: dict[str, Any] = {"webhook_id": str(endpoint_id)}
    return orjson.dumps({"type": "webhook.test", "timestamp": rfc3339(now), "data": data})


def destination(endpoint_id: UUID, url: str, keys: Sequence[bytes]) -> WebhookTarget:
    """Return where the requests of an endpoint go."""
    return WebhookTarget(endpoint_id, url, tuple(keys))
