"""Queries about templates and their versions. They take a session and never commit."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, select, true, update
from sqlalchemy.orm import Session

from mailbbgun.core.ids import new_id
from mailbbgun.templates.models import Template, TemplateVersion

_UNSYNCHRONIZED = {"synchronize_session": False}

Page = tuple[Sequence[Template], int, UUID | None]


def _its(table: Any, tenant_id: UUID, tests_only: bool) -> list[ColumnElement[bool]]:
    return [table.tenant_id == tenant_id, *([table.test == true()] if tests_only else [])]


def page(
    session: Session,
    tenant_id: UUID,
    *,
    tests_only: bool = False,
    name: str | None = None,
    limit: int,
    offset: int,
    after: UUID | None,
) -> Page:
    """Return a page of a tenant's templates, newest first, how many there are, and the last id if there are more."""
    its = _its(Template, tenant_id, tests_only)
    if name is not None:
        its.append(Template.name == name)
    count = session.scalar(select(func.count()).select_from(Template).where(*its)) or 0
    older = [] if after is None else [Template.id < after]
    statement = select(Template).where(*its, *older).order_by(Template.id.desc()).offset(offset).limit(limit + 1)
    found = session.scalars(statement).all()
    shown = found[:limit]
    return shown, count, shown[-1].id if shown and len(found) > limit else None


def count(session: Session, tenant_id: UUID, *, tests_only: bool) -> int:
    """Return how many templates a tenant has; how many test keys made if ``tests_only``."""
    its = _its(Template, tenant_id, tests_only)
    return session.scalar(select(func.count()).select_from(Template).where(*its)) or 0


def by_id(session: Session, tenant_id: UUID, template_id: UUID, *, tests_only: bool) -> Template | None:
    """Return a template of a tenant; None if it has no such one."""
    return session.scalar(select(Template).where(*_its(Template, tenant_id, tests_only), Template.id == template_id))


def named(session: Session, tenant_id: UUID, name: str, *, tests_only: bool) -> Template | None:
    """Return the template of this name: of test keys if ``tests_only``, of other keys if not."""
    kind = [] if tests_only else [Template.test.is_(False)]
    return session.scalar(select(Template).where(*_its(Template, tenant_id, tests_only), *kind, Template.name == name))


def version(session: Session, template: Template, number: int, *, tests_only: bool) -> TemplateVersion | None:
    """Return a version of a template; None if there is none of this number."""
    its = _its(TemplateVersion, template.tenant_id, tests_only)
    return session.scalar(
        select(TemplateVersion).where(
            *its, TemplateVersion.template_id == template.id, TemplateVersion.number == number
        )
    )


def versions(session: Session, template: Template, *, tests_only: bool) -> Sequence[TemplateVersion]:
    """Return all versions of a template, newest first."""
    its = _its(TemplateVersion, template.tenant_id, tests_only)
    statement = select(TemplateVersion).where(*its, TemplateVersion.template_id == template.id)
    return session.scalars(statement.order_by(TemplateVersion.number.desc())).all()


def last_number(session: Session, template: Template, *, tests_only: bool) -> int:
    """Return the number of the newest version of a template."""
    its = _its(TemplateVersion, template.tenant_id, tests_only)
    newest = select(func.max(TemplateVersion.number)).where(*its, TemplateVersion.template_id == template.id)
    return session.scalar(newest) or 0


def add(session: Session, values: Mapping[str, Any]) -> Template:
    """Store a template."""
    made = Template(**values)
    session.add(made)
    session.flush()
    return made


def add_version(
    session: Session, template: Template, number: int, values: Mapping[str, Any], now: datetime
) -> TemplateVersion:
    """Store a version of a template: its ``texts`` and ``variables``."""
    made = TemplateVersion(
        id=new_id(),
        tenant_id=template.tenant_id,
        test=template.test,
        template_id=template.id,
        number=number,
        created_at=now,
        **values,
    )
    session.add(made)
    session.flush()
    return made


def change(session: Session, template: Template, values: Mapping[str, Any], *, tests_only: bool) -> None:
    """Change columns of a template, also in the object given."""
    its = (*_its(Template, template.tenant_id, tests_only), Template.id == template.id)
    session.execute(update(Template).where(*its).values(**values).execution_options(**_UNSYNCHRONIZED))
    session.scalar(select(Template).where(*its).execution_options(populate_existing=True))


def forget_versions(session: Session, template: Template, below: int, *, tests_only: bool) -> None:
    """Delete the versions of a template with a number below this one, except the active one."""
    its = _its(TemplateVersion, template.tenant_id, tests_only)
    old = (TemplateVersion.number < below, TemplateVersion.number != template.active)
    session.execute(
        delete(TemplateVersion)
        .where(*its, TemplateVersion.template_id == template.id, *old)
        .execution_options(**_UNSYNCHRONIZED)
    )


def remove(session: Session, template: Template, *, tests_only: bool) -> None:
    """Delete a template and its versions."""
    its = _its(TemplateVersion, template.tenant_id, tests_only)
    session.execute(
        delete(TemplateVersion)
        .where(*its, TemplateVersion.template_id == template.id)
        .execution_options(**_UNSYNCHRONIZED)
    )
    session.execute(
        delete(Template)
        .where(*_its(Template, template.tenant_id, tests_only), Template.id == template.id)
        .execution_options(**_UNSYNCHRONIZED)
    )
