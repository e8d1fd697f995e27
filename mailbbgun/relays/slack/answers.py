"""What Slack answers, and what that means for a message. Pure.

A reply of Slack's gets a code of SMTP, so journals, retries and pages treat it like any other: 250
posted, 450 and 451 try again, 535 the account is wrong, 550 never.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from mailbbgun.relays.slack.errors import VERDICTS, SlackVerdict, told, verdict
from mailbbgun.smtp.outcome import AnsweringServer, Bounced, Deferred, Delivered, Phase, Refused
from mailbbgun.smtp.reply import Reply

#: Seconds that an account waits after a 429 without Retry-After, and at most.
PAUSE_SECONDS, LONGEST_PAUSE = 30.0, 3600.0

_POSTED = re.compile(r"ok: channel (\S+), ts ([0-9]+\.[0-9]+)")


class Posted(NamedTuple):
    """Where Slack has put a message."""

    channel: str
    ts: str


def posted(reply: str | None) -> Posted | None:
    """Return where a message is, by the reply of its delivery; None if the reply does not tell."""
    found = _POSTED.match(reply) if reply and reply.startswith("ok: ") else None
    return Posted(found[1], found[2]) if found else None


class SlackAnswer(NamedTuple):
    """What Slack said to one request. ``error``: its name for what is wrong; empty if nothing is."""

    status: int
    error: str = ""
    retry_after: float | None = None
    channel: str = ""
    ts: str = ""
    data: Mapping[str, Any] = {}


def is_limit(answer: SlackAnswer) -> bool:
    """Say whether Slack wants nothing more of the account for a while."""
    return answer.status == 429 or answer.error in ("ratelimited", "rate_limited")


def judged(answer: SlackAnswer, server: AnsweringServer | None = None) -> Delivered | Deferred | Bounced | Refused:
    """Return what an answer means for the message."""
    if not answer.error:
        where = f"ok: channel {answer.channel}, ts {answer.ts}" if answer.ts else "ok"
        return Delivered(Reply(250, None, where), server)
    if is_limit(answer):
        after = min(max(answer.retry_after or PAUSE_SECONDS, 1.0), LONGEST_PAUSE)
        return Deferred(Reply(450, None, f"ratelimited: try again in {after:.0f} s"), Phase.DOT, after, server)
    what = told(answer.error) if answer.error in VERDICTS or answer.status < 300 else f"HTTP {answer.status}"
    if answer.status >= 500 or answer.status in (408, 425) or 300 <= answer.status < 400:
        later = None if answer.retry_after is None else min(max(answer.retry_after, 1.0), LONGEST_PAUSE)
        return Deferred(Reply(451, None, what), Phase.DOT, later, server)
    found = verdict(answer.error)
    if found is SlackVerdict.ACCOUNT or answer.status == 401:
        return Refused(Reply(535, None, what), Phase.DOT, server)
    if found is SlackVerdict.NEVER or 400 <= answer.status < 500:
        return Bounced(Reply(550, None, what), Phase.DOT, server)
    return Deferred(Reply(451, None, what), Phase.DOT, None, server)
