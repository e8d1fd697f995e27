"""The relay to Slack: one message to a channel, by the Web API or by an incoming webhook.

What is sent is the JSON that ``slack/layout.py`` made when the message was accepted. Requests are
done in threads, a few at once.
"""

import http.client
import json
import threading
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol
from urllib.parse import urlsplit
from uuid import UUID

from mailbbgun.core.errors import DatabaseUnavailable
from mailbbgun.drivers.budget import Budget
from mailbbgun.drivers.operations import InThread
from mailbbgun.relays import simulator
from mailbbgun.relays.slack.answers import PAUSE_SECONDS, Posted, SlackAnswer, is_limit, judged
from mailbbgun.relays.slack.client import SlackTarget, Unreachable, ask, connect, webhook_permitted, words
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import (
    AnsweringServer,
    Bounced,
    Deferred,
    Delivered,
    Fenced,
    Outcome,
    Phase,
    Refused,
    Unknown,
)
from mailbbgun.smtp.reply import Reply
from mailbbgun.smtp.transaction import AfterDot, BeforeDot

#: Requests to Slack at once in one process, so that a slow Slack leaves threads to others.
AT_ONCE = 8
#: The field of a stored message with the id of an earlier one, in whose thread it goes.
THREAD = "thread"


class Unusable(Exception):
    """An account cannot be used. ``gone``: it never can be again; else its messages wait."""

    def __init__(self, why: str, *, gone: bool = False) -> None:
        super().__init__(why)
        self.gone = gone


class NotPostedYet(Exception):
    """The message, in whose thread another goes, is not posted yet; it may be in ``seconds``."""

    def __init__(self, message_id: UUID, seconds: float) -> None:
        super().__init__(f"it waits for message {message_id}, in whose thread it goes")
        self.seconds = seconds


class SlackSource(Protocol):
    """What the relay asks of the database. Both methods block."""

    def target(self, account_id: UUID) -> SlackTarget:
        """Return an account. Raises :class:`Unusable`, :class:`DatabaseUnavailable`."""

    def thread(self, message_id: UUID) -> Posted | None:
        """Return where a message is; None if it was not posted, or nobody knows where.

        Raises :class:`NotPostedYet`, :class:`DatabaseUnavailable`.
        """


class Slack:
    """The Slack accounts of one process: their names, and which Slack has asked to wait."""

    def __init__(self, api_url: str, timeout: int, source: SlackSource | None = None) -> None:
        self.api_url, self.timeout, self.source = api_url, timeout, source
        self.budget = Budget(AT_ONCE)
        self._lock = threading.Lock()
        self._names: dict[UUID, str] = {}
        self._paused: dict[UUID, float] = {}  # until when; monotonic seconds

    def paused_for(self, account_id: UUID) -> float:
        """Return for how many seconds Slack wants nothing of an account."""
        with self._lock:
            if (until := self._paused.get(account_id)) is None:
                return 0.0
            if (left := until - monotonic()) <= 0:
                del self._paused[account_id]
            return max(0.0, left)

    def pause(self, account_id: UUID, seconds: float) -> None:
        """Send nothing through an account for so many seconds."""
        with self._lock:
            self._paused[account_id] = max(monotonic() + seconds, self._paused.get(account_id, 0.0))

    def name(self, account_id: UUID) -> str | None:
        """Return the name of an account that was used already."""
        return self._names.get(account_id)

    def target(self, account_id: UUID) -> SlackTarget:
        """Return an account. Raises what :meth:`SlackSource.target` does."""
        if self.source is None:
            raise Unusable("this process knows no Slack accounts")
        found = self.source.target(account_id)
        if found.webhook_url is not None and not webhook_permitted(found.webhook_url, self.api_url):
            raise Unusable("the URL of the incoming webhook is not Slack's")
        with self._lock:
            self._names[account_id] = found.name
        return found

    def relay(self, account_id: UUID) -> "SlackRelay":
        """Return the relay of an account."""
        return SlackRelay(account_id, self)


