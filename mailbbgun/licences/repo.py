"""Queries on licences, their signing keys, and seats. They never commit."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import ColumnElement, Table, delete, exists, func, insert, or_, select, update
from sqlalchemy.orm import Session

from mailbbgun.database.db import db_now
from mailbbgun.licences.models import Activation, Licence, LicenceKey
from mailbbgun.licences.state import SKEW, LicenceState

_UNSYNCED = {"synchronize_session": False}
_ACTIVATIONS = cast(Table, Activation.__table__)


def now(session: Session) -> datetime:
    """Return the time by the database's clock."""
    return session.scalars(select(db_now())).one()


def current_key(session: Session) -> LicenceKey | None:
    """Return the key that signs; None if there is none yet."""
    its = select(LicenceKey).where(LicenceKey.private_key.is_not(None))
    return session.scalar(its.order_by(LicenceKey.id.desc()).limit(1))


def retire_keys(session: Session, but: UUID) -> None:
    """Delete the private halves of all keys but one."""
    others = update(LicenceKey).where(LicenceKey.id != but, LicenceKey.private_key.is_not(None))
    session.execute(others.values(private_key=None, retired_at=db_now()).execution_options(**_UNSYNCED))


def public_key(session: Session, kid: str) -> str | None:
    """Return the public half of a key; None if there is none of that id."""
    return session.scalar(select(LicenceKey.public_key).where(LicenceKey.kid == kid))


def published_keys(session: Session, seconds: int) -> Sequence[LicenceKey]:
    """Return the keys that something in force may be signed by, newest first.

    These are the one that signs, those that stopped less than ``seconds`` ago, and those of licences
    that have not ended.
    """
    unended = or_(Licence.expires_at.is_(None), Licence.expires_at > db_now(-seconds))
    used = exists().where(Licence.kid == LicenceKey.kid, unended)
    its = or_(LicenceKey.retired_at.is_(None), LicenceKey.retired_at > db_now(-seconds), used)
    return session.scalars(select(LicenceKey).where(its).order_by(LicenceKey.id.desc())).all()


def licence(session: Session, tenant_id: UUID, licence_id: UUID) -> Licence | None:
    """Return a licence of a tenant; None if it has no such licence."""
    its = (Licence.tenant_id == tenant_id, Licence.id == licence_id)
    return session.scalar(select(Licence).where(*its).execution_options(populate_existing=True))


def lock(session: Session, tenant_id: UUID, root_id: UUID) -> None:
    """Let nobody else change a licence, its renewals and their seats until the transaction ends.

    SQLite has one writer anyway.
    """
    its = select(Licence.id).where(Licence.tenant_id == tenant_id, Licence.id == root_id)
    session.execute(its.with_for_update())


def page(
    session: Session, tenant_id: UUID, *, limit: int, offset: int, after: UUID | None, **filters: str | None
) -> tuple[Sequence[Licence], int, UUID | None]:
    """Return a page of a tenant's licences, newest first, their number, and the last id if more follow.

    ``filters`` are ``type``, ``email``, ``status`` (see ``state.Standing``) and ``text``, a part of
    subject or address.
    """
    its = [Licence.tenant_id == tenant_id, *_conditions(filters)]
    count = session.scalar(select(func.count()).select_from(Licence).where(*its)) or 0
    found = select(Licence).where(*its) if after is None else select(Licence).where(*its, Licence.id < after)
    rows = session.scalars(found.order_by(Licence.id.desc()).offset(offset).limit(limit + 1)).all()
    shown = rows[:limit]
    return shown, count, shown[-1].id if shown and len(rows) > limit else None


def _conditions(filters: Mapping[str, str | None]) -> list[ColumnElement[bool]]:
    its: list[ColumnElement[bool]] = []
    if kind := filters.get("type"):
        its.append(Licence.type == kind)
    if email := filters.get("email"):
        its.append(func.lower(Licence.email) == email.lower())
    if text := filters.get("text"):
        places = (Licence.subject, Licence.email)
        its.append(or_(*(func.lower(one).contains(text.lower(), autoescape=True) for one in places)))
    if status := filters.get("status"):
        its.append(_of_status(LicenceState(status)))
    return its


def _of_status(status: LicenceState) -> ColumnElement[bool]:
    """Return the condition that ``state.standing`` would say this."""
    skew = int(SKEW.total_seconds())
    superseded = func.coalesce(Licence.superseded_at <= db_now(), False)
    expired = func.coalesce(Licence.expires_at <= db_now(-skew), False)
    begun = Licence.not_before <= db_now(skew)
    kept = Licence.revoked_at.is_(None) & ~superseded
    return {
        LicenceState.REVOKED: Licence.revoked_at.is_not(None),
        LicenceState.SUPERSEDED: Licence.revoked_at.is_(None) & superseded,
        LicenceState.EXPIRED: kept & expired,
        LicenceState.NOT_YET_VALID: kept & ~expired & ~begun,
        LicenceState.VALID: kept & ~expired & begun,
    }[status]


