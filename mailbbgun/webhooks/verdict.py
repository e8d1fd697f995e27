"""Says what an answer to a webhook means. Pure."""

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

from mailbbgun.webhooks.sending import SentRequest

#: Seconds until the next try of an event that failed by itself. After the last one it is given up.
RETRY_DELAYS = (5, 60, 300, 1800, 7200, 18_000, 36_000)
#: Seconds that an endpoint is paused: the first time, and at most. Each pause is twice the one before.
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0
#: Most seconds that a receiver may ask us to wait (Retry-After).
LONGEST_RETRY_AFTER = 3600.0
#: Different events in a row that fail until the endpoint as a whole is taken to fail.
FAILURES = 5

_STOPS = {
    410: "it answered 410 Gone, which asks for no more events",
    406: "it answered 406 Not Acceptable, which asks for no more events",
}


class WebhookVerdict(StrEnum):
    """What one try means."""

    DONE = "done"  # acknowledged
    STOP = "stop"  # the endpoint wants no more
    PAUSE = "pause"  # the endpoint as a whole cannot take events now
    FAILED = "failed"  # either this event or the endpoint: the next tries show which

    @property
    def counted_as(self) -> str:
        """What metrics call it: for them a pause is a failure, too."""
        return {WebhookVerdict.DONE: "ok", WebhookVerdict.STOP: "gone"}.get(self, "failed")


def verdict(tried: SentRequest) -> WebhookVerdict:
    """Return what a try means."""
    if tried.status is None:
        return WebhookVerdict.FAILED if tried.why in ("timeout", "broken") else WebhookVerdict.PAUSE
    if 200 <= tried.status < 300:
        return WebhookVerdict.DONE
    if tried.status in _STOPS:
        return WebhookVerdict.STOP
    if tried.status == 429 or (tried.status == 503 and "retry-after" in tried.answer_headers):
        return WebhookVerdict.PAUSE
    return WebhookVerdict.FAILED


def error(tried: SentRequest) -> str | None:
    """Return why a try does not count as acknowledged, for people; None if it does."""
    if tried.status is None or 200 <= tried.status < 300:
        return tried.error
    if tried.status in _STOPS:
        return f"Not acknowledged: {_STOPS[tried.status]}."
    if 300 <= tried.status < 400:
        return f"It answered {tried.status}; redirects are not followed. Set the final URL."
    return f"It answered {tried.status}; an answer from 200 to 299 acknowledges an event."


def why_stopped(tried: SentRequest) -> str:
    """Return why an endpoint is disabled after :attr:`Verdict.STOP`."""
    return _STOPS[tried.status or 0]


def pause_seconds(pauses: int, tried: SentRequest, now: datetime) -> float:
    """Return how long an endpoint rests after so many pauses in a row: what it asks for, but not for ever."""
    longest = min(FIRST_PAUSE * 2 ** min(pauses, 10), LONGEST_PAUSE)
    return max(_jittered(longest), min(_asked(tried, now), LONGEST_RETRY_AFTER))


def retry_seconds(tries: int) -> float | None:
    """Return the seconds until an event is tried again after so many retries; None: no more."""
    return _jittered(RETRY_DELAYS[tries]) if tries < len(RETRY_DELAYS) else None


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.9, 1.1)


def _asked(tried: SentRequest, now: datetime) -> float:
    """Return the seconds of a Retry-After (RFC 9110 §10.2.3); 0 if there is none that can be read."""
    text = tried.answer_headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the second for numbers that are far too large
        return 0.0
    return max(0.0, ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds())
