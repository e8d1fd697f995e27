"""Makes, rotates and parses API keys.

A key is ``mbg_<prefix>_<secret>``. The prefix has 12 characters; it identifies the key and is
public. The secret has 43 characters (256 bits); it is shown once, and only its keyed hash is kept.
All are letters and digits, so that a double click selects the whole key. Secret scanners find keys
by ``mbg_[a-z0-9]{12}_[A-Za-z0-9]{43}``.
"""

import re
import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.core.caller import DuplicatePolicy, KeyKind, Scope, known_scopes
from mailbbgun.core.errors import Conflict, NotFound, SecretUnreadable
from mailbbgun.core.ids import new_id
from mailbbgun.database.crypto import Vault, keyed_hash, new_pepper
from mailbbgun.database.db import Database
from mailbbgun.tenants import repo
from mailbbgun.tenants.models import ApiKey

PREFIX_SIZE, SECRET_SIZE = 12, 43
_LOWER = string.ascii_lowercase + string.digits
_ANY = string.ascii_letters + string.digits
_TOKEN = re.compile(rf"mbg_([a-z0-9]{{{PREFIX_SIZE}}})_([A-Za-z0-9]{{{SECRET_SIZE}}})")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySpec:
    """What a new key shall be called and may do."""

    name: str
    kind: KeyKind = KeyKind.LIVE
    scopes: tuple[Scope, ...] = (Scope.WRITE, Scope.READ)
    senders: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    guests: tuple[str, ...] = ()
    max_requests_per_minute: int | None = None
    duplicate_seconds: int | None = None
    duplicate_policy: DuplicatePolicy = DuplicatePolicy.ANSWER
    expires_at: datetime | None = None


ADMIN = KeySpec(name="admin", scopes=tuple(Scope))
"""The first key of an installation: it may do everything."""


@dataclass(frozen=True, slots=True)
class Minted:
    """A new key. ``token`` is the whole key with its secret; it cannot be obtained again."""

    key: ApiKey
    token: str


def split(token: str) -> tuple[str, str] | None:
    """Return the prefix and the secret of a key.

    None if the text does not have the form of a key.
    """
    found = _TOKEN.fullmatch(token)
    return (found[1], found[2]) if found else None


def pepper(session: Session, vault: Vault) -> str:
    """Return the secret that keys are hashed with; the first call makes it.

    Raises :class:`SecretUnreadable` if it cannot be decrypted.
    """
    kept = repo.secret(session, repo.PEPPER) or repo.add_secret(session, repo.PEPPER, vault.encrypt(new_pepper()))
    return vault.decrypt(kept)


def check(db: Database, vault: Vault) -> None:
    """Check that the configured encryption keys fit this database. Changes nothing.

    The check tries to decrypt the pepper, a secret that every database has. Raises
    :class:`ConfigurationError` if no key fits or there are none, :class:`DatabaseUnavailable`.
    """
    with db.read() as session:
        kept = repo.secret(session, repo.PEPPER)
    if kept is not None and vault.key_of(kept) is None:
        raise SecretUnreadable(
            "ENCRYPTION_KEYS: none of them opens what is encrypted in this database; "
            "it is readable again when its key is back"
        )


def create(session: Session, vault: Vault, tenant_id: UUID, spec: KeySpec) -> Minted:
    """Make a key for a tenant.

    Raises :class:`NotFound` if there is no such tenant, :class:`SecretUnreadable`.
    """
    if repo.tenant(session, tenant_id) is None:
        raise NotFound("There is no such tenant.")
    prefix, secret = _drawn(_LOWER, PREFIX_SIZE), _drawn(_ANY, SECRET_SIZE)
    values: Mapping[str, Any] = {
        "name": spec.name,
        "kind": spec.kind.value,
        "scopes": sorted(set(spec.scopes)),
        "senders": list(spec.senders),
        "networks": list(spec.networks),
        "guests": list(spec.guests),
        "max_requests_per_minute": spec.max_requests_per_minute,
        "duplicate_seconds": spec.duplicate_seconds,
        "duplicate_policy": spec.duplicate_policy.value,
        "expires_at": spec.expires_at,
    }
    made = ApiKey(
        id=new_id(),
        tenant_id=tenant_id,
        prefix=prefix,
        hash=keyed_hash(pepper(session, vault), secret),
        created_at=datetime.now(UTC),
        **values,
    )
    session.add(made)
    session.flush()
    return Minted(made, f"mbg_{prefix}_{secret}")


def spec_of(key: ApiKey) -> KeySpec:
    """Return what a key may do, without scopes that this version does not know."""
    return KeySpec(
        name=key.name,
        kind=KeyKind(key.kind),
        scopes=tuple(known_scopes(key.scopes)),
        senders=tuple(key.senders),
        networks=tuple(key.networks),
        guests=tuple(key.guests),
        max_requests_per_minute=key.max_requests_per_minute,
        duplicate_seconds=key.duplicate_seconds,
        duplicate_policy=DuplicatePolicy(key.duplicate_policy),
        expires_at=key.expires_at,
    )


def rotate(
    session: Session,
    vault: Vault,
    tenant_id: UUID,
    key_id: UUID,
    seconds: int,
    permit: Callable[[KeySpec], None] = lambda spec: None,
) -> Minted:
    """Make a copy of a key with a new secret; the old key works for ``seconds`` more.

    ``permit`` is called with the copy's values and raises if the caller may not grant them. Scopes
    that this version does not know are not copied, since nobody could be granted them today.

    Raises :class:`NotFound`; :class:`Conflict` if the old key has ended or was rotated before.
    """
    old = repo.key(session, tenant_id, key_id)
    if old is None:
        raise NotFound("There is no such key.")
    if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= datetime.now(UTC)):
        raise Conflict("The key has ended; create another.")
    if old.rotated_at is not None:  # its end was set by the rotation, so the copy must not inherit it
        raise Conflict(
            "The key was rotated before and ends soon; rotate the one that took its place, or create another."
        )
    spec = spec_of(old)
    permit(spec)
    repo.mark_rotated(session, tenant_id, key_id, seconds)
    return create(session, vault, tenant_id, spec)


@dataclass(frozen=True, slots=True)
class Rotated:
    """A key that was rotated, and when it would have ended without the rotation."""

    key_id: UUID
    expires_at: datetime | None


def take_back(session: Session, minted: Minted, rotated: Rotated | None = None) -> None:
    """Revoke a new key that nobody has seen, and undo the rotation that it came from, if any."""
    repo.revoke(session, minted.key.tenant_id, minted.key.id)
    if rotated:
        repo.undo_rotation(session, minted.key.tenant_id, rotated.key_id, rotated.expires_at)


def _drawn(alphabet: str, size: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(size))
