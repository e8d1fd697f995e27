"""Whether a licence is in force. Pure."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

#: By so much the clocks of those who issue, and of those who use a licence, may differ. Both ends of its time move.
SKEW = timedelta(seconds=60)


class LicenceState(StrEnum):
    """The state of a licence at a moment. Only one that is ``VALID`` is in force."""

    VALID = "valid"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    REVOKED = "revoked"
    SUPERSEDED = "superseded"


class LicenceFacts(Protocol):
    """What the state depends on."""

    not_before: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    superseded_at: datetime | None


def standing(licence: LicenceFacts, now: datetime) -> LicenceState:
    """Return the state of a licence. If several are true, the one that lasts for ever comes first."""
    if licence.revoked_at is not None:
        return LicenceState.REVOKED
    if licence.superseded_at is not None and licence.superseded_at <= now:
        return LicenceState.SUPERSEDED
    if licence.expires_at is not None and licence.expires_at + SKEW <= now:
        return LicenceState.EXPIRED
    return LicenceState.VALID if licence.not_before - SKEW <= now else LicenceState.NOT_YET_VALID
