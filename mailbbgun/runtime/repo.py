"""Statements about the runtime configuration. They take a session and never commit."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from mailbbgun.core.errors import ConfigurationError
from mailbbgun.messages.models import MessageCount
from mailbbgun.messages.status import PENDING
from mailbbgun.runtime.models import RuntimeSetting, RuntimeVersion

_V = RuntimeVersion


class Version(NamedTuple):
    """What processes look at each second."""

    version: int
    smtpd_restarts: int


def version(session: Session, *, locked: bool = False) -> Version:
    """Return the version. ``locked``: whoever else asks so waits until the end of this transaction."""
    asked = select(_V.version, _V.smtpd_restarts)
    found = session.execute(asked.with_for_update() if locked else asked).one_or_none()
    if found is None:
        raise ConfigurationError("the table runtime_version has lost its row: restore a backup (docs/howto/backup.rst)")
    return Version(*found)


def stored(session: Session) -> Sequence[RuntimeSetting]:
    """Return the settings that were changed."""
    return session.scalars(select(RuntimeSetting)).all()


def changes(session: Session) -> Mapping[str, Any]:
    """Return the values of the settings that were changed, by name."""
    return {one.name: json.loads(one.value) for one in stored(session)}


def put(session: Session, name: str, value: Any, at: datetime, by: UUID | None) -> None:
    """Store a setting's value in place of the one before."""
    session.merge(RuntimeSetting(name=name, value=json.dumps(value), changed_at=at, changed_by=by))
    session.flush()


def remove(session: Session, name: str) -> None:
    """Let a setting have its value of the file again."""
    session.execute(delete(RuntimeSetting).where(RuntimeSetting.name == name))


def changed(session: Session) -> None:
    """Tell every process that settings have changed."""
    session.execute(update(_V).values(version=_V.version + 1))


def restart_smtpd(session: Session) -> None:
    """Tell every process of the SMTP door to restart."""
    session.execute(update(_V).values(smtpd_restarts=_V.smtpd_restarts + 1))


def pending_messages(session: Session) -> int:
    """Return how many messages of all tenants are pending, by the numbers that triggers keep."""
    return int(session.scalar(select(func.sum(MessageCount.n)).where(MessageCount.status == PENDING)) or 0)
