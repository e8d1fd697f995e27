"""A mail transaction: what a sender sends at once."""

from dataclasses import dataclass, field
from uuid import UUID

from mailbbgun.deliver.claim import Claim


@dataclass(slots=True, eq=False)
class Transaction:
    """One mail transaction (RFC 5321 §3.3): a message to recipients that share a route."""

    message_id: UUID
    mail_from: str
    smtputf8: bool
    raw: bytes | None  # None: read it when its turn comes
    route: str
    claims: list[Claim]
    candidates: list[str] = field(default_factory=list)  # the routes it may take besides, best first
    own_mail_from: bool = False  # the message names its envelope's sender; else an account may have one
    failed: list[dict[str, str]] = field(default_factory=list)  # accounts that could not take it in this try, and why
    lined_up: float = 0.0  # monotonic seconds
    started: float | None = None  # boot-clock seconds
    limit: float = 0.0  # seconds it may take from then on before it counts as hanging

    @property
    def lane(self) -> str:
        """The lane it waits on."""
        return self.claims[0].lane

    @property
    def tenant_id(self) -> UUID:
        """Whose it is."""
        return self.claims[0].tenant_id

    @property
    def log_fields(self) -> dict[str, object]:
        """What a log line about it tells."""
        return {"message_id": self.message_id, "tenant_id": self.tenant_id, "key_id": self.claims[0].key_id}
