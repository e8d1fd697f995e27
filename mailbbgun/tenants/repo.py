"""Queries on tenants, API keys, the count of changes, the service's secrets and the audit."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    String,
    bindparam,
    case,
    cast,
    delete,
    exists,
    func,
    insert,
    inspect,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, undefer

from mailbbgun.core.caller import KeyKind, Scope
from mailbbgun.core.errors import Conflict
from mailbbgun.core.ids import new_id
from mailbbgun.database.compiled import CompiledStatement
from mailbbgun.database.db import Database, db_now, dialect_of
from mailbbgun.tenants.models import (
    ACTIVE,
    API_KEYS,
    KEY_CHANGES,
    SUSPENDED,
    TENANTS,
    ApiKey,
    AuditEntry,
    Secret,
    Tenant,
)

PEPPER = "pepper"

Row = TypeVar("Row", Tenant, ApiKey, AuditEntry)


#: What people see of a tenant, and requests need not know.
_SHOWN = undefer(Tenant.storage_used)


def suspended(tenant_id: ColumnElement[UUID]) -> ColumnElement[bool]:
    """Return an SQL condition: this tenant is suspended.

    Few tenants are suspended, and PostgreSQL hashes them once a statement.
    """
    return tenant_id.in_(select(TENANTS.c.id).where(TENANTS.c.status == SUSPENDED))


def with_suppressions(tenant_id: ColumnElement[UUID]) -> ColumnElement[bool]:
    """Return an SQL condition: this tenant may have suppressions. PostgreSQL hashes such tenants once a statement."""
    return tenant_id.in_(select(TENANTS.c.id).where(TENANTS.c.has_suppressions == true()))


_SUSPENDED = CompiledStatement(select(TENANTS.c.id).where(TENANTS.c.status == SUSPENDED), of_all_tenants=True)


def suspended_ids(database: Database) -> Sequence[UUID]:
    """Return the ids of all suspended tenants. Raises :class:`DatabaseUnavailable`."""
    return [tenant_id for (tenant_id,) in database.find(_SUSPENDED, {})]


def tenants(
    session: Session, *, limit: int, offset: int, after: UUID | None
) -> tuple[Sequence[Tenant], int, UUID | None]:
    """Return a page of tenants, newest first.

    Also returns the number of all tenants, and the last id of the page if more tenants follow.
    """
    count = session.scalar(select(func.count()).select_from(Tenant)) or 0
    statement = select(Tenant).options(_SHOWN).order_by(Tenant.id.desc()).offset(offset).limit(limit + 1)
    return _page(
        session.scalars(statement if after is None else statement.where(Tenant.id < after)).all(), count, limit
    )


def tenant(session: Session, tenant_id: UUID) -> Tenant | None:
    """Return a tenant; None if there is none."""
    return session.get(Tenant, tenant_id, options=[_SHOWN])


def tenant_named(session: Session, name: str) -> Tenant | None:
    """Return the tenant with this name; None if there is none."""
    return session.scalar(select(Tenant).options(_SHOWN).where(Tenant.name == name))


def names(session: Session, tenant_ids: Collection[UUID]) -> dict[UUID, str]:
    """Return the names of these tenants."""
    return {one.id: one.name for one in session.scalars(select(Tenant).where(Tenant.id.in_(tenant_ids)))}


def add_tenant(session: Session, values: Mapping[str, Any], identifier: UUID | None = None) -> Tenant:
    """Add an active tenant with these columns, and with this id if given.

    Raises :class:`Conflict` if another tenant has the name.
    """
    made = Tenant(id=identifier or new_id(), status=ACTIVE, created_at=datetime.now(UTC), **values)
    with _name_taken():
        session.add(made)
        session.flush()
    return made


def change_tenant(session: Session, tenant_id: UUID, values: Mapping[str, Any]) -> None:
    """Change columns of a tenant. Raises :class:`Conflict` if another tenant has the name."""
    if values:
        with _name_taken():
            session.execute(update(Tenant).where(Tenant.id == tenant_id).values(**values))


def lock(session: Session, tenant_id: UUID) -> None:
    """Lock the tenant's row until the transaction ends.

    So transactions that change what a tenant has run one after the other. SQLite has one writer
    anyway.
    """
    session.execute(select(Tenant.id).where(Tenant.id == tenant_id).with_for_update())


def audit(
    session: Session, tenant_id: UUID | None, *, limit: int, offset: int, after: UUID | None
) -> tuple[Sequence[AuditEntry], int, UUID | None]:
    """Return a page of the audit of one tenant, or of all (None), as :func:`tenants` does."""
    its = [] if tenant_id is None else [AuditEntry.tenant_id == tenant_id]
    count = session.scalar(select(func.count()).select_from(AuditEntry).where(*its)) or 0
    statement = select(AuditEntry).where(*its).order_by(AuditEntry.id.desc()).offset(offset).limit(limit + 1)
    return _page(
        session.scalars(statement if after is None else statement.where(AuditEntry.id < after)).all(), count, limit
    )


def keys(
    session: Session, tenant_id: UUID | None, *, limit: int, offset: int, after: UUID | None
) -> tuple[Sequence[ApiKey], int, UUID | None]:
    """Return a page of the keys of one tenant, or of all (None), as :func:`tenants` does.

    Revoked and expired keys are included.
    """
    its = [] if tenant_id is None else [ApiKey.tenant_id == tenant_id]
    count = session.scalar(select(func.count()).select_from(ApiKey).where(*its)) or 0
    chosen = select(ApiKey).options(undefer(ApiKey.rotated_at)).where(*its)
    statement = chosen.order_by(ApiKey.id.desc()).offset(offset).limit(limit + 1)
    return _page(
        session.scalars(statement if after is None else statement.where(ApiKey.id < after)).all(), count, limit
    )


def key(session: Session, tenant_id: UUID, key_id: UUID) -> ApiKey | None:
    """Return a key of a tenant; None if it has no such key."""
    return session.scalar(select(ApiKey).where(ApiKey.tenant_id == tenant_id, ApiKey.id == key_id))


def key_by_id_or_prefix(session: Session, shown: UUID | str) -> ApiKey | None:
    """Return the key with this id or prefix, of any tenant; None if there is none."""
    return session.scalar(
        select(ApiKey).where(ApiKey.id == shown if isinstance(shown, UUID) else ApiKey.prefix == shown)
    )


def admin_key(session: Session) -> ApiKey | None:
    """Return a valid key with the scope ``admin``; None if there is none.

    The function locks the pepper's row, so that two transactions cannot both find no key and make
    one.
    """
    session.execute(select(Secret.name).where(Secret.name == PEPPER).with_for_update())
    living = (ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > db_now()))
    admin = cast(ApiKey.scopes, String).like(f'%"{Scope.ADMIN}"%')  # both databases can cast JSON to text
    return session.scalar(select(ApiKey).where(*living, admin).order_by(ApiKey.id).limit(1))


def revoke(session: Session, tenant_id: UUID, key_id: UUID) -> None:
    """Revoke a key now, unless it is revoked already."""
    its = (ApiKey.tenant_id == tenant_id, ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
    session.execute(update(ApiKey).where(*its).values(revoked_at=db_now()))


def mark_rotated(session: Session, tenant_id: UUID, key_id: UUID, seconds: int) -> None:
    """Record that a key was rotated. It ends in ``seconds``, unless it ends sooner anyway."""
    later = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > db_now(seconds))
    end = case((later, db_now(seconds)), else_=ApiKey.expires_at)
    session.execute(
        update(ApiKey)
        .where(ApiKey.tenant_id == tenant_id, ApiKey.id == key_id)
        .values(expires_at=end, rotated_at=db_now())
    )


def undo_rotation(session: Session, tenant_id: UUID, key_id: UUID, expires_at: datetime | None) -> None:
    """Undo :func:`mark_rotated`; ``expires_at`` is the key's end before the rotation."""
    its = (ApiKey.tenant_id == tenant_id, ApiKey.id == key_id)
    session.execute(update(ApiKey).where(*its).values(expires_at=expires_at, rotated_at=None))


