"""When a message is to be sent, and until when it is useful. Pure."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple


class Timing(NamedTuple):
    """The two times of a message, in UTC.

    ``send_at``: when its first attempt is due; None: now. ``useful_until``: after this it is not
    sent any more; None: RETRY_DELAYS decide.
    """

    send_at: datetime | None = None
    useful_until: datetime | None = None


NOW = Timing()


def timing(send_at: datetime | None, useful_until: datetime | None, ttl: int | None, now: datetime) -> Timing:
    """Return the times that a client asks for. A ``send_at`` in the past is now.

    ``ttl``: seconds from the first attempt's time on; it makes ``useful_until``.
    """
    if send_at is None and useful_until is None and ttl is None:
        return NOW
    later = send_at if send_at is not None and send_at > now else None
    if ttl is not None:
        useful_until = (later or now) + timedelta(seconds=ttl)
    return Timing(later, useful_until)


def faults(
    send_at: datetime | None, useful_until: datetime | None, ttl: int | None, *, now: datetime, days: int
) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the times that a client asks for: the field, and a sentence.

    ``days``: how far ahead a message may be scheduled.
    """
    if send_at is not None and send_at > now + timedelta(days=days):
        yield "send_at", f"Is more than {days} days ahead (MAX_SCHEDULE_DAYS)."
    if useful_until is None:
        return
    if ttl is not None:
        yield "ttl", "Give either ttl or useful_until: both say until when the message is useful."
    if useful_until <= now:
        yield "useful_until", "Has passed, so the message would never be sent."
    elif send_at is not None and useful_until <= send_at:
        yield "useful_until", "Is not after send_at, so the message would never be sent."
