"""From an envelope to an outcome for each recipient: choosing the host, the connection and the transactions."""

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from mailbbgun.smtp.client import Connection
from mailbbgun.smtp.endpoint import Endpoint, Security
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.mx import Host, Resolver, addresses, lookup
from mailbbgun.smtp.opening import CannotOpen
from mailbbgun.smtp.outcome import Bounced, Deferred, Fenced, Outcome, Phase, Refused, Server, TooMany, retry_after, unserved
from mailbbgun.smtp.pool import Pool
from mailbbgun.smtp.redact import Redactor
from mailbbgun.smtp.reply import Reply
from mailbbgun.smtp.transaction import AfterDot, BeforeDot, Stale

MAX_SERVERS = 5
"""Addresses tried in one attempt (Postfix: smtp_mx_address_limit)."""

MAX_TRANSACTIONS = 200
"""Transactions one attempt may be split into by servers that take few recipients at a time."""


class SmartHost:
    """Sends everything through one server, such as a customer's SMTP account."""

    def __init__(self, endpoint: Endpoint, pool: Pool) -> None:
        self.endpoint = endpoint
        self._pool = pool

    def attempt(self, envelope: Envelope, before_dot: BeforeDot, after_dot: AfterDot) -> dict[str, Outcome]:
        """One try to send `envelope`: an outcome for every recipient. Raises only what the two functions raise.

        They are called once for each transaction that gets as far as the dot. A password that a server says back is in
        no reply that is returned or handed on: replies are kept, logged and shown.
        """
        redacted = _redacting(self.endpoint.password)
        outcomes = _deliver(self._pool, [self.endpoint], envelope, before_dot, lambda to, reply: after_dot(to, reply and redacted(reply)))
        return {recipient: _with_reply(outcome, redacted) for recipient, outcome in outcomes.items()}


class DirectMX:
    """Sends straight to the mail exchangers of the recipients' domain.

    `permitted` is asked about each IP address before connecting; the one it allows is the one connected to.
    """

    def __init__(
        self,
        resolver: Resolver,
        pool: Pool,
        port: int = 25,
        security: Security = "opportunistic",
        permitted: Callable[[str], bool] = lambda address: True,
    ) -> None:
        self._resolver = resolver
        self._pool = pool
        self._port = port
        self._security = security
        self._permitted = permitted

    def attempt(self, envelope: Envelope, before_dot: BeforeDot, after_dot: AfterDot) -> dict[str, Outcome]:
        """Like `SmartHost.attempt`. All recipients must be of one domain; the first one's is looked up.

        Never Refused: there is no account to pause, so such a refusal is Deferred.
        """
        if not envelope.recipients:
            return {}
        hosts = lookup(envelope.recipients[0].rpartition("@")[2], self._resolver)
        if not isinstance(hosts, list):
            return dict.fromkeys(envelope.recipients, hosts)
        outcomes = _deliver(self._pool, self._servers(hosts), envelope, before_dot, after_dot)
        return {
            recipient: Deferred(outcome.reply, outcome.phase, server=outcome.server) if isinstance(outcome, Refused) else outcome
            for recipient, outcome in outcomes.items()
        }

    def _servers(self, hosts: list[Host]) -> Iterator[Endpoint | Bounced | Deferred]:
        """Each address of each host in turn, looked up only when it is needed."""
        for host in hosts:
            found = addresses(host.name, self._resolver)
            if not isinstance(found, list):
                yield found
                continue
            for address in found:
                if self._permitted(address):
                    yield Endpoint(host.name, self._port, self._security, addresses=(address,))
                else:
                    yield Bounced(Reply(0, "5.4.4", f"{host.name}: mail to {address} is not permitted"), Phase.DNS)


@functools.lru_cache(maxsize=1024)
def _redacting(password: str) -> Callable[[Reply], Reply]:
    redactor = Redactor(password)
    return lambda reply: reply if (text := redactor(reply.text)) == reply.text else replace(reply, text=text)


def _with_reply(outcome: Outcome, redacted: Callable[[Reply], Reply]) -> Outcome:
    if isinstance(outcome, Fenced) or (reply := redacted(outcome.reply)) is outcome.reply:
        return outcome
    return replace(outcome, reply=reply)


def _deliver(
    pool: Pool,
    servers: Iterable[Endpoint | Bounced | Deferred],
    envelope: Envelope,
    before_dot: BeforeDot,
    after_dot: AfterDot,
) -> dict[str, Outcome]:
    """Goes from server to server with the recipients that no server has decided on yet."""
    outcomes: dict[str, Outcome] = dict.fromkeys(
        envelope.recipients, Bounced(Reply(0, "5.4.4", "no server to send to"), Phase.DNS)
    )
    open_ones, tried = tuple(outcomes), 0
    for server in servers:
        if not open_ones or tried >= MAX_SERVERS:
            break
        if isinstance(server, Endpoint):
            tried += 1
            outcomes |= _on_server(pool, server, replace(envelope, recipients=open_ones), before_dot, after_dot)
            open_ones = tuple(recipient for recipient in open_ones if unserved(outcomes[recipient]))
        else:
            # A host without address says less than one that was there but did not answer.
            outcomes |= {r: server for r in open_ones if isinstance(outcomes[r], Bounced)}
    return outcomes


def _on_server(
    pool: Pool, endpoint: Endpoint, envelope: Envelope, before_dot: BeforeDot, after_dot: AfterDot
) -> dict[str, Outcome]:
    """All recipients on one server, in as many transactions as it wants them split (RFC 5321 §4.5.3.1.10)."""
    outcomes: dict[str, Outcome] = {}
    pending = envelope.recipients
    for _ in range(MAX_TRANSACTIONS):
        surplus: dict[str, TooMany] = {}
        for recipient, outcome in _transact(
            pool, endpoint, replace(envelope, recipients=pending), before_dot, after_dot
        ).items():
            if isinstance(outcome, TooMany):
                surplus[recipient] = outcome
            else:
                outcomes[recipient] = outcome
        if any(isinstance(outcome, Fenced) for outcome in outcomes.values()):
            return outcomes | dict.fromkeys(surplus, Fenced(Phase.RCPT))
        if not surplus:
            return outcomes
        if pending[0] in surplus:  # not even one fits: splitting further cannot help
            break
        pending = tuple(surplus)
    return outcomes | {
        recipient: Deferred(full.reply, Phase.RCPT, retry_after(full.reply.text), full.server)
        for recipient, full in surplus.items()
    }


def _transact(
    pool: Pool, endpoint: Endpoint, envelope: Envelope, before_dot: BeforeDot, after_dot: AfterDot
) -> dict[str, Outcome | TooMany]:
    """One transaction on a kept connection, or on a fresh one if that proves dead."""
    try:
        connection = pool.checkout(endpoint)
        try:
            return _send(pool, connection, envelope, before_dot, after_dot)
        except Stale:
            return _send(pool, pool.fresh(endpoint), envelope, before_dot, after_dot)
    except CannotOpen as error:
        ip = endpoint.addresses[0] if len(endpoint.addresses) == 1 else None
        return dict.fromkeys(envelope.recipients, replace(error.outcome, server=Server(endpoint.host, ip)))


def _send(
    pool: Pool, connection: Connection, envelope: Envelope, before_dot: BeforeDot, after_dot: AfterDot
) -> dict[str, Outcome | TooMany]:
    try:
        said = connection.send(envelope, before_dot, after_dot)
        return {
            recipient: outcome if isinstance(outcome, Fenced) else replace(outcome, server=connection.server)
            for recipient, outcome in said.items()
        }
    finally:
        pool.checkin(connection)
