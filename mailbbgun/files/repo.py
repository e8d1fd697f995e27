"""Queries about shared files. They take a session and never commit.

A file whose time has come is found by none of them, whether it was deleted already or not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, or_, select, true, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from mailbbgun.core.ids import first_id_at, new_id
from mailbbgun.database.db import db_now, dialect_of
from mailbbgun.files.models import NamedFile

#: Sorts after each character that a name may have.
_LAST = "\U0010ffff"

_UNSYNCHRONIZED = {"synchronize_session": False}


@dataclass(frozen=True, slots=True)
class WantedFiles:
    """Which files to list. ``folder``: those directly in it; "" is the top."""

    tenant_id: UUID
    tests_only: bool = False
    name: str | None = None
    prefix: str | None = None
    folder: str | None = None
    sha256: str | None = None
    test: bool | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 10
    offset: int = 0
    after: UUID | None = None


def _its(tenant_id: UUID, tests_only: bool) -> list[ColumnElement[bool]]:
    there = or_(NamedFile.expires_at.is_(None), NamedFile.expires_at > db_now())
    return [NamedFile.tenant_id == tenant_id, there, *([NamedFile.test == true()] if tests_only else [])]


def _own_kind(test: bool) -> list[ColumnElement[bool]]:
    """Return the condition that files belong to test keys, or to others, in the form the tenant filter knows."""
    return [NamedFile.test == true()] if test else [NamedFile.test.is_(False)]


def file(session: Session, tenant_id: UUID, file_id: UUID, *, tests_only: bool = False) -> NamedFile | None:
    """Return a file of a tenant; None if it has no such one."""
    return session.scalar(select(NamedFile).where(*_its(tenant_id, tests_only), NamedFile.id == file_id))


def called(session: Session, tenant_id: UUID, name: str, *, test: bool) -> NamedFile | None:
    """Return the file of a tenant with this name; None if there is none."""
    its = (*_its(tenant_id, test), *_own_kind(test), NamedFile.name == name)
    return session.scalar(select(NamedFile).where(*its).execution_options(populate_existing=True))


def add(session: Session, tenant_id: UUID, values: Mapping[str, Any], *, test: bool) -> bool:
    """Add a file, unless there is one of that name. Return whether it was added."""
    gone = (
        NamedFile.tenant_id == tenant_id,
        *_own_kind(test),
        NamedFile.name == values["name"],
        NamedFile.expires_at <= db_now(),
    )
    session.execute(delete(NamedFile).where(*gone).execution_options(**_UNSYNCHRONIZED))
    dialect = postgresql if dialect_of(session) == "postgresql" else sqlite
    row = {"id": new_id(), "tenant_id": tenant_id, "test": test, "created_at": db_now(), "updated_at": db_now()}
    statement = dialect.insert(NamedFile).values(
        {getattr(NamedFile, name): value for name, value in {**row, **values}.items()}
    )
    statement = statement.on_conflict_do_nothing(index_elements=["tenant_id", "test", "name"])
    return session.scalar(statement.returning(NamedFile.id)) is not None


def change(session: Session, its: NamedFile, values: Mapping[str, Any]) -> bool:
    """Change columns of a file. Return whether it is still there."""
    where = (NamedFile.tenant_id == its.tenant_id, *_own_kind(its.test), NamedFile.id == its.id)
    columns = {getattr(NamedFile, name): value for name, value in {**values, "updated_at": db_now()}.items()}
    statement = update(NamedFile).where(*where).values(columns).returning(NamedFile.id)
    return session.scalar(statement.execution_options(**_UNSYNCHRONIZED)) is not None


def remove(session: Session, its: NamedFile) -> bool:
    """Delete a file; return whether it was still there."""
    where = (NamedFile.tenant_id == its.tenant_id, *_own_kind(its.test), NamedFile.id == its.id)
    statement = delete(NamedFile).where(*where).returning(NamedFile.id)
    return session.scalar(statement.execution_options(**_UNSYNCHRONIZED)) is not None


def page(session: Session, wanted: WantedFiles) -> tuple[Sequence[NamedFile], int, UUID | None]:
    """Return a page of files, newest first, how many there are, and the last id if there are more."""
    its = _matching(wanted)
    count = session.scalar(select(func.count()).select_from(NamedFile).where(*its)) or 0
    if not wanted.limit:
        return [], count, None
    older = [] if wanted.after is None else [NamedFile.id < wanted.after]
    statement = select(NamedFile).where(*its, *older).order_by(NamedFile.id.desc())
    found = session.scalars(statement.offset(wanted.offset).limit(wanted.limit + 1)).all()
    shown = found[: wanted.limit]
    return shown, count, shown[-1].id if len(found) > wanted.limit else None


def _matching(wanted: WantedFiles) -> list[ColumnElement[bool]]:
    conditions = _its(wanted.tenant_id, wanted.tests_only)
    for column in ("name", "sha256", "test"):
        if (value := getattr(wanted, column)) is not None:
            conditions.append(getattr(NamedFile, column) == value)
    if wanted.prefix:
        conditions += _beginning(wanted.prefix)
    if wanted.folder is not None:
        begins = f"{wanted.folder.removesuffix('/')}/" if wanted.folder else ""
        conditions += _beginning(begins) if begins else []
        conditions.append(~func.substr(NamedFile.name, len(begins) + 1).contains("/"))
    if wanted.since is not None:
        conditions.append(NamedFile.id >= first_id_at(wanted.since))
    if wanted.until is not None:
        conditions.append(NamedFile.id < first_id_at(wanted.until))
    return conditions


def _beginning(prefix: str) -> list[ColumnElement[bool]]:
    """Return the conditions of names with a prefix. No LIKE: in SQLite it takes ``a`` for ``A``."""
    return [NamedFile.name >= prefix, NamedFile.name < prefix + _LAST]
