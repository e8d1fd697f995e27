"""The verb: list a message's events.

The HTTP API and the command line both use it.
"""

from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from mailbbgun.events import repo
from mailbbgun.messages import repo as messages
from mailbbgun.messages.find import missing


def page(
    session: Session,
    tenant_id: UUID,
    message_id: UUID,
    *,
    limit: int,
    offset: int,
    after: UUID | None,
    tests_only: bool = False,
) -> tuple[list[dict[str, Any]], int, UUID | None]:
    """Return a page of events: see :func:`repo.page`.

    Raises :class:`NotFound` if the tenant has no such message; with ``tests_only``, no such test message.
    """
    if not messages.exists(session, tenant_id, message_id, tests_only=tests_only):
        raise missing()
    return repo.page(session, tenant_id, message_id, limit=limit, offset=offset, after=after, tests_only=tests_only)
