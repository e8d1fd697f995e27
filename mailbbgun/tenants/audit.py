"""Writes the audit: acts that a tenant must be able to see later.

An entry is committed together with the act, or before an answer shows a secret.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from mailbbgun.core.caller import Caller
from mailbbgun.core.ids import new_id
from mailbbgun.tenants.models import AuditEntry

REVEALED = "credentials.revealed"


def note(session: Session, caller: Caller, address: str | None, action: str, data: Mapping[str, Any]) -> None:
    """Add an entry: the caller, the client's IP address and ``data``.

    ``data`` must be serialisable as JSON and hold no secret.
    """
    who = {"tenant_id": caller.tenant_id, "key_id": caller.key_id, "address": address and address[:45]}
    session.add(AuditEntry(id=new_id(), at=datetime.now(UTC), action=action, data=dict(data), **who))
    session.flush()
