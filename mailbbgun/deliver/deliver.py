"""The way of one mail transaction: take · wait your turn · read · send · judge · hand over. Each verb may end the way, or send it another."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from mailbbgun.core.faults import fault
from mailbbgun.database.db import Database
from mailbbgun.deliver.claim import Claim, Loaded, claim, load, load_raw
from mailbbgun.deliver.context import WorkerContext
from mailbbgun.deliver.retry import judge, released
from mailbbgun.deliver.transaction import Transaction
from mailbbgun.events import record
from mailbbgun.routing.circuit_breaker import PROBE_WAIT
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Deferred, Fenced, Outcome, Phase, Refused, Unknown, another_server_may_do
from mailbbgun.smtp.reply import Reply
from mailbbgun.smtp_accounts.cache import TenantAccounts

DIALOGUES_PER_ATTEMPT = (
    2  # of full length that one try may take before it counts as hanging; several servers are rarely slow to the end
)
FENCED_WAIT_SECONDS = 1.0  # seconds
BROKEN_WAIT_SECONDS = 30.0  # seconds
JOURNAL_WAIT_SECONDS = 5.0  # seconds
MOST_RECIPIENTS = 100  # of one transaction; every server takes that many (RFC 5321 §4.5.3.1.8)

log = logging.getLogger("mailbbgun.deliver")


def take(context: WorkerContext, message_ids: Sequence[UUID], *, isolated: bool = False) -> list[Transaction]:
    """Claim what is due of these messages, in one commit, and group it by the way it leaves."""
    lease_ends = context.leases.next_end()
    with context.db.write() as session:
        claims = claim(
            session, context.owner, message_ids, context.settings.LEASE_SECONDS, lease_ends, isolated=isolated
        )
        if missing := set(message_ids) - {one.message_id for one in claims}:
            record.held(session, sorted(missing))  # at once, or its tenant may be active again by then
        messages = load(session, {one.message_id for one in claims})
        accounts = context.account_cache.accounts_of(session, {one.tenant_id for one in claims})
        fault("claim.commit")
    fault("claim.committed")
    try:
        context.routes.add_accounts(accounts.values())
        transactions = _grouped(context, claims, messages, accounts)
    except Exception:  # a bug of ours must not keep what is claimed, nor make it look as if it may have been sent
        log.exception("grouping_failed", extra={"claims": len(claims)})
        for one in claims:
            context.results.put(one, released(one, BROKEN_WAIT_SECONDS))
        return []
    context.leases.add(transactions)
    return transactions


def _grouped(
    context: WorkerContext,
    claims: Sequence[Claim],
    messages: Mapping[UUID, Loaded],
    accounts: Mapping[UUID, TenantAccounts],
) -> list[Transaction]:
    groups: dict[tuple[UUID, tuple[str, ...]], list[Claim]] = defaultdict(list)
    for one in claims:
        message = messages[one.message_id]
        one.key_id = message.key_id
        candidates = context.routes.candidates(
            accounts[one.tenant_id], message.from_address, one.address, test=message.test
        )
        groups[one.message_id, candidates].append(one)
    transactions = []
    for (message_id, candidates), members in groups.items():
        message = messages[message_id]
        own = message.own_mail_from
        while members:
            route, *others = context.routes.ordered(candidates, context.breaker.paused_for)
            most = min(MOST_RECIPIENTS, context.routes.recipients(route) or MOST_RECIPIENTS)
            part, members = members[:most], members[most:]
            transactions.append(
                Transaction(message_id, message.mail_from, message.smtputf8, message.raw, route, part, others, own)
            )
    return transactions


def deliver(context: WorkerContext, transaction: Transaction) -> str | None:
    """Try to deliver one transaction and hand its results over; or return the route it is to be put in line for instead.

    Raises :class:`DatabaseUnavailable` before anything is sent.
    """
    if transaction.tenant_id in context.account_cache.suspended:
        give_back(context, transaction)
        return None
    if not context.routes.exists(
        transaction.route
    ):  # it was claimed for an account that is gone: claimed anew, it finds the others
        if route := next_candidate(context, transaction):
            return route
        give_back(context, transaction)
        return None
    if wait := context.breaker.enter(transaction):
        return turn_away(context, transaction, wait)
    try:
        return try_route(context, transaction)
    finally:
        context.breaker.leave(transaction)


def turn_away(context: WorkerContext, transaction: Transaction, wait: float) -> str | None:
    """Go another way, since this one is closed for ``wait`` seconds; or be deferred as the last that was sent; or wait."""
    if route := next_candidate(context, transaction):
        return route
    if failure := context.breaker.unreachable(transaction.route):
        not_tried = replace(
            failure, reply=replace(failure.reply, text=f"not tried, for the last one failed: {failure.reply.text}")
        )
        hand_over(context, transaction, {one.address: not_tried for one in transaction.claims}, attempted=False)
        return None
    # Of several closed ways the one that opens first. While somebody asks there, it is soon known, and nothing to tell.
    soonest = min(
        [wait, *(context.breaker.paused_for(one) for one in transaction.candidates if context.routes.exists(one))]
    )
    cause = context.breaker.cause(transaction.route) if soonest > PROBE_WAIT else None
    why = f"not tried, for the last one failed: {cause.reply.text}" if cause else None
    give_back(context, transaction, context.come_back_times.due_in(transaction.route, soonest), why)
    return None


def next_candidate(context: WorkerContext, transaction: Transaction) -> str | None:
    """Return the best of its other ways that is open, which then is none of these any more."""
    route = next(
        (one for one in transaction.candidates if context.routes.may_leave_soon(one, context.breaker.paused_for)), None
    )
    if route:
        transaction.candidates.remove(route)
        transaction.started = None
    return route


def move(context: WorkerContext, transaction: Transaction, route: str) -> list[Transaction]:
    """Send it another way; return what is to be put in line there: several, where that way takes fewer recipients at once."""
    most, claims = context.routes.recipients(route) or MOST_RECIPIENTS, transaction.claims
    transaction.route, transaction.claims = route, claims[:most]
    rest = [claims[start : start + most] for start in range(most, len(claims), most)]
    further = [
        replace(transaction, claims=part, candidates=[*transaction.candidates], failed=[*transaction.failed])
        for part in rest
    ]
    context.leases.add(further)
    return [transaction, *further]


def try_route(context: WorkerContext, transaction: Transaction) -> str | None:
    """Go, since it is our turn."""
    if not context.journal.works():  # then the dot may not be sent, and without it the mail need not be
        give_back(context, transaction, JOURNAL_WAIT_SECONDS)
        return None
    envelope = read(context.db, transaction)
    if not transaction.own_mail_from and (bounces_to := context.routes.envelope_from(transaction.route)):
        envelope = replace(envelope, mail_from=bounces_to, smtputf8=envelope.smtputf8 or not bounces_to.isascii())
    transaction.limit = DIALOGUES_PER_ATTEMPT * context.routes.timeouts.dialogue(
        len(envelope.recipients), len(envelope.raw)
    )
    transaction.started = context.clock.boot()
    outcomes = context.breaker.about_whom(transaction, send(context, transaction, envelope))
    if context.routes.exists(
        transaction.route
    ):  # an account that went while the mail was read says nothing of a server
        context.breaker.record(transaction, outcomes.values())
    if all(another_server_may_do(one) for one in outcomes.values()) and (route := next_candidate(context, transaction)):
        # Nothing was sent, so another account may: in the same try, for the mail has met no server that would have it or not.
        first = next(iter(outcomes.values()))
        assert isinstance(first, Deferred | Refused)  # nothing else is another_server_may_do
        transaction.failed.append({"account": context.routes.name(transaction.route) or "", "reply": str(first.reply)})
        return route
    hand_over(context, transaction, outcomes, attempted=context.routes.has_server(transaction.route))
    return None


def read(db: Database, transaction: Transaction) -> Envelope:
    """Bring the bytes to send, the same at every try."""
    raw = transaction.raw
    if raw is None:
        with db.read() as session:
            raw = load_raw(session, transaction.message_id)
    return Envelope(transaction.mail_from, tuple(one.address for one in transaction.claims), raw, transaction.smtputf8)


def send(context: WorkerContext, transaction: Transaction, envelope: Envelope) -> dict[str, Outcome]:
    """Carry it to the next server, with a journal line before the final dot and one right after its answer."""
    claims = {one.address: one for one in transaction.claims}
    dot_sent: set[str] = set()

    def before_dot(accepted: Sequence[str]) -> bool:
        accepted_claims = [claims[address] for address in accepted]
        fault("dot.write")
        try:
            context.journal.dot(accepted_claims)
        except OSError as error:
            log.error("journal_failed", extra={**transaction.log_fields, "error": str(error)})
            return False
        fault("dot.written")
        # After the line, for a process can be suspended between any two instructions: the lease is asked last of all.
        if not context.leases.stand(accepted_claims):
            context.journal.undone(accepted_claims)
            return False
        dot_sent.update(accepted)
        return True

    def after_dot(accepted: Sequence[str], reply: Reply | None) -> None:
        if reply is not None:
            fault("reply.write")
            try:
                context.journal.reply([claims[address] for address in accepted], reply)
            except (
                OSError
            ) as error:  # the result is still in our hands; only a crash before its commit would miss the line
                log.error("journal_failed", extra={**transaction.log_fields, "error": str(error)})
            fault("reply.written")

    try:
        return context.routes.relay(transaction.route).attempt(envelope, before_dot, after_dot)
    except Exception:  # a bug of ours must not lose mail, nor kill the sender: what was not sent is tried again
        log.exception("attempt_failed", extra=transaction.log_fields)
        reply = Reply(0, "4.3.0", "an error of Mail BB Gun; see its log")
        return {one: Unknown(reply, Phase.DOT) if one in dot_sent else Deferred(reply, Phase.CONNECT) for one in claims}


def hand_over(
    context: WorkerContext, transaction: Transaction, outcomes: Mapping[str, Outcome], *, attempted: bool
) -> None:
    """Judge each recipient's outcome and give the results to the writer; what was fenced goes back as if never taken.

    ``attempted``: the outcomes come of asking a server, and not of what is known of it.
    """
    # One draw for all: recipients who go together are due together again, and share a hint.
    drawn = context.policy.random()
    policy = replace(context.policy, random=lambda: drawn)
    route_taken = {"account": context.routes.name(transaction.route), "before": transaction.failed or None}
    for one in transaction.claims:
        outcome = outcomes[one.address]
        if isinstance(outcome, Fenced):
            context.results.put(one, released(one, FENCED_WAIT_SECONDS, attempted=bool(transaction.failed)))
        else:
            result = judge(outcome, one, policy)
            data = {**(result.data or {}), **route_taken}
            result = replace(result, attempted=attempted or bool(transaction.failed), data=data)
            context.results.put(one, result)


def give_back(context: WorkerContext, transaction: Transaction, wait: float = 0.0, why: str | None = None) -> None:
    """Release claims of which nothing was sent, due again in ``wait`` seconds; their timelines tell ``why``."""
    fault("claims.release")
    account = context.routes.name(transaction.route)
    for one in transaction.claims:
        context.results.put(one, released(one, wait, why, account, attempted=bool(transaction.failed)))
