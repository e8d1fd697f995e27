"""The service's signing keys. The newest signs; the public halves of others stay while they are needed.

A key is read with each signature, so a process signs with a new key as soon as it is committed.
"""

from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.core.ids import new_id
from mailbbgun.database.crypto import Vault
from mailbbgun.database.db import Database
from mailbbgun.licences import repo
from mailbbgun.licences.models import LicenceKey
from mailbbgun.licences.tokens import BadToken, Pair, TokenKind, new_pair, public_jwk, read
from mailbbgun.settings.settings import Settings

#: Seconds for which a retired key is published beyond what it signed: for clocks that differ, and for caches.
SPARE = 86_400


class TokenClaims(NamedTuple):
    """Whose licence a token that we signed is."""

    tenant_id: UUID
    licence_id: UUID


def signing_pair(session: Session, vault: Vault) -> Pair:
    """Return the key that signs; the first call makes it. Raises :class:`SecretUnreadable`."""
    key = repo.current_key(session) or _add(session, vault)
    return Pair(key.kid, key.public_key, vault.decrypt(str(key.private_key)))


def ensure(database: Database, vault: Vault) -> None:
    """Make a key if there is none, for those who only read then."""
    with database.read() as session:
        there = repo.current_key(session) is not None
    if not there:
        with database.write() as session:
            signing_pair(session, vault)


def rotate(session: Session, vault: Vault) -> str:
    """Make a new key, which signs from the commit on, and delete the private halves of earlier ones. Return its id."""
    made = _add(session, vault)
    repo.retire_keys(session, made.id)
    return made.kid


def jwks(session: Session, settings: Settings) -> dict[str, Any]:
    """Return the public keys as a JWK set (RFC 7517 §5)."""
    longest = 3600 * (settings.LICENCE_LEASE_HOURS + settings.LICENCE_GRACE_HOURS) + SPARE
    return {"keys": [public_jwk(one.kid, one.public_key) for one in repo.published_keys(session, longest)]}


def shown(database: Database, token: str) -> TokenClaims:
    """Return whose licence a token is. Raises :class:`BadToken`."""
    with database.read() as session:
        claims = read(token, TokenKind.LICENCE, lambda kid: repo.public_key(session, kid))
    try:
        return TokenClaims(UUID(claims["aud"]), UUID(claims["jti"]))
    except (KeyError, ValueError) as error:
        raise BadToken("it names no licence") from error


def _add(session: Session, vault: Vault) -> LicenceKey:
    pair = new_pair()
    made = LicenceKey(
        id=new_id(),
        kid=pair.kid,
        public_key=pair.public,
        private_key=vault.encrypt(pair.private),
        created_at=datetime.now(UTC),
    )
    session.add(made)
    session.flush()
    return made
