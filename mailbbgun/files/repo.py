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
from mailbbgun.files.models import File

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
    there = or_(File.expires_at.is_(None), File.expires_at > db_now())
    return [File.tenant_id == tenant_id, there, *([File.test == true()] if tests_only else [])]


def _own_kind(test: bool) -> list[ColumnElement[bool]]:
    """Return the condition that files belong to test keys, or to others, in the form the tenant filter knows."""
    return [File.test == true()] if test else [File.test.is_(False)]


def file(session: Session, tenant_id: UUID, file_id: UUID, *, tests_only: bool = False) -> File | None:
    """Return a file of a tenant; None if it has no such one."""
    return session.scalar(select(File).where(*_its(tenant_id, tests_only), File.id == file_id))


def called(session: Session, tenant_id: UUID, name: str, *, test: bool) -> File | None:
    """Return the file of a tenant with this name; None if there is none."""
    its = (*_its(tenant_id, test), *_own_kind(test), File.name == name)
    return session.scalar(select(File).where(*its).execution_options(populate_existing=True))


def add(session: Session, tenant_id: UUID, values: Mapping[str, Any], *, test: bool) -> bool:
    """Add a file, unless there is one of that name. Return whether it was added."""
    gone = (File.tenant_id == tenant_id, *_own_kind(test), File.name == values["name"], File.expires_at <= db_now())
    session.execute(delete(File).where(*gone).execution_options(**_UNSYNCHRONIZED))
    dialect = postgresql if dialect_of(session) == "postgresql" else sqlite
    row = {"id": new_id(), "tenant_id": tenant_id, "test": test, "created_at": db_now(), "updated_at": db_now()}
    statement = dialect.insert(File).values({getattr(File, name): value for name, value in {**row, **values}.items()})
    statement = statement.on_conflict_do_nothing(index_elements=["tenant_id", "test", "name"])
    return session.scalar(statement.returning(File.id)) is not None


def change(session: Session, its: File, values: Mapping[str, Any]) -> bool:
    """Change columns of a file. Return whether it is still there."""
    where = (File.tenant_id == its.tenant_id, *_own_kind(its.test), File.id == its.id)
    columns = {getattr(File, name): value for name, value in {**values, "updated_at": db_now()}.items()}
    statement = update(File).where(*where).values(columns).returning(File.id)
    return session.scalar(statement.execution_options(**_UNSYNCHRONIZED)) is not None


def remove(session: Session, its: File) -> bool:
    """Delete a file; return whether it was still there."""
    where = (File.tenant_id == its.tenant_id, *_own_kind(its.test), File.id == its.id)
    statement = delete(File).where(*where).returning(File.id)
    return session.scalar(statement.execution_options(**_UNSYNCHRONIZED)) is not None


def page(session: Session, wanted: WantedFiles) -> tuple[Sequence[File], int, UUID | None]:
    """Return a page of files, newest first, how many there are, and the last id if there are more."""
    its = _matching(wanted)
    count = session.scalar(select(func.count()).select_from(File).where(*its)) or 0
    if not wanted.limit:
        return [], count, None
    older = [] if wanted.after is None else [File.id < wanted.after]
    statement = select(File).where(*its, *older).order_by(File.id.desc())
    found = session.scalars(statement.offset(wanted.offset).limit(wanted.limit + 1)).all()
    shown = found[: wanted.limit]
    return shown, count, shown[-1].id if len(found) > wanted.limit else None


def _matching(wanted: WantedFiles) -> list[ColumnElement[bool]]:
    conditions = _its(wanted.tenant_id, wanted.tests_only)
    for column in ("name", "sha256", "test"):
        if (value := getattr(wanted, column)) is not None:
            conditions.append(getattr(File, column) == value)
    if wanted.prefix:
        conditions += _beginning(wanted.prefix)
    if wanted.folder is not None:
        begins = f"{wanted.folder.removesuffix('/')}/" if wanted.folder else ""
        conditions += _beginning(begins) if begins else []
        conditions.append(~func.substr(File.name, len(begins) + 1).contains("/"))
    if wanted.since is not None:
        conditions.append(File.id >= first_id_at(wanted.since))
    if wanted.until is not None:
        conditions.append(File.id < first_id_at(wanted.until))
    return conditions


def _beginning(prefix: str) -> list[ColumnElement[bool]]:
    """Return the conditions of names with a prefix. No LIKE: in SQLite it takes ``a`` for ``A``."""
    return [File.name >= prefix, File.name < prefix + _LAST]
