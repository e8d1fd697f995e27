"""Sets endpoints up: adds, changes and rotates them, and starts replays. The caller commits."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.core.errors import Conflict, InvalidInput, NotFound
from mailbbgun.core.ids import new_id
from mailbbgun.core.net import Allowed, Guard
from mailbbgun.database.crypto import Vault
from mailbbgun.events.reading import START, Position, end
from mailbbgun.outgoing.signing import secret_of
from mailbbgun.outgoing.urls import WEB_PORTS, why_refused
from mailbbgun.settings.settings import Settings
from mailbbgun.tenants import repo as tenants
from mailbbgun.webhooks import repo

#: Most endpoints of a tenant, and most replays of an endpoint that are not finished.
MOST, MOST_REPLAYS = 50, 3
#: Columns of an endpoint that a client may see, besides its state.
SHOWN = ("id", "url", "description", "kinds", "test", "enabled", "created_at", "updated_at", "failing_since")
#: What a person who changes an endpoint makes of its state: it is tried at once.
_FRESH: Mapping[str, Any] = {"failing_since": None, "pauses": 0, "paused_until": None, "disabled_reason": None}


def check_url(settings: Settings, url: str) -> None:
    """Raise :class:`InvalidInput` unless requests may be sent to this URL."""
    if why := why_refused(url, Guard(WEB_PORTS, Allowed.read(settings.ALLOW_PRIVATE_HOSTS))):
        raise InvalidInput("Some fields are not valid.", fields={"url": [why]})


def create(
    session: Session,
    vault: Vault,
    settings: Settings,
    tenant_id: UUID,
    identifier: UUID,
    wanted: Mapping[str, Any],
    secret: str,
) -> dict[str, Any]:
    """Add an endpoint, which gets what happens from now on; return it without its secret, which :func:`secret_of` gave.

    Raises :class:`InvalidInput`, and :class:`Conflict` if there are too many.
    """
    check_url(settings, wanted["url"])
    tenants.lock(session, tenant_id)
    if repo.count(session, tenant_id) >= MOST:
        raise Conflict(f"There are {MOST} webhooks already, which is the most.")
    place, now = end(session, tenant_id), datetime.now(UTC)
    values = {name: wanted[name] for name in ("url", "description", "kinds", "test", "enabled")}
    values |= {"id": identifier, "tenant_id": tenant_id, "created_at": now, "updated_at": now}
    values |= {"secret": vault.encrypt(secret), "previous_secret": None, "previous_until": None}
    values |= {"position": place.number, "event_id": place.event_id, "attempt": 0, **_FRESH}
    repo.add(session, values)
    return shown(session, found(session, tenant_id, identifier))


def change(
    session: Session, settings: Settings, tenant_id: UUID, identifier: UUID, wanted: Mapping[str, Any]
) -> dict[str, Any]:
    """Change an endpoint. It goes on where it was, also after it was disabled. Raises what :func:`create` does."""
    if "url" in wanted:
        check_url(settings, wanted["url"])
    before = found(session, tenant_id, identifier)
    values = {**wanted, "updated_at": datetime.now(UTC), **_FRESH}
    if wanted.get("enabled") is False and not before.enabled:
        values["disabled_reason"] = before.disabled_reason
    repo.change(session, tenant_id, identifier, values)
    return shown(session, found(session, tenant_id, identifier))


def rotate(
    session: Session, vault: Vault, tenant_id: UUID, identifier: UUID, secret: str | None, hours: int
) -> dict[str, Any]:
    """Give an endpoint another secret. The one of now signs beside it for some hours. Returns the endpoint with it."""
    tenants.lock(session, tenant_id)  # of two who rotate at once, the second one keeps the first one's secret
    new, now = secret_of(secret), datetime.now(UTC)
    before = found(session, tenant_id, identifier)
    values = {"secret": vault.encrypt(new), "updated_at": now}
    values |= {"previous_secret": before.secret, "previous_until": now + timedelta(hours=hours)}
    if not hours:
        values |= {"previous_secret": None, "previous_until": None}
    repo.change(session, tenant_id, identifier, values)
    return shown(session, found(session, tenant_id, identifier)) | {"secret": new}


def replay(session: Session, tenant_id: UUID, identifier: UUID, begin: datetime | None, stop: datetime | None) -> UUID:
    """Send the events of a time to an endpoint once more, up to those of now; return the replay's id.

    Raises :class:`InvalidInput`, :class:`NotFound`, and :class:`Conflict` if too many are not finished.
    """
    its = found(session, tenant_id, identifier)
    if begin is None or stop is None:
        why = "Is missing: a time such as 2026-01-31T12:00:00Z, or a date."
        lacking = {name: [why] for name, value in (("from", begin), ("to", stop)) if value is None}
        raise InvalidInput("Some fields are not valid.", fields=lacking)
    if stop <= begin:
        why = "Is not after `from`: the events from `from` until before `to` are sent."
        raise InvalidInput("Some fields are not valid.", fields={"to": [why]})
    if not its.enabled:
        raise Conflict("The webhook is disabled: enable it first.")
    tenants.lock(session, tenant_id)
    if sum(one.finished_at is None for one in repo.replays(session, tenant_id, identifier)) >= MOST_REPLAYS:
        raise Conflict(f"{MOST_REPLAYS} replays of the webhook are not finished, which is the most.")
    until, made = end(session, tenant_id), new_id()
    values: dict[str, Any] = {"id": made, "tenant_id": tenant_id, "endpoint_id": identifier}
    values |= {"position": START.number, "event_id": START.event_id, "from_at": begin, "to_at": stop}
    values |= {"until_position": until.number, "until_event_id": until.event_id, "created_at": datetime.now(UTC)}
    repo.add_replay(session, values)
    return made


def found(session: Session, tenant_id: UUID, identifier: UUID) -> repo.Found:
    """Return an endpoint of a tenant. Raises :class:`NotFound`."""
    row = repo.endpoint(session, tenant_id, identifier)
    if row is None:
        raise NotFound("There is no such webhook.")
    return row


def shown(session: Session, row: repo.Found, waiting: int | None = None) -> dict[str, Any]:
    """Return an endpoint as ``schemas.WebhookShape`` takes it. ``waiting``: its retries, if they are known."""
    if waiting is None:
        waiting = repo.retries(session, row.tenant_id, [row.id]).get(row.id, 0)
    state = "disabled" if not row.enabled else "paused" if row.paused_until else "active"
    more = {"state": state, "disabled_reason": row.disabled_reason, "next_try_at": row.paused_until}
    more |= {"position": str(Position(row.position, row.event_id)), "retries": waiting}
    return {name: getattr(row, name) for name in SHOWN} | more | {"two_secrets_until": row.previous_until}
