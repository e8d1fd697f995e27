"""The verbs of a customer's machine, which shows its licence's token: verify, activate, heartbeat, deactivate.

A machine that activates takes a seat and gets a *lease*: a signed token for this machine alone, with
which it works without asking until ``exp``, and after that until ``grace_until`` if it cannot reach
us. A seat is free once it is given back or the grace of its last lease is over. So no more machines
than there are seats ever have a lease in force.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.core.errors import Conflict, InvalidInput
from mailbbgun.core.ids import new_id
from mailbbgun.licences import repo
from mailbbgun.licences.issue import in_force, issuer
from mailbbgun.licences.keys import TokenClaims, shown, signing_pair
from mailbbgun.licences.models import Activation, Licence
from mailbbgun.licences.state import SKEW, LicenceState, standing
from mailbbgun.licences.tokens import BadToken, TokenKind, sign
from mailbbgun.services import Services

#: Seconds for which the list of revoked licences may be cached. Within them it does not change.
LIST_SECONDS = 300
#: The ``status`` of a token that is none of ours.
INVALID = "invalid"


class Machine(NamedTuple):
    """A machine as it describes itself."""

    fingerprint: str
    name: str | None = None


def verify(services: Services, token: str, fingerprint: str | None) -> dict[str, Any]:
    """Return whether a token's licence is in force, and what it allows."""
    try:
        whose = shown(services.db, token)
        with services.db.read(whose.tenant_id) as session:
            licence = repo.licence(session, whose.tenant_id, whose.licence_id)
            if licence is None:
                raise BadToken("its licence does not exist")
            state = standing(licence, repo.now(session))
            used = repo.seats_used(session, whose.tenant_id, licence.root_id)
            held = fingerprint and repo.activation(session, whose.tenant_id, licence.root_id, fingerprint)
    except BadToken as error:
        return {"valid": False, "status": INVALID, "reason": f"The token is not valid: {error}."}
    names = ("id", "type", "subject", "seats", "features", "not_before", "expires_at", "superseded_by")
    told = {name: getattr(licence, name) for name in names}
    activated = None if fingerprint is None else held is not None
    return {"valid": state is LicenceState.VALID, "status": state, "seats_used": used, "activated": activated, **told}


def activate(services: Services, token: str, machine: Machine) -> dict[str, Any]:
    """Give a machine a seat, or keep the one that it has, and return its lease.

    Raises :class:`InvalidInput` for a token that is none of ours, and :class:`Conflict` if the
    licence is not in force or has no free seat.
    """
    whose = _shown(services, token)
    with services.db.write(whose.tenant_id) as session:
        licence, now = _locked(session, whose)
        repo.free_lapsed(session, whose.tenant_id, licence.root_id)
        seat = repo.activation(session, whose.tenant_id, licence.root_id, machine.fingerprint)
        used = repo.seats_used(session, whose.tenant_id, licence.root_id)
        if seat is None and used >= licence.seats:
            raise Conflict(
                f"{used} of {licence.seats} seats are taken: deactivate a machine, or wait for one to lapse."
            )
        return _leased(session, services, licence, seat, machine, now)


def heartbeat(services: Services, token: str, machine: Machine) -> dict[str, Any]:
    """Return a new lease to a machine that has a seat. Raises what :func:`activate` does."""
    whose = _shown(services, token)
    with services.db.write(whose.tenant_id) as session:
        licence, now = _locked(session, whose)
        seat = repo.activation(session, whose.tenant_id, licence.root_id, machine.fingerprint)
        if seat is None:
            raise Conflict("This machine has no seat, or its grace is over: activate it.")
        return _leased(session, services, licence, seat, machine, now)


def deactivate(services: Services, token: str, machine: Machine) -> None:
    """Free a machine's seat. It may be repeated, and the licence need not be in force.

    Raises :class:`InvalidInput` for a token that is none of ours.
    """
    whose = _shown(services, token)
    with services.db.write(whose.tenant_id) as session:
        licence = _licence(session, whose)
        repo.leave_seat(session, whose.tenant_id, licence.root_id, machine.fingerprint)


