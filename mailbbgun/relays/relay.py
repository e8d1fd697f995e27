"""The relays: each takes an envelope and returns an outcome for each recipient.

A relay chooses the host and the connection, and splits the recipients into transactions.
"""

import functools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from time import monotonic
from typing import TypeVar

from mailbbgun.core.net import Guard
from mailbbgun.drivers.operations import InThread
from mailbbgun.relays.client import SMTPConnection
from mailbbgun.relays.mx import Cached, MXHost, NotCached, Resolver, addresses, lookup
from mailbbgun.relays.pool import Pool
from mailbbgun.relays.redact import Redactor
from mailbbgun.smtp.adapting.downgrade import downgraded
from mailbbgun.smtp.content import EnvelopeError
from mailbbgun.smtp.endpoint import Endpoint, Security
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.opening import CannotOpen
from mailbbgun.smtp.outcome import (
    OPENING,
    AnsweringServer,
    Bounced,
    Deferred,
    Delivered,
    Fenced,
    Outcome,
    Phase,
    Refused,
    TooMany,
    about_smtputf8,
    another_server_may_do,
    retry_after,
)
from mailbbgun.smtp.reply import Reply, safe
from mailbbgun.smtp.server_limits import fewer, is_lasting_limit, too_many_recipients
from mailbbgun.smtp.transaction import AfterDot, BeforeDot, Stale

T = TypeVar("T")

#: Servers, by their IP addresses, tried in one attempt (Postfix: smtp_mx_address_limit).
MAX_SERVERS = 5

#: Seconds, at most, for what the DNS is asked about one host.
LOOK_UP_SECONDS = 60.0

#: Transactions into which one attempt may be split for a server that accepts few recipients.
MAX_TRANSACTIONS = 200


class SmartHost:
    """Sends all mail through one server, such as a customer's SMTP account.

    It gives the server at most `most` recipients at once.
    """

    def __init__(self, endpoint: Endpoint, pool: Pool, most: int | None = None) -> None:
        self.endpoint = endpoint
        self._pool = pool
        self._most = most

    async def attempt(self, envelope: Envelope, before_dot: BeforeDot, after_dot: AfterDot) -> dict[str, Outcome]:
        """Try once to send `envelope`; return the outcome of every recipient.

        The two functions are called once for each transaction that gets as far as the dot; this
        method raises only what they raise. A server may repeat our password in a reply. It is
        removed from every reply that is returned or passed on, because replies are kept and shown.
        """
        if not envelope.recipients:
            return {}
        split = _Split(self._pool, self.endpoint, envelope, self._most)
        if not self.endpoint.password:
            outcomes = await split.run(before_dot, after_dot)
            return {recipient: outcomes[recipient] for recipient in envelope.recipients}
        redacted = _redacting(self.endpoint.password)

        async def after_dot_redacted(accepted: tuple[str, ...], reply: Reply | None) -> None:
            await after_dot(accepted, reply and redacted(reply))

        outcomes = await split.run(before_dot, after_dot_redacted)
        return {recipient: _with_reply(outcomes[recipient], redacted) for recipient in envelope.recipients}


class DirectMX:
    """Sends mail directly to the mail exchangers of the recipients' domain.

    A stranger controls what that domain's DNS says. So only addresses that `guard` permits are
    connected to; a host is never looked up again after its address was judged.
    """

    def __init__(
        self,
        resolver: Resolver,
        pool: Pool,
        port: int = 25,
        security: Security = "opportunistic",
        guard: Guard | None = None,
    ) -> None:
        self._resolver = resolver
        self._pool = pool
        self._port = port
        self._security = security
        self._guard = guard or Guard()

    async def attempt(self, envelope: Envelope, before_dot: BeforeDot, after_dot: AfterDot) -> dict[str, Outcome]:
        """Try once to send `envelope`, like `SmartHost.attempt`.

        All recipients must be of one domain: that of the first one is looked up. The outcome is
        never Refused, because there is no account to pause; it is Deferred then.
        """
        if not envelope.recipients:
            return {}
        domain = envelope.recipients[0].rpartition("@")[2]
        hosts = await self._asked(functools.partial(lookup, domain))
        if not isinstance(hosts, list):
            return dict.fromkeys(envelope.recipients, hosts)
        outcomes = await _deliver(self._pool, self._servers(hosts), envelope, before_dot, after_dot)
        return {
            recipient: Deferred(outcome.reply, outcome.phase, server=outcome.server)
            if isinstance(outcome, Refused)
            else outcome
            for recipient, outcome in outcomes.items()
        }

    async def _asked(self, question: Callable[[Resolver | Cached], T]) -> T | Deferred:
        """Return the answer to a question for the DNS; nothing waits if it is cached."""
        try:
            return question(self._resolver.cached)
        except NotCached:
            try:
                return await InThread(lambda: question(self._resolver), monotonic() + LOOK_UP_SECONDS)
            except TimeoutError:
                return Deferred(Reply(0, "4.4.3", "timed out waiting for the name servers"), Phase.DNS)

    async def _servers(self, hosts: list[MXHost]) -> AsyncIterator[Endpoint | Bounced | Deferred]:
        """Yield each address of each host, looked up only when it is needed."""
        for host in hosts:
            found = await self._asked(functools.partial(addresses, host.name))
            if not isinstance(found, list):
                yield found
                continue
            public = self._guard.reachable(host.name, found)
            for address in public:
                yield Endpoint(host.name, self._port, self._security, addresses=(address,))
            # The error does not name the address: our DNS may know names that are not public.
            if not public:
                text = f"{safe(host.name)}: has no public address; to send there, set ALLOW_PRIVATE_HOSTS"
                yield Bounced(Reply(0, "5.4.4", text), Phase.DNS)