def change(session: Session, tenant_id: UUID, licence_id: UUID, values: Mapping[str, Any]) -> None:
    """Change columns of a licence."""
    its = (Licence.tenant_id == tenant_id, Licence.id == licence_id)
    session.execute(update(Licence).where(*its).values(**values).execution_options(**_UNSYNCED))


def revoke(session: Session, tenant_id: UUID, root_id: UUID, reason: str | None) -> None:
    """Revoke a licence and all its renewals, and free their seats."""
    its = (Licence.tenant_id == tenant_id, Licence.root_id == root_id, Licence.revoked_at.is_(None))
    revoked = update(Licence).where(*its).values(revoked_at=db_now(), revoked_reason=reason)
    session.execute(revoked.execution_options(**_UNSYNCED))
    session.execute(delete(_ACTIVATIONS).where(*_seats(tenant_id, root_id)))


def revoked(session: Session, tenant_id: UUID, since: datetime) -> list[tuple[UUID, datetime, str]]:
    """Return id, time and state of each licence that is not in force although its token has not ended.

    ``since``: tokens that ended before are left out.
    """
    unended = or_(Licence.expires_at.is_(None), Licence.expires_at > since)
    gone = or_(Licence.revoked_at.is_not(None), Licence.superseded_at <= since + SKEW)
    at, by_revocation = func.coalesce(Licence.revoked_at, Licence.superseded_at), Licence.revoked_at.is_not(None)
    its = (Licence.tenant_id == tenant_id, unended, gone)
    rows = session.execute(select(Licence.id, at, by_revocation).where(*its).order_by(Licence.id)).all()
    return [(one, moment, "revoked" if was else "superseded") for one, moment, was in rows]


def seats_used(session: Session, tenant_id: UUID, root_id: UUID) -> int:
    """Return how many machines hold a seat of a licence and its renewals."""
    its = (*_seats(tenant_id, root_id), _ACTIVATIONS.c.held_until > db_now())
    return session.scalar(select(func.count()).select_from(_ACTIVATIONS).where(*its)) or 0


def activation(session: Session, tenant_id: UUID, root_id: UUID, fingerprint: str) -> Activation | None:
    """Return the seat that a machine holds; None if it holds none."""
    its = (Activation.tenant_id == tenant_id, Activation.root_id == root_id)
    held = (Activation.fingerprint == fingerprint, Activation.held_until > db_now())
    return session.scalar(select(Activation).where(*its, *held).execution_options(populate_existing=True))


def activations(session: Session, tenant_id: UUID, root_id: UUID) -> Sequence[Activation]:
    """Return the machines that hold a seat, in the order in which they took it."""
    its = (Activation.tenant_id == tenant_id, Activation.root_id == root_id, Activation.held_until > db_now())
    return session.scalars(
        select(Activation)
        .where(*its)
        .order_by(Activation.activated_at, Activation.id)
        .execution_options(populate_existing=True)
    ).all()


def older_seats(session: Session, tenant_id: UUID, root_id: UUID, than: Activation) -> int:
    """Return how many machines took their seats before this one."""
    before = or_(
        _ACTIVATIONS.c.activated_at < than.activated_at,
        (_ACTIVATIONS.c.activated_at == than.activated_at) & (_ACTIVATIONS.c.id < than.id),
    )
    its = (*_seats(tenant_id, root_id), _ACTIVATIONS.c.held_until > db_now(), before)
    return session.scalar(select(func.count()).select_from(_ACTIVATIONS).where(*its)) or 0


def free_lapsed(session: Session, tenant_id: UUID, root_id: UUID) -> None:
    """Delete the seats whose grace is over."""
    session.execute(delete(_ACTIVATIONS).where(*_seats(tenant_id, root_id), _ACTIVATIONS.c.held_until <= db_now()))


def take_seat(session: Session, values: Mapping[str, Any]) -> None:
    """Add a machine."""
    session.execute(insert(_ACTIVATIONS).values(**values))


def keep_seat(session: Session, tenant_id: UUID, activation_id: UUID, values: Mapping[str, Any]) -> None:
    """Change columns of a machine."""
    its = (_ACTIVATIONS.c.tenant_id == tenant_id, _ACTIVATIONS.c.id == activation_id)
    session.execute(update(_ACTIVATIONS).where(*its).values(**values))


def leave_seat(session: Session, tenant_id: UUID, root_id: UUID, fingerprint: str) -> bool:
    """Free the seat of a machine; return whether it had one."""
    its = (*_seats(tenant_id, root_id), _ACTIVATIONS.c.fingerprint == fingerprint)
    return session.execute(delete(_ACTIVATIONS).where(*its).returning(_ACTIVATIONS.c.id)).first() is not None


def _seats(tenant_id: UUID, root_id: UUID) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return _ACTIVATIONS.c.tenant_id == tenant_id, _ACTIVATIONS.c.root_id == root_id
