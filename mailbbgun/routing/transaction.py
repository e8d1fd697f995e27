"""What routing needs to know of a transaction, whatever else is known of it where it is claimed."""

from typing import Protocol
from uuid import UUID


class OnRoute(Protocol):
    """It leaves by ``route``, for now."""

    route: str


class Queued(OnRoute, Protocol):
    """It waits for its turn: on a lane, as one of its tenant's."""

    candidates: list[str]  # the other routes it may take, best first
    lined_up: float  # monotonic seconds

    @property
    def lane(self) -> str:
        """The lane of its hint."""

    @property
    def tenant_id(self) -> UUID:
        """Whose it is."""