class Found(NamedTuple):
    """A key and its tenant, by the database's clock.

    ``ended``: the key is revoked or expired. ``left``: seconds until it expires; None if it never
    does.
    """

    key: ApiKey
    tenant: Tenant
    ended: bool
    left: float | None


def lookup(session: Session, prefixes: Collection[str]) -> list[Found]:
    """Return the keys with these prefixes, and their tenants."""
    over = func.coalesce(or_(ApiKey.revoked_at <= db_now(), ApiKey.expires_at <= db_now()), False)
    statement = (
        select(ApiKey, Tenant, over, db_now())
        .join(Tenant, Tenant.id == ApiKey.tenant_id)
        .where(ApiKey.prefix.in_(prefixes))
    )
    found = []
    for key, its, ended, now in session.execute(statement):
        left = None if key.expires_at is None else (key.expires_at - now).total_seconds()
        found.append(Found(key, its, bool(ended), left))
    return found


class Changes(NamedTuple):
    """The number of changes (``n``), and the number of rows that hold the count."""

    n: int
    rows: int


_CHANGES = select(func.sum(KEY_CHANGES.c.n), func.count())


def changes(session: Session, *, sure: bool) -> Changes | None:
    """Return the count of changes; None if the schema is too old to have it.

    ``sure``: the caller knows that the table exists, so that is not looked up.
    """
    if not sure and not inspect(session.connection()).has_table(KEY_CHANGES.name):
        return None
    n, rows = session.execute(_CHANGES).one()
    return Changes(int(n or 0), rows)


