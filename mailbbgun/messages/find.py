"""The verbs: list a tenant's messages by filters, and show one of them.

The HTTP API and the command line both use these.
"""

from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.composing.compose import Composed
from mailbbgun.composing.contents import File
from mailbbgun.core.addresses import in_mailbox
from mailbbgun.core.errors import NotFound
from mailbbgun.database.db import Database
from mailbbgun.database.deadline import at_most
from mailbbgun.messages import repo
from mailbbgun.messages.loading import Contents

#: Seconds that the database may take for one list.
LIST_SECONDS = 10.0

_TOO_SLOW = (
    "It takes the database longer than {:g} s to find these messages; "
    "narrow the list by `since` and `until`, or by `to`."
)


def page(session: Session, wanted: repo.Wanted) -> tuple[list[dict[str, Any]], int, UUID | None]:
    """Return a page of messages: see :func:`repo.page`.

    Raises :class:`TookTooLong` if the database needs more than :data:`LIST_SECONDS`.
    """
    with at_most(session, LIST_SECONDS, _TOO_SLOW.format(LIST_SECONDS)):
        return repo.page(session, wanted)


def next_ones(session: Session, wanted: repo.Wanted) -> tuple[list[dict[str, Any]], UUID | None]:
    """Return a page without the count: see :func:`repo.next_ones`. Raises what :func:`page` does."""
    with at_most(session, LIST_SECONDS, _TOO_SLOW.format(LIST_SECONDS)):
        return repo.next_ones(session, wanted)


def details(database: Database, tenant_id: UUID, message_id: UUID, *, tests_only: bool = False) -> dict[str, Any]:
    """Return a tenant's message with its deliveries and files, in the form that ``schemas.Details`` takes.

    Raises :class:`NotFound`; with ``tests_only`` also if the message is no test message.
    """
    with database.read(tenant_id, tests_only=tests_only) as session:
        found = repo.details(session, tenant_id, message_id, tests_only=tests_only)
    if found is None:
        raise missing()
    return found | {"attachments": _files(database, found["content_id"])}


def _files(database: Database, content_id: UUID | None) -> list[File]:
    content = Contents(database).of([content_id]).get(content_id) if content_id else None
    return [*content.files] if content else []


def mime(database: Database, tenant_id: UUID, message_id: UUID, *, tests_only: bool = False) -> Composed:
    """Return a tenant's message as it is sent, in pieces.

    Raises :class:`NotFound`, and what :func:`details` does.
    """
    with database.read(tenant_id, tests_only=tests_only) as session:
        if not repo.exists(session, tenant_id, message_id, tests_only=tests_only):
            raise missing()
    composed = Contents(database).messages([message_id])[message_id].composed()
    if composed is None:
        raise NotFound("The message's body was deleted, as RETENTION_DAYS says.")
    return composed


def author(database: Database, tenant_id: UUID, message_id: UUID) -> str:
    """Return the address in a message's From. Raises :class:`NotFound`."""
    with database.read(tenant_id) as session:
        sender = repo.sender(session, tenant_id, message_id)
    if sender is None:
        raise missing()
    return in_mailbox(sender)


def missing() -> NotFound:
    """Return the error for a message that does not exist or belongs to another tenant."""
    return NotFound("There is no such message.")
