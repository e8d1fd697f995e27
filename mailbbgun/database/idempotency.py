"""Makes requests with an ``Idempotency-Key`` create something only once.

A key is committed together with what its request created and with the answer. So a repeated request
gets the stored answer.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple, cast
from uuid import UUID

import orjson
from sqlalchemy import JSON, String, Table, Uuid, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column
from sqlalchemy.types import TypeEngine

from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import IdempotencyMismatch, InvalidInput, Unavailable
from mailbbgun.core.ids import DEFAULT_TENANT, new_id
from mailbbgun.database.compiled import CompiledStatement, StatementStep
from mailbbgun.database.crypto import keyed_hash
from mailbbgun.database.db import Base, UTCDateTime, db_now, dialect_of, wait_at_most
from mailbbgun.database.sql import recordset, rows

HEADER = "Idempotency-Key"
#: How many expired keys one statement deletes.
BATCH = 1000
#: How many seconds to wait for another process's request with the same key, which is not committed
#: yet.
PATIENCE = 5.0

_HASH = re.compile(r"[0-9a-f]{64}")
# Prefixes of hashed keys. None of them begins like another one, or like the id of a tenant.
_OF_TEST_DATA, _OF_DEFAULT = b"test keys\0", b"of default\0"
#: 1 to 255 characters of printable ASCII, without a space at either end.
_KEY = re.compile(r"[!-~]([ -~]{0,253}[!-~])?")


class IdempotencyKey(Base):
    """The answer to the first request with a key.

    There is no foreign key to what was created: it may be deleted before the key is.
    """

    __tablename__ = "idempotency_keys"

    #: As ``idempotency.stored`` returns it: for most tenants a hash of tenant and key.
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    #: The SHA-256 of the body as canonical JSON.
    fingerprint: Mapped[str] = mapped_column(String(64))
    #: The column's name is from the time when only messages were created.
    created_id: Mapped[UUID] = mapped_column("message_id")
    response: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime(), index=True)


_KEYS = cast(Table, IdempotencyKey.__table__)


@dataclass(frozen=True, slots=True)
class KeyClaim:
    """The key of a request as it is stored, and the fingerprint of what the request asked for."""

    key: str
    fingerprint: str


class Earlier(NamedTuple):
    """The first request with a key: the fingerprint of what it asked for, and the answer to it."""

    fingerprint: str
    response: Mapping[str, Any]


def claim_of(who: Caller, key: str, given: Mapping[str, Any], pepper: str | None = None) -> KeyClaim:
    """Return the claim of a request with these values, which must be JSON.

    If the values have a secret, give a ``pepper``: a weak password could be guessed from a plain
    hash. Raises :class:`InvalidInput` for a key that is empty, too long or not printable ASCII.
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
    """Return a key as it is stored.

    The keys of two tenants, or of live and test data, never collide.

    Keys of live data are stored as older versions store them, because such processes may run beside
    us: a key of the tenant ``default`` as it is, and a key of another tenant as a hash. A key of
    ``default`` that looks like a hash is hashed, too: somebody may have chosen it to collide. The
    hashed text begins differently for each kind. The id of a tenant is a UUIDv7, whose seventh byte
    begins with the digit 7.
    """
    if test:
        return hashlib.sha256(_OF_TEST_DATA + tenant_id.bytes + key.encode()).hexdigest()
    if tenant_id != DEFAULT_TENANT:
        return hashlib.sha256(tenant_id.bytes + key.encode()).hexdigest()
    return hashlib.sha256(_OF_DEFAULT + key.encode()).hexdigest() if _HASH.fullmatch(key) else key


