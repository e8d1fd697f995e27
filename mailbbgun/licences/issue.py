"""The verbs of a tenant: issue a licence, renew it, revoke it."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.core.clock import rfc3339
from mailbbgun.core.errors import Conflict, InvalidInput, NotFound
from mailbbgun.database.crypto import Vault
from mailbbgun.licences import repo
from mailbbgun.licences.keys import signing_pair
from mailbbgun.licences.models import Licence
from mailbbgun.licences.state import LicenceState, standing
from mailbbgun.licences.tokens import TokenKind, sign
from mailbbgun.settings.settings import Settings

TRIAL = "trial"
TYPES = (TRIAL, "standard", "enterprise")
#: Days for which a licence stays in force beside its renewal, unless the request says otherwise.
OVERLAP_DAYS = 14

#: Fields of a licence that a renewal takes from the one before.
INHERITED = ("type", "subject", "email", "seats", "features", "notes")


def issuer(settings: Settings) -> str:
    """Return the ``iss`` of tokens: where the service is."""
    return settings.PUBLIC_URL.rstrip("/") or settings.HOSTNAME


def found(session: Session, tenant_id: UUID, licence_id: UUID) -> Licence:
    """Return a licence of a tenant. Raises :class:`NotFound`."""
    licence = repo.licence(session, tenant_id, licence_id)
    if licence is None:
        raise NotFound("There is no such licence.")
    return licence


def issue(
    session: Session, vault: Vault, iss: str, tenant_id: UUID, licence_id: UUID, given: Mapping[str, Any]
) -> Licence:
    """Issue a licence: store it with its token. Raises :class:`InvalidInput`."""
    return _add(session, vault, iss, tenant_id, licence_id, licence_id, given)


def renew(
    session: Session, vault: Vault, iss: str, before: Licence, licence_id: UUID, given: Mapping[str, Any]
) -> Licence:
    """Issue a licence in place of another one, which stays in force for ``overlap_days`` at most.

    What is not given is as before; the time begins now, and lasts from the end of the one before for
    as long as that did. Raises :class:`InvalidInput`, and :class:`Conflict` for a licence that is
    revoked or was renewed already.
    """
    tenant_id, root_id = before.tenant_id, before.root_id
    repo.lock(session, tenant_id, root_id)
    before = found(session, tenant_id, before.id)
    if before.revoked_at is not None:
        raise Conflict(f"The licence was revoked at {rfc3339(before.revoked_at)}: issue a new one.")
    if before.superseded_by is not None:
        raise Conflict(f"The licence was renewed by {before.superseded_by}: renew that one.")
    wanted = {name: getattr(before, name) for name in INHERITED} | dict(given)
    overlap = timedelta(days=wanted.pop("overlap_days", OVERLAP_DAYS))
    now = repo.now(session)
    if "expires_at" not in wanted and before.expires_at is not None:
        wanted["expires_at"] = max(now, before.expires_at) + (before.expires_at - before.not_before)
    made = _add(session, vault, iss, tenant_id, licence_id, root_id, wanted)
    values = {"superseded_by": made.id, "superseded_at": max(now, made.not_before) + overlap}
    repo.change(session, tenant_id, before.id, values)
    return made


def revoke(session: Session, tenant_id: UUID, licence_id: UUID, reason: str | None) -> Licence:
    """Revoke a licence with its renewals and what it renewed. Repeated, it changes nothing.

    Raises :class:`NotFound`.
    """
    root_id = found(session, tenant_id, licence_id).root_id
    repo.lock(session, tenant_id, root_id)
    repo.revoke(session, tenant_id, root_id, reason)
    return found(session, tenant_id, licence_id)


def in_force(licence: Licence, now: datetime) -> Licence:
    """Return the licence. Raises :class:`Conflict` if it is not in force."""
    state = standing(licence, now)
    if state is not LicenceState.VALID:
        raise Conflict(_SAYS[state].format(one=licence))
    return licence


_SAYS = {
    LicenceState.REVOKED: "The licence is revoked.",
    LicenceState.EXPIRED: "The licence expired at {one.expires_at:%Y-%m-%dT%H:%M:%SZ}.",
    LicenceState.SUPERSEDED: "The licence was renewed: use the token of {one.superseded_by}.",
    LicenceState.NOT_YET_VALID: "The licence begins at {one.not_before:%Y-%m-%dT%H:%M:%SZ}.",
}


def _add(
    session: Session,
    vault: Vault,
    iss: str,
    tenant_id: UUID,
    licence_id: UUID,
    root_id: UUID,
    given: Mapping[str, Any],
) -> Licence:
    now = repo.now(session)
    licence = Licence(
        id=licence_id,
        tenant_id=tenant_id,
        root_id=root_id,
        type=given["type"],
        subject=given["subject"],
        email=given["email"],
        seats=given.get("seats", 1),
        features=list(given.get("features", ())),
        notes=dict(given.get("notes", {})),
        not_before=_whole(given.get("not_before") or now),
        expires_at=_whole(given["expires_at"]) if given.get("expires_at") else None,
        created_at=now,
    )
    _check(licence, now)
    pair = signing_pair(session, vault)
    licence.kid, licence.token = pair.kid, vault.encrypt(sign(pair, TokenKind.LICENCE, _claims(licence, iss)))
    session.add(licence)
    session.flush()
    return licence


def _check(licence: Licence, now: datetime) -> None:
    why = None
    if licence.expires_at is None:
        why = "A trial needs an end: give expires_at." if licence.type == TRIAL else None
    elif licence.expires_at <= licence.not_before:
        why = f"{rfc3339(licence.expires_at)} is not after not_before, which is {rfc3339(licence.not_before)}."
    elif licence.expires_at <= now:
        why = f"{rfc3339(licence.expires_at)} has passed: give a time in the future."
    if why:
        raise InvalidInput("Some fields are not valid.", fields={"expires_at": [why]})


def _claims(licence: Licence, iss: str) -> dict[str, Any]:
    """Return what the token says. ``aud`` is the tenant: one key signs the licences of all tenants."""
    ends = {} if licence.expires_at is None else {"exp": int(licence.expires_at.timestamp())}
    return {
        "iss": iss,
        "aud": str(licence.tenant_id),
        "sub": licence.subject,
        "jti": str(licence.id),
        "iat": int(licence.created_at.timestamp()),
        "nbf": int(licence.not_before.timestamp()),
        **ends,
        "type": licence.type,
        "seats": licence.seats,
        "features": licence.features,
    }


def _whole(moment: datetime) -> datetime:
    """Return a moment without parts of a second, which tokens do not have."""
    return moment.replace(microsecond=0)