@functools.lru_cache(maxsize=1024)
def _redacting(password: str) -> Callable[[Reply], Reply]:
    redactor = Redactor(password)
    return lambda reply: reply if (text := redactor(reply.text)) == reply.text else replace(reply, text=text)


def _with_reply(outcome: Outcome, redacted: Callable[[Reply], Reply]) -> Outcome:
    if isinstance(outcome, Fenced) or (reply := redacted(outcome.reply)) is outcome.reply:
        return outcome
    return replace(outcome, reply=reply)


async def _deliver(
    pool: Pool,
    servers: AsyncIterator[Endpoint | Bounced | Deferred],
    envelope: Envelope,
    before_dot: BeforeDot,
    after_dot: AfterDot,
) -> dict[str, Outcome]:
    """Try one server after the other, with the recipients that no server has decided on yet."""
    outcomes: dict[str, Outcome] = dict.fromkeys(
        envelope.recipients, Bounced(Reply(0, "5.4.4", "no server to send to"), Phase.DNS)
    )
    pending, tried = tuple(outcomes), 0
    async for server in servers:
        if not pending or tried >= MAX_SERVERS:
            break
        if isinstance(server, Endpoint):
            tried += 1
            remaining = replace(envelope, recipients=pending)
            outcomes |= await _Split(pool, server, remaining).run(before_dot, after_dot)
            pending = tuple(recipient for recipient in pending if another_server_may_do(outcomes[recipient]))
        else:
            # A host without an address tells less than a host that did not answer.
            outcomes |= {r: server for r in pending if isinstance(outcomes[r], Bounced)}
    return outcomes


class _Split:
    """Sends to all recipients on one server, in as many transactions as it needs.

    A transaction has at most as many recipients as `most` and as the server is known to accept. If
    the server says "too many" (RFC 5321 §4.5.3.1.10), the next one has fewer: as many as the server
    accepted, or names, or half. The size it then accepts is remembered for the next message. If the
    server refuses one as too many but accepts a later one, the size stays: the former goes again.
    """

    def __init__(self, pool: Pool, endpoint: Endpoint, envelope: Envelope, most: int | None = None) -> None:
        self._pool = pool
        self._endpoint = endpoint
        self._envelope = envelope
        self._downgraded: Envelope | None = None  # the message without SMTPUTF8, made when it is needed
        self._refused_smtputf8: set[str] = set()  # recipients of that message; it has its own transactions
        self._server = (endpoint.host, endpoint.port, endpoint.username)
        limits = [limit for limit in (most, pool.known.most(self._server)) if limit is not None]
        self._size = min([max(1, len(envelope.recipients)), *limits])
        self._shrunk: TooMany | None = None  # the refusal that made the size smaller, until it has proved right
        self._outcomes: dict[str, Outcome] = {}
        self._pending = tuple(dict.fromkeys(envelope.recipients))

    async def run(self, before_dot: BeforeDot, after_dot: AfterDot) -> dict[str, Outcome]:
        """Return the outcome of every recipient."""
        for _ in range(MAX_TRANSACTIONS):
            envelope, part = self._next()
            mail = envelope if part == envelope.recipients else replace(envelope, recipients=part)
            said = await _transact(self._pool, self._endpoint, mail, before_dot, after_dot)
            if not self._pending and self._shrunk is None and all(isinstance(one, Delivered) for one in said.values()):
                return {**self._outcomes, **said}  # type: ignore[dict-item]  # each is Delivered
            surplus = {recipient: outcome for recipient, outcome in said.items() if isinstance(outcome, TooMany)}
            decided = {recipient: outcome for recipient, outcome in said.items() if not isinstance(outcome, TooMany)}
            self._outcomes |= decided
            if again := self._without_smtputf8(decided):
                self._pending = (*again, *self._pending)
                decided = {recipient: outcome for recipient, outcome in decided.items() if recipient not in again}
            if surplus:
                self._shrink(part, surplus)
            elif (
                self._shrunk is not None
                and is_lasting_limit(self._shrunk.reply)
                and any(isinstance(one, Delivered) for one in decided.values())
            ):
                self._pool.known.learn(self._server, self._size)
                self._shrunk = None
            if (verdict := _verdict_for_all(decided, surplus)) is not None:
                return self._outcomes | dict.fromkeys(self._pending, verdict)
            if not self._pending:
                return self._outcomes
        text = f"the server takes so few recipients at once that {MAX_TRANSACTIONS} transactions were not enough"
        return self._outcomes | dict.fromkeys(self._pending, Deferred(Reply(0, "4.5.3", text), Phase.RCPT))

    def _next(self) -> tuple[Envelope, tuple[str, ...]]:
        """Take the recipients of the next transaction; return the message for them, and them."""
        if len(self._pending) <= self._size and not self._refused_smtputf8:
            part, self._pending = self._pending, ()
            return self._envelope, part
        first_refused = bool(self._pending) and self._pending[0] in self._refused_smtputf8
        alike = [r for r in self._pending if (r in self._refused_smtputf8) == first_refused]
        part = tuple(alike[: self._size])
        taken = set(part)
        self._pending = tuple(r for r in self._pending if r not in taken)
        envelope = self._downgraded if first_refused and self._downgraded else self._envelope
        return envelope, part

    def _without_smtputf8(self, decided: Mapping[str, Outcome]) -> tuple[str, ...]:
        """Downgrade the message for recipients refused with 5.6.7 or 5.6.9; return the recipients.

        A server may offer SMTPUTF8 and find out only then that it cannot pass such mail on to some
        recipients. Left out are recipients that need SMTPUTF8 for their own or the sender's
        address, and those that were refused without it.
        """
        bounced = (
            r for r, outcome in decided.items() if isinstance(outcome, Bounced) and about_smtputf8(outcome.reply)
        )
        refused = tuple(r for r in bounced if r.isascii() and r not in self._refused_smtputf8)
        envelope = self._envelope
        if not refused or not envelope.smtputf8 or not envelope.mail_from.isascii():
            return ()
        if self._downgraded is None:
            try:
                self._downgraded = replace(envelope, raw=downgraded(envelope.raw), smtputf8=False)
            except EnvelopeError:
                return ()
        self._refused_smtputf8.update(refused)
        return refused

    def _shrink(self, part: Sequence[str], surplus: Mapping[str, TooMany]) -> None:
        """Make transactions smaller, and send to the refused recipients first.

        If the server did not accept even the first recipient, all are deferred.
        """
        full = next(iter(surplus.values()))
        taken = len(part) - len(surplus)
        if full.phase is not Phase.RCPT or full.reply.code == 421:  # the reply is about all of them
            taken = fewer(full.reply, len(surplus))
        self._pending = (*surplus, *self._pending)
        if taken and set(part[-len(surplus) :]) == set(surplus):
            self._size, self._shrunk = taken, full
        elif not taken:
            self._outcomes |= dict.fromkeys(
                self._pending, Deferred(full.reply, Phase.RCPT, retry_after(full.reply.text), full.server)
            )
            self._pending = ()


