"""The way of one mail transaction: take · wait your turn · read · send · judge · hand over. Each verb may end the way, or send it another."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from mailbbgun.base.db import Database
from mailbbgun.base.faults import fault
from mailbbgun.deliver.breaker import PROBE_WAIT
from mailbbgun.deliver.claim import Claim, Loaded, Transaction, claim, load, load_raw
from mailbbgun.deliver.desk import Desk
from mailbbgun.deliver.retry import judge, released
from mailbbgun.events import record
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Deferred, Fenced, Outcome, Phase, Refused, Unknown, unserved
from mailbbgun.smtp.reply import Reply
from mailbbgun.smtp_accounts.book import Page

DIALOGUES = 2  # of full length that one try may take before it counts as hanging; several servers are rarely slow to the end
FENCED_WAIT = 1.0  # seconds
BROKEN_WAIT = 30.0  # seconds
JOURNAL_WAIT = 5.0  # seconds
RECIPIENTS = 100  # of one transaction; every server takes that many (RFC 5321 §4.5.3.1.8)

log = logging.getLogger("mailbbgun.deliver")


def take(desk: Desk, message_ids: Sequence[UUID], *, alone: bool = False) -> list[Transaction]:
    """Claim what is due of these messages, in one commit, and group it by the way it leaves."""
    lease_ends = desk.leases.next_end()
    with desk.db.write() as session:
        claims = claim(session, desk.owner, message_ids, desk.settings.LEASE_SECONDS, lease_ends, alone=alone)
        if missing := set(message_ids) - {one.message_id for one in claims}:
            record.held(session, sorted(missing))  # at once, or its tenant may be active again by then
        messages = load(session, {one.message_id for one in claims})
        pages = desk.book.pages(session, {one.tenant_id for one in claims})
        fault("claim.commit")
    fault("claim.committed")
    try:
        desk.routes.know(pages.values())
        transactions = _grouped(desk, claims, messages, pages)
    except Exception:  # a bug of ours must not keep what is claimed, nor make it look as if it may have been sent
        log.exception("grouping_failed", extra={"claims": len(claims)})
        for one in claims:
            desk.results.put(one, released(one, BROKEN_WAIT))
        return []
    desk.leases.hold(transactions)
    return transactions


def _grouped(desk: Desk, claims: Sequence[Claim], messages: Mapping[UUID, Loaded], pages: Mapping[UUID, Page]) -> list[Transaction]:
    groups: dict[tuple[UUID, tuple[str, ...]], list[Claim]] = defaultdict(list)
    for one in claims:
        message = messages[one.message_id]
        one.key_id = message.key_id
        ways = desk.routes.ways(pages[one.tenant_id], message.from_address, one.address, test=message.test)
        groups[one.message_id, ways].append(one)
    transactions = []
    for (message_id, ways), members in groups.items():
        message = messages[message_id]
        own = message.own_mail_from
        while members:
            route, *others = desk.routes.ordered(ways, desk.breaker.wait)
            most = min(RECIPIENTS, desk.routes.recipients(route) or RECIPIENTS)
            part, members = members[:most], members[most:]
            transactions.append(Transaction(message_id, message.mail_from, message.smtputf8, message.raw, route, part, others, own))
    return transactions


def deliver(desk: Desk, transaction: Transaction) -> str | None:
    """Try to deliver one transaction and hand its results over; or return the route it is to be put in line for instead.

    Raises :class:`DatabaseUnavailable` before anything is sent.
    """
    if transaction.tenant_id in desk.book.suspended:
        give_back(desk, transaction)
        return None
    if not desk.routes.exists(transaction.route):  # it was claimed for an account that is gone: claimed anew, it finds the others
        if way := next_way(desk, transaction):
            return way
        give_back(desk, transaction)
        return None
    if wait := desk.breaker.enter(transaction):
        return turned_away(desk, transaction, wait)
    try:
        return attempt(desk, transaction)
    finally:
        desk.breaker.leave(transaction)


def turned_away(desk: Desk, transaction: Transaction, wait: float) -> str | None:
    """Go another way, since this one is closed for ``wait`` seconds; or be deferred as the last that was sent; or wait."""
    if way := next_way(desk, transaction):
        return way
    if failure := desk.breaker.unreachable(transaction.route):
        said = replace(failure, reply=replace(failure.reply, text=f"not tried, for the last one failed: {failure.reply.text}"))
        hand_over(desk, transaction, {one.address: said for one in transaction.claims}, attempted=False)
        return None
    # Of several closed ways the one that opens first. While somebody asks there, it is soon known, and nothing to tell.
    soonest = min([wait, *(desk.breaker.wait(way) for way in transaction.ways if desk.routes.exists(way))])
    cause = desk.breaker.cause(transaction.route) if soonest > PROBE_WAIT else None
    why = f"not tried, for the last one failed: {cause.reply.text}" if cause else None
    give_back(desk, transaction, desk.returns.wait(transaction.route, soonest), why)
    return None


def next_way(desk: Desk, transaction: Transaction) -> str | None:
    """Return the best of its other ways that is open, which then is none of these any more."""
    way = next((one for one in transaction.ways if desk.routes.goes(one, desk.breaker.wait)), None)
    if way:
        transaction.ways.remove(way)
        transaction.started = None
    return way


def move(desk: Desk, transaction: Transaction, way: str) -> list[Transaction]:
    """Send it another way; return what is to be put in line there: several, where that way takes fewer recipients at once."""
    most, claims = desk.routes.recipients(way) or RECIPIENTS, transaction.claims
    transaction.route, transaction.claims = way, claims[:most]
    rest = [claims[start : start + most] for start in range(most, len(claims), most)]
    further = [replace(transaction, claims=part, ways=[*transaction.ways], failed=[*transaction.failed]) for part in rest]
    desk.leases.hold(further)
    return [transaction, *further]


def attempt(desk: Desk, transaction: Transaction) -> str | None:
    """Go, since it is our turn."""
    if not desk.journal.works():  # then the dot may not be sent, and without it the mail need not be
        give_back(desk, transaction, JOURNAL_WAIT)
        return None
    envelope = read(desk.db, transaction)
    if not transaction.own_mail_from and (bounces_to := desk.routes.envelope_from(transaction.route)):
        envelope = replace(envelope, mail_from=bounces_to, smtputf8=envelope.smtputf8 or not bounces_to.isascii())
    transaction.limit = DIALOGUES * desk.routes.timeouts.dialogue(len(envelope.recipients), len(envelope.raw))
    transaction.started = desk.clock.boot()
    outcomes = desk.breaker.about_whom(transaction, send(desk, transaction, envelope))
    if desk.routes.exists(transaction.route):  # an account that went while the mail was read says nothing of a server
        desk.breaker.record(transaction, outcomes.values())
    if all(unserved(one) for one in outcomes.values()) and (way := next_way(desk, transaction)):
        # Nothing was sent, so another account may: in the same try, for the mail has met no server that would have it or not.
        first = next(iter(outcomes.values()))
        assert isinstance(first, Deferred | Refused)  # nothing else is unserved
        transaction.failed.append({"account": desk.routes.name(transaction.route) or "", "reply": str(first.reply)})
        return way
    hand_over(desk, transaction, outcomes, attempted=desk.routes.leads(transaction.route))
    return None


def read(db: Database, transaction: Transaction) -> Envelope:
    """Bring the bytes to send, the same at every try."""
    raw = transaction.raw
    if raw is None:
        with db.read() as session:
            raw = load_raw(session, transaction.message_id)
    return Envelope(transaction.mail_from, tuple(one.address for one in transaction.claims), raw, transaction.smtputf8)


def send(desk: Desk, transaction: Transaction, envelope: Envelope) -> dict[str, Outcome]:
    """Carry it to the next server, with a journal line before the final dot and one right after its answer."""
    claims = {one.address: one for one in transaction.claims}
    dotted: set[str] = set()

    def before_dot(accepted: Sequence[str]) -> bool:
        held = [claims[address] for address in accepted]
        fault("dot.write")
        try:
            desk.journal.dot(held)
        except OSError as error:
            log.error("journal_failed", extra={**transaction.about, "error": str(error)})
            return False
        fault("dot.written")
        # After the line, for a process can be suspended between any two instructions: the lease is asked last of all.
        if not desk.leases.stand(held):
            desk.journal.undone(held)
            return False
        dotted.update(accepted)
        return True

    def after_dot(accepted: Sequence[str], reply: Reply | None) -> None:
        if reply is not None:
            fault("reply.write")
            try:
                desk.journal.reply([claims[address] for address in accepted], reply)
            except OSError as error:  # the result is still in our hands; only a crash before its commit would miss the line
                log.error("journal_failed", extra={**transaction.about, "error": str(error)})
            fault("reply.written")

    try:
        return desk.routes.relay(transaction.route).attempt(envelope, before_dot, after_dot)
    except Exception:  # a bug of ours must not lose mail, nor kill the sender: what was not sent is tried again
        log.exception("attempt_failed", extra=transaction.about)
        reply = Reply(0, "4.3.0", "an error of Mail BB Gun; see its log")
        return {one: Unknown(reply, Phase.DOT) if one in dotted else Deferred(reply, Phase.CONNECT) for one in claims}


def hand_over(desk: Desk, transaction: Transaction, outcomes: Mapping[str, Outcome], *, attempted: bool) -> None:
    """Judge each recipient's outcome and give the results to the writer; what was fenced goes back as if never taken.

    ``attempted``: the outcomes come of asking a server, and not of what is known of it.
    """
    # One draw for all: recipients who go together are due together again, and share a hint.
    drawn = desk.policy.random()
    policy = replace(desk.policy, random=lambda: drawn)
    way = {"account": desk.routes.name(transaction.route), "before": transaction.failed or None}
    for one in transaction.claims:
        outcome = outcomes[one.address]
        if isinstance(outcome, Fenced):
            desk.results.put(one, released(one, FENCED_WAIT, attempted=bool(transaction.failed)))
        else:
            result = judge(outcome, one, policy)
            desk.results.put(one, replace(result, attempted=attempted or bool(transaction.failed), data={**(result.data or {}), **way}))


def give_back(desk: Desk, transaction: Transaction, wait: float = 0.0, why: str | None = None) -> None:
    """Release claims of which nothing was sent, due again in ``wait`` seconds; their timelines tell ``why``."""
    fault("claims.release")
    account = desk.routes.name(transaction.route)
    for one in transaction.claims:
        desk.results.put(one, released(one, wait, why, account, attempted=bool(transaction.failed)))
