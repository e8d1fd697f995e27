"""A mail transaction: one message to the recipients that it is sent to at once."""

from dataclasses import dataclass, field
from uuid import UUID

from mailbbgun.deliver.claim import Claim


@dataclass(slots=True, eq=False)
class Transaction:
    """One mail transaction (RFC 5321 §3.3): a message to recipients that share a route."""

    message_id: UUID
    mail_from: str
    smtputf8: bool
    raw: bytes | None  # None: read or compose it when it is about to be sent
    route: str
    claims: list[Claim]
    candidates: list[str] = field(default_factory=list)  # the other routes it may take, best first
    author: str = ""  # the address in From
    own_mail_from: bool = False  # whether the message names its envelope sender; else the account may
    received_for: str | None = None  # the local recipient whose inbound route made its delivery
    traceparent: str | None = None  # the trace that its request began; None: there is none
    failed: list[dict[str, str]] = field(default_factory=list)  # accounts that failed in this attempt, and why
    lined_up: float = 0.0  # when it came into the send queue; monotonic seconds
    started: float | None = None  # when sending began; boot-clock seconds
    selectors: list[str] = field(default_factory=list)  # of the DKIM keys that signed it in this attempt
    limit: float = 0.0  # seconds after ``started`` from which on it counts as hanging

    @property
    def lane(self) -> str:
        """The lane its hint came from."""
        return self.claims[0].lane

    @property
    def tenant_id(self) -> UUID:
        """The tenant whose message it is."""
        return self.claims[0].tenant_id

    @property
    def log_fields(self) -> dict[str, object]:
        """The fields of a log line about it."""
        return {"message_id": self.message_id, "tenant_id": self.tenant_id, "key_id": self.claims[0].key_id}