def _verdict_for_all(decided: Mapping[str, Outcome], surplus: Mapping[str, TooMany]) -> Outcome | None:
    """Return the outcome of all pending recipients if one transaction decides it, else None."""
    first = next(iter(decided.values()), None)
    if any(isinstance(outcome, Fenced) for outcome in decided.values()):
        return Fenced(Phase.RCPT)
    if surplus or first is None:
        return None
    if all(another_server_may_do(outcome) or isinstance(outcome, Refused) for outcome in decided.values()):
        return first  # the server is away, or refuses us
    return first if _refused_alone(decided) else None


def _refused_alone(decided: Mapping[str, Outcome]) -> bool:
    """Return whether the server calls a single recipient too many.

    Then the limit is another one, and all recipients have been refused for it.
    """
    outcome = next(iter(decided.values()), None)
    if len(decided) != 1 or not isinstance(outcome, Bounced | Deferred) or outcome.phase in OPENING | {Phase.RCPT}:
        return False
    return too_many_recipients(outcome.reply)


async def _transact(
    pool: Pool, endpoint: Endpoint, envelope: Envelope, before_dot: BeforeDot, after_dot: AfterDot
) -> dict[str, Outcome | TooMany]:
    """Run one transaction on a kept connection, or on a fresh one if the kept one is dead."""
    try:
        connection = await pool.checkout(endpoint)
        try:
            return await _send(pool, connection, envelope, before_dot, after_dot)
        except Stale:
            return await _send(pool, await pool.fresh(endpoint), envelope, before_dot, after_dot)
    except CannotOpen as error:
        ip = endpoint.addresses[0] if len(endpoint.addresses) == 1 else None
        return dict.fromkeys(envelope.recipients, replace(error.outcome, server=AnsweringServer(endpoint.host, ip)))


async def _send(
    pool: Pool, connection: SMTPConnection, envelope: Envelope, before_dot: BeforeDot, after_dot: AfterDot
) -> dict[str, Outcome | TooMany]:
    try:
        said = await connection.send(envelope, before_dot, after_dot)
    finally:
        await pool.checkin(connection)
    return {recipient: _from(connection.server, outcome) for recipient, outcome in said.items()}


def _from(server: AnsweringServer, outcome: Outcome | TooMany) -> Outcome | TooMany:
    """Return the outcome with the server that it comes from."""
    if isinstance(outcome, Delivered):
        return Delivered(outcome.reply, server)  # as most are; replace() takes ten times as long
    return outcome if isinstance(outcome, Fenced) else replace(outcome, server=server)
