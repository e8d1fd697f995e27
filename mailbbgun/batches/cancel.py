"""The verb: cancel those messages of a batch that have not left. The API and the command line use it."""

from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from mailbbgun.batches import repo
from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import Forbidden, NotFound
from mailbbgun.database.db import Database
from mailbbgun.database.texts import mailbox_in
from mailbbgun.events.changes import record
from mailbbgun.messages.models import MESSAGES


def cancel(db: Database, who: Caller, batch_id: UUID) -> dict[str, Any]:
    """Cancel the deliveries of a batch that no worker is sending; return the batch as it is then.

    ``cancelled`` in it is how many messages this call cancelled. Raises :class:`NotFound`, and
    :class:`Forbidden` if the caller could not send such messages itself; then nothing is changed.
    """
    tenant_id, tests_only = who.tenant_id, who.tests_only
    with db.write(tenant_id, tests_only=tests_only) as session:
        batch = repo.details(session, tenant_id, batch_id, tests_only=tests_only)
        if batch is None:
            raise NotFound("There is no such batch.")
        _check_may_send(session, who, batch)
        its = repo.of_batch(batch, tenant_id, tests_only)
        cancelled = record.cancel_all(session, tenant_id, its, tests_only=tests_only)
        if strangers := [address for address in cancelled if not batch["test"] and not who.may_send_to(address)]:
            raise Forbidden(f"This API key sends to its guests only, and {strangers[0]}, a recipient of this, is none.")
        repo.mark_cancelled(session, tenant_id, batch_id, tests_only=tests_only)
    with db.read(tenant_id, tests_only=tests_only) as session:
        found = repo.details(session, tenant_id, batch_id, tests_only=tests_only)
    return {**(found or batch), "cancelled": len(cancelled)}


def _check_may_send(session: Session, who: Caller, batch: dict[str, Any]) -> None:
    """Raise :class:`Forbidden` unless the caller may send as each sender of a batch."""
    if batch["test"] or not who.senders:
        return
    senders = select(mailbox_in(MESSAGES.c.sender), MESSAGES.c.mail_from).distinct()
    for pair in session.execute(senders.where(repo.of_batch(batch, who.tenant_id, who.tests_only))):
        for address in pair:
            if not who.may_send_as(address):
                raise Forbidden(f"This API key may not send as {address}, the sender of this.")