def sum_up_changes(session: Session) -> None:
    """Replace all rows of the count by one row with their sum.

    Safe while other transactions count, sum up or read. On SQLite there is nothing to do: its
    triggers change one row.
    """
    if dialect_of(session) == "postgresql":
        gone = delete(KEY_CHANGES).returning(KEY_CHANGES.c.n).cte("gone")
        total = select(cast(func.sum(gone.c.n), BigInteger)).having(func.count() > 0)
        session.execute(insert(KEY_CHANGES).from_select(["n"], total, include_defaults=False))


_ANY_TEST_KEY = CompiledStatement(
    select(exists().where(ApiKey.kind == KeyKind.TEST.value, ApiKey.revoked_at.is_(None))), of_all_tenants=True
)


def any_test_key(database: Database) -> bool:
    """Return whether any tenant has a test key that is not revoked. Raises :class:`DatabaseUnavailable`."""
    return bool(database.find(_ANY_TEST_KEY, {})[0][0])


def record_uses(session: Session, when: Mapping[UUID, datetime]) -> None:
    """Record when these keys were last used. Keys whose row is gone are ignored."""
    if when:
        noted = update(API_KEYS).where(API_KEYS.c.id == bindparam("key_id")).values(last_used_at=bindparam("moment"))
        session.execute(noted, [{"key_id": key_id, "moment": moment} for key_id, moment in sorted(when.items())])


def secret(session: Session, name: str) -> str | None:
    """Return a secret of the service itself, encrypted; None if there is none of that name."""
    return session.scalar(select(Secret.value).where(Secret.name == name))


def add_secret(session: Session, name: str, value: str) -> str:
    """Add an encrypted secret, unless another process has added it meanwhile.

    Return the stored one.
    """
    dialect = postgresql if dialect_of(session) == "postgresql" else sqlite
    session.execute(dialect.insert(Secret).values(name=name, value=value).on_conflict_do_nothing())
    return session.scalars(select(Secret.value).where(Secret.name == name)).one()


def forget_secrets(session: Session, names: Collection[str]) -> None:
    """Delete secrets of the service itself, as far as there are such."""
    session.execute(delete(Secret).where(Secret.name.in_(names)))


@contextmanager
def _name_taken() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise Conflict("There is a tenant of that name.") from error


def _page(found: Sequence[Row], count: int, limit: int) -> tuple[Sequence[Row], int, UUID | None]:
    shown = found[:limit]
    return shown, count, shown[-1].id if shown and len(found) > limit else None
