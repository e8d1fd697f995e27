"""Tells of SMTP accounts by which no mail is sent for a while: the circuits that workers open and close."""

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from mailbbgun.events import log
from mailbbgun.events.kinds import Kind
from mailbbgun.smtp_accounts import repo
from mailbbgun.smtp_accounts.models import SMTPAccount


def report(
    session: Session, worker_id: UUID, opened: Mapping[UUID, Mapping[str, Any]], turned: Collection[UUID]
) -> None:
    """Replace the open circuits of a worker: account → ``failures`` and ``reply``. The caller commits.

    An account has one event when the first worker opens its circuit, and one when the last one closes it.
    ``turned``: the accounts whose circuits this worker has opened or closed now.
    """
    locked = select(SMTPAccount.id).where(SMTPAccount.id.in_(sorted(turned))).order_by(SMTPAccount.id)
    session.execute(locked.with_for_update(key_share=True)).all()  # so that two workers tell one after the other
    before = repo.paused(session)
    repo.report_circuits(session, worker_id, opened)
    after = repo.paused(session)
    changed = before ^ after
    its = select(SMTPAccount.id, SMTPAccount.tenant_id, SMTPAccount.setting_name).where(SMTPAccount.id.in_(changed))
    events = []
    for account_id, tenant_id, name in session.execute(its.order_by(SMTPAccount.id)) if changed else ():
        kind = Kind.CIRCUIT_OPENED if account_id in after else Kind.CIRCUIT_CLOSED
        data = {"account": name, **(opened.get(account_id) or {})}
        events.append(log.event(tenant_id, None, None, kind, data))
    log.append(session, events)