def revocations(session: Session, services: Services, tenant_id: UUID) -> str:
    """Return the signed list of a tenant's licences that are not in force although their tokens have not ended.

    It is the same for LIST_SECONDS unless a licence is revoked.
    """
    now = repo.now(session)
    issued = int(now.timestamp()) // LIST_SECONDS * LIST_SECONDS
    rows = repo.revoked(session, tenant_id, datetime.fromtimestamp(issued, UTC) - SKEW)
    claims = {
        "iss": issuer(services.settings),
        "aud": str(tenant_id),
        "iat": issued,
        "exp": issued + 86_400,
        "revoked": [{"jti": str(one), "at": int(at.timestamp()), "why": why} for one, at, why in rows],
    }
    return sign(signing_pair(session, services.vault), TokenKind.REVOKED, claims)


def _shown(services: Services, token: str) -> TokenClaims:
    try:
        return shown(services.db, token)
    except BadToken as error:
        raise _no_token(error) from error


def _no_token(why: object) -> InvalidInput:
    return InvalidInput("Some fields are not valid.", fields={"token": [f"The token is not valid: {why}."]})


def _licence(session: Session, whose: TokenClaims) -> Licence:
    licence = repo.licence(session, whose.tenant_id, whose.licence_id)
    if licence is None:
        raise _no_token("its licence does not exist")
    return licence


def _locked(session: Session, whose: TokenClaims) -> tuple[Licence, datetime]:
    """Lock a licence with its seats, and return it and the time. Raises :class:`Conflict` if it is not in force."""
    repo.lock(session, whose.tenant_id, _licence(session, whose).root_id)
    now = repo.now(session)
    return in_force(_licence(session, whose), now), now


def _leased(
    session: Session, services: Services, licence: Licence, seat: Activation | None, machine: Machine, now: datetime
) -> dict[str, Any]:
    """Store that a machine holds a seat, and return its lease.

    A renewal may have fewer seats than there are machines. Then those that came first keep theirs.
    Raises :class:`Conflict` for the others.
    """
    tenant_id, root_id = licence.tenant_id, licence.root_id
    if seat is not None and repo.older_seats(session, tenant_id, root_id, seat) >= licence.seats:
        raise Conflict(f"The licence has {licence.seats} seats now, and machines that came earlier hold them.")
    settings = services.settings
    until = _earlier(now + timedelta(hours=settings.LICENCE_LEASE_HOURS), licence.expires_at)
    grace = _earlier(until + timedelta(hours=settings.LICENCE_GRACE_HOURS), licence.expires_at)
    values: dict[str, Any] = {"seen_at": now, "held_until": grace + SKEW}
    if machine.name is not None:
        values["name"] = machine.name
    if seat is None:
        its = {"id": new_id(), "tenant_id": tenant_id, "root_id": root_id, "fingerprint": machine.fingerprint}
        repo.take_seat(session, its | {"activated_at": now} | values)
    else:  # an older lease must not outlive its seat
        values["held_until"] = max(values["held_until"], seat.held_until)
        repo.keep_seat(session, tenant_id, seat.id, values)
    return {
        "lease": _lease(session, services, licence, machine, now, until, grace),
        "expires_at": until,
        "grace_until": grace,
        "seats": licence.seats,
        "seats_used": repo.seats_used(session, tenant_id, root_id),
    }


def _earlier(moment: datetime, end: datetime | None) -> datetime:
    return moment if end is None else min(moment, end)


def _lease(
    session: Session,
    services: Services,
    licence: Licence,
    machine: Machine,
    now: datetime,
    until: datetime,
    grace: datetime,
) -> str:
    claims = {
        "iss": issuer(services.settings),
        "aud": str(licence.tenant_id),
        "sub": machine.fingerprint,
        "jti": str(new_id()),
        "iat": int(now.timestamp()),
        "exp": int(until.timestamp()),
        "grace_until": int(grace.timestamp()),
        "licence": str(licence.id),
        "type": licence.type,
        "features": licence.features,
    }
    return sign(signing_pair(session, services.vault), TokenKind.LEASE, claims)