@dataclass(frozen=True, slots=True)
class SlackRelay:
    """Posts messages through one account."""

    account_id: UUID
    slack: Slack

    async def attempt(self, envelope: Envelope, before_dot: BeforeDot, after_dot: AfterDot) -> dict[str, Outcome]:
        """Post the message to each channel, one after the other, until one is not possible at the moment."""
        outcomes: dict[str, Outcome] = {}
        stopped: Outcome | None = None
        for channel in dict.fromkeys(envelope.recipients):
            if stopped is None:
                async with self.slack.budget.taken(1):
                    outcomes[channel] = await self._post(channel, envelope, before_dot, after_dot)
                stopped = _also_of_others(outcomes[channel])
            else:
                outcomes[channel] = stopped
        return outcomes

    async def _post(self, channel: str, envelope: Envelope, before_dot: BeforeDot, after_dot: AfterDot) -> Outcome:
        ready = await self._prepared(channel, envelope)
        if not isinstance(ready, tuple):
            return ready
        if not await before_dot((channel,)):
            return Fenced(Phase.BODY)
        outcome = await self._asked(*ready)
        await after_dot((channel,), None if isinstance(outcome, Unknown) else outcome.reply)
        return outcome

    async def _prepared(
        self, channel: str, envelope: Envelope
    ) -> tuple[SlackTarget, dict[str, Any]] | Deferred | Bounced | Refused:
        """Return the account and what to send, once Slack takes connections; or why nothing can be sent."""
        slack = self.slack
        try:
            target, body = await InThread(lambda: self._ready(channel, envelope.raw), reads=True)
            limit = monotonic() + 2 * slack.timeout
            await InThread(lambda: connect(target, slack.api_url, slack.timeout), limit)
        except Unusable as error:
            if error.gone:
                return Bounced(Reply(0, "5.3.5", str(error)), Phase.CONNECT)
            return Refused(Reply(0, "4.3.5", str(error)), Phase.CONNECT)
        except NotPostedYet as error:
            return Deferred(Reply(450, "4.3.2", str(error)), Phase.MAIL, error.seconds)
        except DatabaseUnavailable as error:
            return Deferred(Reply(451, "4.3.0", str(error)), Phase.MAIL)
        except (Unreachable, TimeoutError) as error:
            return Deferred(Reply(0, "4.4.1", str(error) or "timed out"), Phase.CONNECT)
        return target, body

    async def _asked(
        self, target: SlackTarget, body: dict[str, Any]
    ) -> Delivered | Deferred | Bounced | Refused | Unknown:
        """Do the request, and return what became of the message."""
        slack = self.slack
        server = AnsweringServer(urlsplit(target.webhook_url or slack.api_url).hostname or "", None)
        try:
            # Each read and write has its time; a server that trickles has twice that in all.
            limit = monotonic() + 2 * slack.timeout
            answer = await InThread(lambda: ask(target, slack.api_url, slack.timeout, body), limit)
        except Unreachable as error:
            return Deferred(Reply(0, "4.4.1", str(error)), Phase.DOT, server=server)
        # The request has left. ValueError: the answer cannot be read.
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = "timed out" if isinstance(error, TimeoutError) else words(error)
            return Unknown(Reply(0, "4.4.2", f"{why}: the message may have been posted"), Phase.DOT, server)
        outcome = judged(answer, server)
        if is_limit(answer):
            assert isinstance(outcome, Deferred)
            slack.pause(self.account_id, outcome.after or PAUSE_SECONDS)
        return outcome

    def _ready(self, channel: str, raw: Any) -> tuple[SlackTarget, dict[str, Any]]:
        """Return the account, and what to send. Raises what :class:`SlackSource` does."""
        target = self.slack.target(self.account_id)
        body: dict[str, Any] = json.loads(raw)
        if earlier := body.pop(THREAD, None):
            assert self.slack.source is not None  # target() has asked it
            if (found := self.slack.source.thread(UUID(earlier))) is not None:
                body["thread_ts"] = found.ts
        return target, {"channel": channel, **body}


def _also_of_others(outcome: Outcome) -> Outcome | None:
    """Return the outcome for channels after one with this outcome; None: they are tried."""
    if isinstance(outcome, Delivered) or (isinstance(outcome, Bounced) and outcome.phase is Phase.DOT):
        return None
    if isinstance(outcome, Unknown):
        return Deferred(Reply(450, None, "not tried, for Slack did not answer the last request"), Phase.DOT)
    return outcome


@dataclass(frozen=True, slots=True)
class SlackSimulator:
    """Behaves as Slack does, and sends nothing: the relay of messages of test keys.

    The channels ``bounce@simulator`` and ``defer@simulator`` behave like these recipients of mail.
    """

    async def attempt(self, envelope: Envelope, before_dot: BeforeDot, after_dot: AfterDot) -> dict[str, Outcome]:
        """Post nothing; every other channel takes the message."""
        outcomes: dict[str, Outcome] = {}
        for channel in dict.fromkeys(envelope.recipients):
            if not await before_dot((channel,)):
                return outcomes | {one: Fenced(Phase.BODY) for one in envelope.recipients if one not in outcomes}
            outcome = judged(_simulated(channel))
            await after_dot((channel,), outcome.reply)
            outcomes[channel] = outcome
        return outcomes


def _simulated(channel: str) -> SlackAnswer:
    refusal = simulator.refusal(channel)
    if not refusal:
        return SlackAnswer(200)
    return SlackAnswer(200, "channel_not_found") if refusal.startswith("5") else SlackAnswer(503, "service_unavailable")
