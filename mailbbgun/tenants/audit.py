"""The verb: write down what must not go unseen, in the transaction of what was done or is about to be shown."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from mailbbgun.core.caller import Caller
from mailbbgun.core.ids import new_id
from mailbbgun.tenants.models import AuditEntry

REVEALED = "credentials.revealed"


def note(session: Session, caller: Caller, address: str | None, action: str, data: Mapping[str, Any]) -> None:
    """Add an entry: who did it, from which IP address, and ``data``, of which JSON can be made and which holds no secret."""
    who = {"tenant_id": caller.tenant_id, "key_id": caller.key_id, "address": address and address[:45]}
    session.add(AuditEntry(id=new_id(), at=datetime.now(UTC), action=action, data=dict(data), **who))
    session.flush()
