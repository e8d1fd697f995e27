"""Counts the bytes of files that a tenant has, and refuses more than it may have.

The functions take a session and never commit: the count changes in the transaction that adds or deletes
the files.
"""

from collections.abc import Callable, Mapping
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from mailbbgun.core.errors import StorageFull
from mailbbgun.database.db import dialect_of
from mailbbgun.tenants.models import STORAGE, TENANTS


def used(session: Session, tenant_id: UUID) -> int:
    """Return the bytes of a tenant's files."""
    return session.scalar(select(STORAGE.c.used).where(STORAGE.c.tenant_id == tenant_id)) or 0


def check_room(session: Session, tenant_id: UUID, size: int) -> None:
    """Raise :class:`StorageFull` if a tenant has no room for so many bytes more. Nothing is reserved."""
    _refuse(_most(session, tenant_id), used(session, tenant_id), size)


def add(session: Session, tenant_id: UUID, size: int) -> None:
    """Count a new file of so many bytes. Raises :class:`StorageFull` if the tenant may not have it.

    Uploads of one tenant take turns from here to their commit, so together they cannot have more than one could.
    """
    most = _most(session, tenant_id)
    _refuse(most, _counted(session, tenant_id, size) - size, size)


def subtract(session: Session, sizes: Mapping[UUID, int]) -> None:
    """Count that files were deleted: tenant → bytes."""
    for tenant_id, size in sorted(sizes.items()):  # in one order, so that two transactions cannot wait for each other
        left = func.greatest if dialect_of(session) == "postgresql" else func.max
        values = {"used": left(STORAGE.c.used - size, 0)}
        session.execute(update(STORAGE).where(STORAGE.c.tenant_id == tenant_id).values(values))


def correct(session: Session, tenant_id: UUID, measured: Callable[[], int]) -> None:
    """Replace the count of a tenant by what ``measured`` returns. Uploads wait meanwhile."""
    _counted(session, tenant_id, 0)
    values = {"used": measured()}
    session.execute(update(STORAGE).where(STORAGE.c.tenant_id == tenant_id).values(values))


def _counted(session: Session, tenant_id: UUID, size: int) -> int:
    """Count so many bytes more, and return the count. It is locked until the transaction ends."""
    dialect = postgresql if dialect_of(session) == "postgresql" else sqlite
    statement = dialect.insert(STORAGE).values(tenant_id=tenant_id, used=size)
    statement = statement.on_conflict_do_update(index_elements=["tenant_id"], set_={"used": STORAGE.c.used + size})
    now: int = session.execute(statement.returning(STORAGE.c.used)).scalar_one()
    return now


def _most(session: Session, tenant_id: UUID) -> int | None:
    return session.scalar(select(TENANTS.c.max_storage).where(TENANTS.c.id == tenant_id))


def _refuse(most: int | None, has: int, size: int) -> None:
    if most is not None and has + size > most:
        raise StorageFull(
            f"There is no room for {size} bytes: this tenant's files have {has} of the {most} that they may have "
            "(max_storage). Delete some that nothing needs; their room is free within two hours."
        )
