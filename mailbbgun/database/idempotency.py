"""One ``Idempotency-Key``, one creation. The key is committed with what it created, so a key that is taken has its answer."""

import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import IdempotencyMismatch, InvalidInput, Unavailable
from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.database.crypto import keyed_hash
from mailbbgun.database.db import db_now, dialect_of, wait_at_most
from mailbbgun.database.models import IdempotencyKey

HEADER = "Idempotency-Key"
BATCH = 1000  # rows a forgetting
PATIENCE = 5.0  # seconds to wait for a request elsewhere that has the same key and has not committed

_HASH = re.compile(r"[0-9a-f]{64}")
_OF_TEST_DATA, _OF_DEFAULT = b"test keys\0", b"of default\0"  # neither begins as the other or a tenant's id does
_KEY = re.compile(r"[!-~]([ -~]{0,253}[!-~])?")  # printable ASCII, no space at the ends, 1 to 255


@dataclass(frozen=True, slots=True)
class KeyClaim:
    """A request's key and the fingerprint of what it asked for."""

    key: str
    fingerprint: str


def claim_of(who: Caller, key: str, given: Mapping[str, Any], pepper: str | None = None) -> KeyClaim:
    """Return the claim of a caller's request that was given these values, of which JSON can be made.

    What holds a secret takes a ``pepper``: of a plain hash a weak password could be guessed. Raises :class:`InvalidInput` for a key that is
    empty, too long or not printable ASCII.
    """
    if not _KEY.fullmatch(key):
        raise InvalidInput(
            f"{HEADER} must be 1 to 255 printable ASCII characters.",
            fields={HEADER: ["1 to 255 printable ASCII characters."]},
        )
    canonical = orjson.dumps(given, option=orjson.OPT_SORT_KEYS)
    fingerprint = keyed_hash(pepper, canonical.decode()) if pepper else hashlib.sha256(canonical).hexdigest()
    return KeyClaim(stored(who.tenant_id, key, test=who.tests_only), fingerprint)


def stored(tenant_id: UUID, key: str, *, test: bool) -> str:
    """Return a key as it is stored: each tenant has keys of its own, and so has its test data.

    Processes of an older version may serve beside us, so keys for live data are stored as those do: a key of the tenant ``default`` as it is, of
    another tenant a hash. A key of ``default`` that looks like such a hash is hashed as well, for it could be chosen to be one. What is hashed
    begins differently for each kind: a tenant's id is a UUIDv7, of which the seventh byte begins with the digit 7.
    """
    if test:
        return hashlib.sha256(_OF_TEST_DATA + tenant_id.bytes + key.encode()).hexdigest()
    if tenant_id != DEFAULT_TENANT:
        return hashlib.sha256(tenant_id.bytes + key.encode()).hexdigest()
    return hashlib.sha256(_OF_DEFAULT + key.encode()).hexdigest() if _HASH.fullmatch(key) else key


def take(session: Session, wanted: Mapping[KeyClaim, tuple[UUID, Mapping[str, Any]]], seconds: int) -> set[KeyClaim]:
    """Write keys down, each with what it creates and the answer, in place of such as are older than ``seconds``; return those that nobody else has.

    Keys must differ. On PostgreSQL a rival that has not committed yet is waited for.
    """
    if not wanted:
        return set()
    dialect = postgresql if dialect_of(session) == "postgresql" else sqlite
    statement = dialect.insert(IdempotencyKey).values(created_at=db_now())
    statement = statement.on_conflict_do_update(
        index_elements=["key"],
        set_={name: statement.excluded[name] for name in ("fingerprint", "message_id", "response", "created_at")},
        where=IdempotencyKey.created_at <= db_now(-seconds),
    )
    # In order of the keys, so that two processes with keys in common cannot lock each other out.
    values = [
        {"key": claim.key, "fingerprint": claim.fingerprint, "created_id": created_id, "response": dict(response)}
        for claim, (created_id, response) in sorted(wanted.items(), key=lambda one: one[0].key)
    ]
    ours = set(session.execute(statement.returning(IdempotencyKey.key), values).scalars())
    return {claim for claim in wanted if claim.key in ours}


def once(
    session: Session, claim: KeyClaim | None, seconds: int, create: Callable[[UUID], Mapping[str, Any]]
) -> tuple[Mapping[str, Any], bool]:
    """Create what a request asks for, unless one with its key has; return the answer, and whether it is that of the earlier one.

    ``create`` makes it with that id, in this session, and returns the answer, of which JSON can be made: with no secret in it, for it is kept.
    Raises :class:`IdempotencyMismatch`.
    """
    created_id = new_id()
    if claim is None:
        return create(created_id), False
    wait_at_most(session, PATIENCE)
    if not take(session, {claim: (created_id, {})}, seconds):
        return replay(session, claim), True
    answer = create(created_id)
    session.execute(update(IdempotencyKey).where(IdempotencyKey.key == claim.key).values(response=dict(answer)))
    return answer, False


def give_back(session: Session, claims: Collection[KeyClaim]) -> None:
    """Forget keys that this transaction has taken, because what they stand for is refused."""
    if claims:
        session.execute(delete(IdempotencyKey).where(IdempotencyKey.key.in_([claim.key for claim in claims])))


def replay(session: Session, claim: KeyClaim) -> Mapping[str, Any]:
    """Return what was answered to the first request with this key. Raises :class:`IdempotencyMismatch` if that had another body."""
    found = session.get(IdempotencyKey, claim.key)
    if found is None:  # it expired and was forgotten between two statements
        raise Unavailable(f"The {HEADER} has just expired; send the request again.", retry_after=1)
    if found.fingerprint != claim.fingerprint:
        raise IdempotencyMismatch(f"This {HEADER} was used for another body.")
    return found.response


def forget_expired(session: Session, seconds: int, limit: int = BATCH) -> int:
    """Delete up to ``limit`` keys older than ``seconds``; return how many. Call until it returns less than ``limit``."""
    old = (
        select(IdempotencyKey.key)
        .where(IdempotencyKey.created_at <= db_now(-seconds))
        .order_by(IdempotencyKey.created_at)
        .limit(limit)
    )
    statement = delete(IdempotencyKey).where(IdempotencyKey.key.in_(old)).returning(IdempotencyKey.key)
    return len(session.execute(statement.execution_options(synchronize_session=False)).all())
