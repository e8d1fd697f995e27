"""The attributes of a transaction that routing needs."""

from typing import Protocol
from uuid import UUID


class OnRoute(Protocol):
    """A transaction with the ``route`` it currently leaves by."""

    route: str


class Queued(OnRoute, Protocol):
    """A transaction that can wait in the send queue, on a lane and in its tenant's turn."""

    candidates: list[str]  # the other routes it may take, best first
    lined_up: float  # when it came into the send queue; monotonic seconds

    @property
    def lane(self) -> str:
        """The lane its hint came from."""

    @property
    def tenant_id(self) -> UUID:
        """The tenant whose mail it is."""
