"""Adds and changes inbound routes: checks addresses, URLs and secrets. The caller commits."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.core import addresses
from mailbbgun.core.errors import Conflict, InvalidInput, NotFound
from mailbbgun.core.net import Allowed, Guard
from mailbbgun.database.crypto import Vault
from mailbbgun.inbound_routes import repo
from mailbbgun.mailboxes import repo as mailboxes
from mailbbgun.outgoing.signing import secret_of
from mailbbgun.outgoing.urls import WEB_PORTS, why_refused
from mailbbgun.settings.settings import Settings
from mailbbgun.tenants import repo as tenants

#: Routes of a tenant, at most.
MOST = 100
#: Columns that a client may see, and give.
SHOWN = ("id", "name", "priority", "matching", "actions", "stop", "enabled", "created_at", "updated_at")
GIVEN = ("name", "priority", "matching", "actions", "stop", "enabled")


def create(
    session: Session,
    vault: Vault,
    settings: Settings,
    tenant_id: UUID,
    identifier: UUID,
    wanted: Mapping[str, Any],
    secret: str,
) -> dict[str, Any]:
    """Add a route; return it without its secret, which :func:`secret_of` gave.

    Raises :class:`InvalidInput`, and :class:`Conflict` if there are too many.
    """
    tenants.lock(session, tenant_id)
    if repo.count(session, tenant_id) >= MOST:
        raise Conflict(f"There are {MOST} inbound routes already, which is the most.")
    now = datetime.now(UTC)
    values = {name: wanted[name] for name in GIVEN} | {"id": identifier, "tenant_id": tenant_id}
    values |= {"created_at": now, "updated_at": now, "secret": vault.encrypt(secret)}
    repo.add(session, values | _checked(session, settings, tenant_id, values, values))
    return shown(found(session, tenant_id, identifier))


def change(
    session: Session, vault: Vault, settings: Settings, tenant_id: UUID, identifier: UUID, wanted: Mapping[str, Any]
) -> dict[str, Any]:
    """Change a route. Mail that came before goes where it was to go, by the URL and secret that the route has now.

    Raises :class:`NotFound`, :class:`InvalidInput`.
    """
    tenants.lock(session, tenant_id)
    before = found(session, tenant_id, identifier)
    values = {name: wanted[name] for name in GIVEN if name in wanted} | {"updated_at": datetime.now(UTC)}
    if "secret" in wanted:
        values["secret"] = vault.encrypt(secret_of(wanted["secret"]))
    values |= _checked(session, settings, tenant_id, values, shown(before) | values)
    repo.change(session, tenant_id, identifier, values)
    return shown(found(session, tenant_id, identifier))


def found(session: Session, tenant_id: UUID, identifier: UUID) -> repo.FoundRoute:
    """Return a route of a tenant. Raises :class:`NotFound`."""
    row = repo.route(session, tenant_id, identifier)
    if row is None:
        raise missing()
    return row


def missing() -> NotFound:
    """Return the error for a route that does not exist or belongs to another tenant."""
    return NotFound("There is no such inbound route.")


def shown(row: repo.FoundRoute) -> dict[str, Any]:
    """Return a route as ``schemas.InboundRouteShape`` takes it."""
    return {name: getattr(row, name) for name in SHOWN}


def _checked(
    session: Session, settings: Settings, tenant_id: UUID, given: Mapping[str, Any], whole: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the actions that are given as they are stored. Raises :class:`InvalidInput`."""
    if not whole["actions"] and not whole["stop"]:
        why = "A route needs an action, or stop: without both it does nothing."
        raise InvalidInput("Some fields are not valid.", fields={"actions": [why]})
    if "actions" not in given:
        return {}
    faults: list[str] = []
    actions = [dict(_stored(session, settings, tenant_id, one, faults)) for one in given["actions"]]
    if faults:
        raise InvalidInput("Some fields are not valid.", fields={"actions": faults})
    return {"actions": actions}


def _stored(
    session: Session, settings: Settings, tenant_id: UUID, action: Mapping[str, Any], faults: list[str]
) -> Iterator[tuple[str, Any]]:
    """Yield the kind and the value of an action as it is stored; add its faults to ``faults``."""
    for kind, value in action.items():
        if kind == "forward":
            yield kind, _addresses(value, faults)
            continue
        if kind == "post" and (why := why_refused(value["url"], _guard(settings))):
            faults.append(why)
        if kind == "store" and "mailbox" in value:
            mailbox = next(iter(_addresses([value["mailbox"]], faults)), "").lower()
            if mailbox and not mailboxes.taken(session, tenant_id, mailbox):
                faults.append(f"There is no mailbox {mailbox}.")
            value = {"mailbox": mailbox}
        yield kind, value


def _addresses(given: Sequence[str], faults: list[str]) -> list[str]:
    """Return addresses in the form that is stored, each once; add the faults of others to ``faults``."""
    stored: dict[str, None] = {}
    for text in given:
        try:
            stored[addresses.address(text)] = None
        except ValueError as error:
            faults.append(str(error))
    return [*stored]


def _guard(settings: Settings) -> Guard:
    return Guard(WEB_PORTS, Allowed.read(settings.ALLOW_PRIVATE_HOSTS))