def take(session: Session, wanted: Mapping[KeyClaim, tuple[UUID, Mapping[str, Any]]], seconds: int) -> set[KeyClaim]:
    """Store keys, each with the id of what it creates and the answer.

    Return the claims that were stored.

    A claim is not stored if the key exists already and is younger than ``seconds``. The keys must
    differ. PostgreSQL waits for another transaction that has stored one of them and has not
    committed.
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
    # In the order of the keys, so that two processes cannot deadlock.
    values = [
        {"key": claim.key, "fingerprint": claim.fingerprint, "created_id": created_id, "response": dict(response)}
        for claim, (created_id, response) in sorted(wanted.items(), key=lambda one: one[0].key)
    ]
    ours = set(session.execute(statement.returning(IdempotencyKey.key), values).scalars())
    return {claim for claim in wanted if claim.key in ours}


def steps(
    dialect: str, wanted: Mapping[KeyClaim, tuple[UUID, Mapping[str, Any]]], patience: float
) -> list[StatementStep]:
    """Return compiled statements that store keys which nobody has used, as :func:`take` would, at less cost.

    They raise ``IntegrityError`` if somebody has, and ``OperationalError`` if a transaction that stores one of
    the keys does not end within ``patience`` seconds (PostgreSQL). Then nothing is stored.
    """
    if not wanted:
        return []
    given = [
        {"key": claim.key, "fingerprint": claim.fingerprint, "message_id": created_id, "response": dict(response)}
        for claim, (created_id, response) in sorted(wanted.items(), key=lambda one: one[0].key)
    ]
    if dialect != "postgresql":
        return [StatementStep(_new_keys(dialect), given)]
    waits = StatementStep(_waits_at_most(), [{"milliseconds": str(round(patience * 1000))}])
    return [waits, StatementStep(_new_keys(dialect), [{"keys": rows(given)}])]


@cache
def _waits_at_most() -> CompiledStatement:
    return CompiledStatement(select(func.set_config("lock_timeout", bindparam("milliseconds", type_=String), True)))


@cache
def _new_keys(dialect: str) -> CompiledStatement:
    kinds: dict[str, TypeEngine[Any]] = {
        "key": String(),
        "fingerprint": String(),
        "message_id": Uuid(),
        "response": JSON(),
    }
    if dialect != "postgresql":
        binds: dict[str, Any] = {name: bindparam(name, type_=kind) for name, kind in kinds.items()}
        return CompiledStatement(insert(_KEYS).values(created_at=db_now(), **binds))
    columns = dict(recordset(dialect, "keys", kinds).c)
    new = select(*columns.values(), db_now())
    return CompiledStatement(insert(_KEYS).from_select([*columns, "created_at"], new, include_defaults=False))


def once(
    session: Session, claim: KeyClaim | None, seconds: int, create: Callable[[UUID], Mapping[str, Any]]
) -> tuple[Mapping[str, Any], bool]:
    """Create what a request asks for, unless an earlier request had the same key.

    Returns the answer, and whether it is the one of the earlier request. ``create`` makes the thing
    with the given id in this session. It returns the answer, which is JSON, and must have no secret
    because it is stored. Raises :class:`IdempotencyMismatch`.
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


def answer(session: Session, claim: KeyClaim, response: Mapping[str, Any]) -> None:
    """Replace the answer of a key that this transaction has stored."""
    its = update(IdempotencyKey).where(IdempotencyKey.key == claim.key)
    session.execute(its.values(created_id=UUID(response["id"]), response=dict(response)))


def give_back(session: Session, claims: Collection[KeyClaim]) -> None:
    """Delete keys that this transaction has stored, because their requests are refused."""
    if claims:
        session.execute(delete(IdempotencyKey).where(IdempotencyKey.key.in_([claim.key for claim in claims])))


def replay(session: Session, claim: KeyClaim) -> Mapping[str, Any]:
    """Return the answer to the first request with this key.

    Raises :class:`IdempotencyMismatch` if that request had another body, and :class:`Unavailable`
    if the key has just expired.
    """
    found = session.get(IdempotencyKey, claim.key)
    if found is None:  # it expired and was deleted between two statements
        raise Unavailable(f"The {HEADER} has just expired; send the request again.", retry_after=1)
    if found.fingerprint != claim.fingerprint:
        raise IdempotencyMismatch(f"This {HEADER} was used for another body.")
    return found.response


def earlier(session: Session, claim: KeyClaim, seconds: int) -> Earlier | None:
    """Return the first request with this key, whatever it asked for; None if there was none within ``seconds``.

    For a request that is refused now, but may have been valid when it came first.
    """
    its = (IdempotencyKey.key == claim.key, IdempotencyKey.created_at > db_now(-seconds))
    found = session.execute(select(IdempotencyKey.fingerprint, IdempotencyKey.response).where(*its)).one_or_none()
    return Earlier(*found) if found and found.response else None


def forget_expired(session: Session, seconds: int, limit: int = BATCH) -> int:
    """Delete up to ``limit`` keys that are older than ``seconds``, and return how many.

    Call it again until it returns less than ``limit``.
    """
    old = (
        select(IdempotencyKey.key)
        .where(IdempotencyKey.created_at <= db_now(-seconds))
        .order_by(IdempotencyKey.created_at)
        .limit(limit)
    )
    statement = delete(IdempotencyKey).where(IdempotencyKey.key.in_(old)).returning(IdempotencyKey.key)
    return len(session.execute(statement.execution_options(synchronize_session=False)).all())
