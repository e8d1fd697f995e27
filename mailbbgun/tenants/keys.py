"""API keys: how they look, how they are made, and what of them is kept.

``mbg_<prefix>_<secret>``: twelve characters that tell keys apart and are shown, and 43 (256 bits) that are a secret and shown once. Letters
and digits only, so that a double click takes the whole of it, and secret scanners know it by ``mbg_[a-z0-9]{12}_[A-Za-z0-9]{43}``.
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

from mailbbgun.core.caller import KeyKind, Scope, known_scopes
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
class Wish:
    """What a key shall be."""

    name: str
    kind: KeyKind = KeyKind.LIVE
    scopes: tuple[Scope, ...] = (Scope.WRITE, Scope.READ)
    senders: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    guests: tuple[str, ...] = ()
    max_requests_per_minute: int | None = None
    expires_at: datetime | None = None


ADMIN = Wish(name="admin", scopes=tuple(Scope))
"""The first key of an installation: it may do everything."""


@dataclass(frozen=True, slots=True)
class Minted:
    """A new key. ``token`` is what its holder shows, and is never to be had again."""

    key: ApiKey
    token: str


def split(token: str) -> tuple[str, str] | None:
    """Return prefix and secret of a key; None if it has not the form of one."""
    found = _TOKEN.fullmatch(token)
    return (found[1], found[2]) if found else None


def pepper(session: Session, vault: Vault) -> str:
    """Return what hashes of keys are made with, making it if there is none yet. Raises :class:`SecretUnreadable`."""
    kept = repo.secret(session, repo.PEPPER) or repo.keep_secret(session, repo.PEPPER, vault.encrypt(new_pepper()))
    return vault.decrypt(kept)


def check(db: Database, vault: Vault) -> None:
    """Look whether the encryption keys at hand are those of this database, by the secret that every database has. Changes nothing.

    Raises :class:`ConfigurationError` if they are not, or there are none; :class:`DatabaseUnavailable`.
    """
    with db.read() as session:
        kept = repo.secret(session, repo.PEPPER)
    if kept is not None and vault.key_of(kept) is None:
        raise SecretUnreadable(
            "ENCRYPTION_KEYS: none of them opens what is encrypted in this database; it is readable again when its key is back"
        )


def create(session: Session, vault: Vault, tenant_id: UUID, wish: Wish) -> Minted:
    """Make a key for a tenant. Raises :class:`NotFound` if there is no such tenant, :class:`SecretUnreadable`."""
    if repo.tenant(session, tenant_id) is None:
        raise NotFound("There is no such tenant.")
    prefix, secret = _drawn(_LOWER, PREFIX_SIZE), _drawn(_ANY, SECRET_SIZE)
    values: Mapping[str, Any] = {
        "name": wish.name,
        "kind": wish.kind.value,
        "scopes": sorted(set(wish.scopes)),
        "senders": list(wish.senders),
        "networks": list(wish.networks),
        "guests": list(wish.guests),
        "max_requests_per_minute": wish.max_requests_per_minute,
        "expires_at": wish.expires_at,
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


def rotate(
    session: Session,
    vault: Vault,
    tenant_id: UUID,
    key_id: UUID,
    seconds: int,
    permit: Callable[[Wish], None] = lambda wish: None,
) -> Minted:
    """Make a key like another one, which lives for ``seconds`` more; ``permit`` raises what is against such a key.

    Scopes that this version does not know are not copied: nobody could be granted them today.

    Raises :class:`NotFound`, :class:`Conflict` if that one has ended, or was rotated before.
    """
    old = repo.key(session, tenant_id, key_id)
    if old is None:
        raise NotFound("There is no such key.")
    if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= datetime.now(UTC)):
        raise Conflict("The key has ended; create another.")
    if old.rotated_at is not None:  # its end is not one that was chosen for the key that is to take its place
        raise Conflict(
            "The key was rotated before and ends soon; rotate the one that took its place, or create another."
        )
    wish = Wish(
        name=old.name,
        kind=KeyKind(old.kind),
        scopes=tuple(known_scopes(old.scopes)),
        senders=tuple(old.senders),
        networks=tuple(old.networks),
        guests=tuple(old.guests),
        max_requests_per_minute=old.max_requests_per_minute,
        expires_at=old.expires_at,
    )
    permit(wish)
    repo.rotated(session, tenant_id, key_id, seconds)
    return create(session, vault, tenant_id, wish)


@dataclass(frozen=True, slots=True)
class Rotated:
    """A key that another one has taken the place of, and when it would have ended without that."""

    key_id: UUID
    expires_at: datetime | None


def take_back(session: Session, minted: Minted, rotated: Rotated | None = None) -> None:
    """Revoke a new key that nobody has seen, and let the one that it was to take the place of live as long as before."""
    repo.revoke(session, minted.key.tenant_id, minted.key.id)
    if rotated:
        repo.not_rotated(session, minted.key.tenant_id, rotated.key_id, rotated.expires_at)


def _drawn(alphabet: str, size: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(size))
