"""The relay of mail that inbound routes post to URLs: one request for each delivery.

The address of such a delivery is ``inbound-route:<id of the route>``. No mail address can be: a local part
with a colon must be quoted (RFC 5321 §4.1.2), and then the address begins with a quotation mark.

A request has the id of its delivery, the same in each attempt, by which its receiver knows it again. So a
request that was not answered is sent again, as a webhook is, and so is one whose worker died: this relay
needs no journal, and its outcome is never Unknown.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import monotonic
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit
from uuid import UUID

from mailbbgun.core.errors import DatabaseUnavailable, InvalidInput
from mailbbgun.drivers.budget import Budget
from mailbbgun.drivers.operations import InThread
from mailbbgun.outgoing.http import HTTPAnswer, HTTPClient, NoHTTPAnswer
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import AnsweringServer, Bounced, Deferred, Delivered, Outcome, Phase
from mailbbgun.smtp.reply import Reply
from mailbbgun.smtp.transaction import AfterDot, BeforeDot

#: How the address of a delivery that is posted begins. The address is also the name of its route.
POST_PREFIX = "inbound-route:"

#: Seconds that a request may take in all: it may have 50 MB of files.
TIMEOUT = 30.0
#: Requests at once in one process, of which each has its mail, and the form of it, in memory; and of one route, so
#: that an application that is slow leaves some to others. One tenant has half of them (``routing/routes.py``).
AT_ONCE, AT_ONCE_OF_ROUTE = 8, 2
#: Seconds that a receiver may ask us to wait, at most.
LONGEST_PAUSE = 3600.0
#: The answer that means "never again", as with Mailgun.
NOT_ACCEPTABLE = 406


def post_address(route_id: UUID) -> str:
    """Return the address of deliveries that are posted by a route."""
    return f"{POST_PREFIX}{route_id}"


class PreparedPost(NamedTuple):
    """A request that is ready to be sent."""

    url: str
    headers: Mapping[str, str]
    body: bytes


class PostUnusable(Exception):
    """A route posts nothing any more: it was deleted, or changed. ``gone``: for ever; else its mail waits."""

    def __init__(self, why: str, *, gone: bool = False) -> None:
        super().__init__(why)
        self.gone = gone


class PostSource(Protocol):
    """Makes the requests of routes."""

    def prepared(self, route_id: UUID, envelope: Envelope) -> PreparedPost:
        """Return the request for a mail to one recipient. It blocks.

        Raises :class:`PostUnusable`, :class:`DatabaseUnavailable`, OSError.
        """


class Posts:
    """The posts of one process."""

    def __init__(self, client: HTTPClient, source: PostSource | None = None) -> None:
        self.client, self.source, self.budget = client, source, Budget(AT_ONCE)

    def relay(self, address: str) -> "HTTPPost":
        """Return the relay of a route, by the address of its deliveries."""
        return HTTPPost(UUID(address.removeprefix(POST_PREFIX)), self)


@dataclass(frozen=True, slots=True)
class HTTPPost:
    """Posts mail by one route."""

    route_id: UUID
    posts: Posts

    async def attempt(self, envelope: Envelope, before_dot: BeforeDot, after_dot: AfterDot) -> dict[str, Outcome]:
        """Send one request for each recipient. See ``contract.py``, without the journal."""
        del before_dot, after_dot
        outcomes: dict[str, Outcome] = {}
        for one in dict.fromkeys(envelope.recipients):
            async with self.posts.budget.taken(1):
                ready = await self._prepared(replace(envelope, recipients=(one,)))
                outcomes[one] = await self._sent(ready) if isinstance(ready, PreparedPost) else ready
        return outcomes

    async def _prepared(self, envelope: Envelope) -> PreparedPost | Deferred | Bounced:
        source = self.posts.source
        try:
            if source is None:
                raise PostUnusable("this process knows no inbound routes")
            return await InThread(lambda: source.prepared(self.route_id, envelope), reads=True)
        except PostUnusable as error:
            if error.gone:
                return Bounced(Reply(0, "5.3.5", str(error)), Phase.CONNECT)
            return Deferred(Reply(0, "4.3.5", str(error)), Phase.MAIL)
        except DatabaseUnavailable as error:
            return Deferred(Reply(451, "4.3.0", str(error)), Phase.MAIL)
        except OSError as error:
            return Deferred(Reply(452, "4.3.1", f"cannot be read: {error.strerror or error}"), Phase.MAIL)

    async def _sent(self, ready: PreparedPost) -> Delivered | Deferred | Bounced:
        client = self.posts.client
        server = AnsweringServer(urlsplit(ready.url).hostname or "", None)
        try:
            limit = monotonic() + 2 * TIMEOUT
            answer = await InThread(
                lambda: client.post(ready.url, ready.body, ready.headers, TIMEOUT, repeatable=True), limit
            )
        except NoHTTPAnswer as error:
            phase = Phase.DOT if error.sent else Phase.CONNECT
            return Deferred(Reply(0, "4.4.2" if error.sent else "4.4.1", str(error)), phase, server=server)
        except InvalidInput as error:  # NotPermitted is one: what the DNS says of the host has changed
            return Deferred(Reply(0, "4.7.1", str(error)), Phase.CONNECT, server=server)
        except TimeoutError:
            return Deferred(Reply(0, "4.4.2", "timed out"), Phase.DOT, server=server)
        return judged(answer, server)


def judged(answer: HTTPAnswer, server: AnsweringServer) -> Delivered | Deferred | Bounced:
    """Return what an answer means for the mail. Pure.

    It gets a code of SMTP, so journals, retries and pages treat it like any other: 250 taken, 450 try
    again, 550 never.
    """
    told = f"HTTP {answer.status}"
    if 200 <= answer.status < 300:
        return Delivered(Reply(250, None, told), server)
    if answer.status == NOT_ACCEPTABLE:
        return Bounced(Reply(550, "5.7.1", f"{told}: the receiver does not want it"), Phase.DOT, server)
    after = answer.headers.get("retry-after", "")
    wait = min(max(float(after), 1.0), LONGEST_PAUSE) if after.isascii() and after.isdigit() else None
    return Deferred(Reply(450, "4.3.2", told), Phase.DOT, wait, server)
