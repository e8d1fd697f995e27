"""Delivers mail transactions: take, deliver, try a route, read, send, hand over.

A transaction is taken, waits in the send queue, and is delivered when a connection is free. The
verbs that wait for a server are coroutines (``drivers/operations.py``). A verb may
hand over the transaction's results, which ends its way, or return another route, for which the
transaction then waits again.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from mailbbgun.core.errors import DatabaseUnavailable
from mailbbgun.core.faults import fault
from mailbbgun.deliver.claim import Claim, Loaded, claim
from mailbbgun.deliver.context import WorkerContext
from mailbbgun.deliver.preparing.grouping import MOST_RECIPIENTS, grouped
from mailbbgun.deliver.preparing.open_message import not_sent, opened
from mailbbgun.deliver.retry import judge, released, too_late
from mailbbgun.deliver.transaction import Transaction
from mailbbgun.events.changes import holding
from mailbbgun.events.changes.record import Result
from mailbbgun.messages.outgoing import NotComposed
from mailbbgun.routing.circuit_breaker import PROBE_WAIT
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import (
    Deferred,
    Delivered,
    Fenced,
    Outcome,
    Phase,
    Refused,
    Unknown,
    another_server_may_do,
)
from mailbbgun.smtp.reply import Reply

#: Full-length SMTP dialogues that one attempt may take before it counts as hanging. An attempt may
#: ask several servers, but rarely are all of them slow to the end.
DIALOGUES_PER_ATTEMPT = 2

#: Seconds until a claim comes back whose lease did not stand when its dot was to be sent.
FENCED_WAIT_SECONDS = 1.0

#: Seconds until claims come back that could not be grouped into transactions, because of a bug of ours.
BROKEN_WAIT_SECONDS = 30.0

#: Seconds until a transaction comes back that was not sent because the journal cannot be written.
JOURNAL_WAIT_SECONDS = 5.0

log = logging.getLogger("mailbbgun.deliver")


def take(context: WorkerContext, message_ids: Sequence[UUID], *, isolated: bool = False) -> list[Transaction]:
    """Claim the deliveries of these messages that are due, in one commit, and group them by route.

    Those of suspended tenants are held. Claims of which no transactions can be made are given back.

    ``isolated``: see :func:`claim.claim`. Raises :class:`DatabaseUnavailable`.
    """
    lease_ends = context.leases.next_end()
    fault("claim.commit")  # on PostgreSQL the statement commits itself
    with context.db.statements() as statements:
        claims, messages = claim(
            statements, context.owner, message_ids, context.settings.LEASE_SECONDS, lease_ends, isolated=isolated
        )
    fault("claim.committed")
    try:
        if missing := set(message_ids) - messages.keys():
            # Their tenant may have become active since the claim. Then they are not held, and the intake
            # lets the tick hint them again (``claim.put_early_back``).
            holding.hold(context.db, missing)
        _compose_small(context, messages)
        accounts = context.account_cache.accounts_of(context.db, {one.tenant_id for one in claims})
        context.routes.add_accounts(accounts.values())
        context.domain_keys.load(context.db, accounts.keys())
        context.return_paths.load()
        sendable = context.results.sendable(claims, messages, lease_ends - context.settings.LEASE_SECONDS)
        transactions = grouped(context, sendable, messages, accounts)
    except DatabaseUnavailable:
        _give_all_back(context, claims, 0.0)
        raise
    # An error of ours must neither keep these claims nor make them look as if they had been sent.
    except Exception:
        log.exception("grouping_failed", extra={"claims": len(claims)})
        _give_all_back(context, claims, BROKEN_WAIT_SECONDS)
        return []
    context.leases.add(transactions)
    return transactions


def _compose_small(context: WorkerContext, messages: dict[UUID, Loaded]) -> None:
    """Compose the small messages among these that are stored as what they are made of."""
    if wanted := [one for one, message in messages.items() if message.content_id is not None]:
        for identifier, raw in context.composed.small(wanted).items():
            messages[identifier] = messages[identifier]._replace(raw=raw)


def _give_all_back(context: WorkerContext, claims: Sequence[Claim], wait: float) -> None:
    """Give back claims of which no transactions were made, due again in ``wait`` seconds."""
    by_message: dict[UUID, list[tuple[Claim, Result]]] = defaultdict(list)
    for one in claims:
        by_message[one.message_id].append((one, released(one, wait)))
    for ended in by_message.values():
        context.results.put_together(ended)


async def deliver(context: WorkerContext, transaction: Transaction) -> str | None:
    """Deliver one transaction and hand over its results.

    Returns another route if the transaction is to wait for that one instead. Raises
    :class:`DatabaseUnavailable` before anything is sent.
    """
    if transaction.tenant_id in context.account_cache.suspended:
        give_back(context, transaction)
        return None
    if transaction.claims[0].is_late(context.clock.boot()):  # all are of one message
        context.results.put_together([(one, too_late(one)) for one in transaction.claims])
        return None
    # Its account is gone. If it has no other candidate, it is given back: a new claim looks for the
    # accounts that there are now.
    if not context.routes.exists(transaction.route):
        if route := next_candidate(context, transaction):
            return route
        give_back(context, transaction)
        return None
    if wait := context.breaker.enter(transaction):
        return turn_away(context, transaction, wait)
    try:
        return await try_route(context, transaction)
    finally:
        context.breaker.leave(transaction)


def turn_away(context: WorkerContext, transaction: Transaction, wait: float) -> str | None:
    """Find what to do with a transaction whose route is paused for ``wait`` seconds.

    Returns another candidate route that is open. If there is none, the transaction is deferred if
    the route's server cannot be talked to, and else given back until a route opens.
    """
    if route := next_candidate(context, transaction):
        return route
    if failure := context.breaker.unreachable(transaction.route):
        not_tried = replace(
            failure, reply=replace(failure.reply, text=f"not tried, for the last one failed: {failure.reply.text}")
        )
        hand_over(context, transaction, {one.address: not_tried for one in transaction.claims}, attempted=False)
        return None
    # Wait for the route that opens first. While a probe is on its way there, the pause is short and
    # the timeline does not show it.
    soonest = min(
        [wait, *(context.breaker.paused_for(one) for one in transaction.candidates if context.routes.exists(one))]
    )
    cause = context.breaker.cause(transaction.route) if soonest > PROBE_WAIT else None
    why = f"not tried, for the last one failed: {cause.reply.text}" if cause else None
    give_back(context, transaction, context.come_back_times.due_in(transaction.route, soonest), why)
    return None


def next_candidate(context: WorkerContext, transaction: Transaction) -> str | None:
    """Return the best other candidate route that is open, or None.

    The route is taken off the transaction's candidates.
    """
    route = next(
        (one for one in transaction.candidates if context.routes.may_leave_soon(one, context.breaker.paused_for)), None
    )
    if route:
        transaction.candidates.remove(route)
        transaction.started = None
    return route


def move(context: WorkerContext, transaction: Transaction, route: str) -> list[Transaction]:
    """Give a transaction another route; return the transactions to put into the send queue.

    They are several if the new route takes fewer recipients at once.
    """
    most = context.routes.recipients(route, own_sender=transaction.own_mail_from) or MOST_RECIPIENTS
    claims = transaction.claims
    transaction.route, transaction.claims = route, claims[:most]
    rest = [claims[start : start + most] for start in range(most, len(claims), most)]
    further = [
        replace(transaction, claims=part, candidates=[*transaction.candidates], failed=[*transaction.failed])
        for part in rest
    ]
    context.leases.add(further)
    return [transaction, *further]


async def try_route(context: WorkerContext, transaction: Transaction) -> str | None:
    """Send a transaction by its route and hand over its results.

    Returns another candidate route if there is one and this route's server cannot be talked to,
    refuses the login, or closes (421) before the dot. Raises :class:`DatabaseUnavailable` before
    anything is sent.
    """
    # Without a journal the dot may not be sent, so there is no use in beginning.
    if not context.journal.works():
        give_back(context, transaction, JOURNAL_WAIT_SECONDS)
        return None
    try:
        async with opened(context, transaction) as envelope:
            return await _send_by_route(context, transaction, envelope)
    except NotComposed as error:
        not_sent(context, transaction, error)
        return None


async def _send_by_route(context: WorkerContext, transaction: Transaction, envelope: Envelope) -> str | None:
    """Send an envelope by the transaction's route and hand over its results: see :func:`try_route`."""
    delivery_id = transaction.claims[0].delivery_id  # the only one, if it has a return path of its own
    if not transaction.own_mail_from and (bounces_to := context.routes.envelope_from(transaction.route, delivery_id)):
        envelope = replace(envelope, mail_from=bounces_to, smtputf8=envelope.smtputf8 or not bounces_to.isascii())
    transaction.limit = DIALOGUES_PER_ATTEMPT * context.routes.timeouts.dialogue(
        len(envelope.recipients), len(envelope.raw)
    )
    transaction.started = context.clock.boot()
    outcomes = context.breaker.about_whom(transaction, await send(context, transaction, envelope))
    # If the account was deleted meanwhile, the outcome says nothing about a server.
    if context.routes.exists(transaction.route):
        context.breaker.record(transaction, outcomes.values())
    context.note_attempt(transaction, outcomes)
    if all(another_server_may_do(one) for one in outcomes.values()) and (route := next_candidate(context, transaction)):
        # Nothing was sent, and no server has accepted or refused the mail: another account may take
        # it in the same attempt.
        first = next(iter(outcomes.values()))
        assert isinstance(first, Deferred | Refused)  # another_server_may_do is true of no other
        transaction.failed.append({"account": context.routes.name(transaction.route) or "", "reply": str(first.reply)})
        return route
    hand_over(context, transaction, outcomes, attempted=context.routes.has_server(transaction.route))
    return None


async def send(context: WorkerContext, transaction: Transaction, envelope: Envelope) -> dict[str, Outcome]:
    """Send the mail, with a journal line before the final dot and after the reply; return each recipient's outcome."""
    claims = {one.address: one for one in transaction.claims}
    dot_sent: dict[str, Reply | None] = {}  # by address: the server's reply to the last dot sent for it

    async def before_dot(accepted: Sequence[str]) -> bool:
        if transaction.claims[0].is_late(context.clock.boot()):
            return False  # the next claim ends it
        try:
            may_be_sent = await context.journal_turns.dot([claims[address] for address in accepted])
        except OSError as error:
            log.error("journal_failed", extra={**transaction.log_fields, "error": str(error)})
            return False
        if may_be_sent:
            dot_sent.update(dict.fromkeys(accepted))
        return may_be_sent

    async def after_dot(accepted: Sequence[str], reply: Reply | None) -> None:
        dot_sent.update(dict.fromkeys(accepted, reply))
        if reply is not None:
            try:
                await context.journal_turns.reply([claims[address] for address in accepted], reply)
            # The result is still in memory: only a crash before its commit would miss this line.
            except OSError as error:
                log.error("journal_failed", extra={**transaction.log_fields, "error": str(error)})

    try:
        return await context.routes.relay(transaction.route).attempt(envelope, before_dot, after_dot)
    # An error of ours must neither lose mail nor end the loop.
    except Exception:
        log.exception("attempt_failed", extra=transaction.log_fields)
        return {one: _after_our_error(one in dot_sent, dot_sent.get(one)) for one in claims}


def _after_our_error(dot_sent: bool, reply: Reply | None) -> Outcome:
    """Return the outcome for a recipient of an attempt that an error of ours ended.

    ``reply`` is the server's to the dot, if that was sent and answered. Mail that the server has not
    taken is tried again: without the error it might have been sent once more in this attempt.
    """
    if reply is not None and reply.code // 100 == 2:
        return Delivered(reply)
    ours = Reply(0, "4.3.0", "an error of Mail BB Gun; see its log")
    return Unknown(ours, Phase.DOT) if dot_sent and reply is None else Deferred(ours, Phase.CONNECT)


def hand_over(
    context: WorkerContext, transaction: Transaction, outcomes: Mapping[str, Outcome], *, attempted: bool
) -> None:
    """Judge each recipient's outcome and give the result to the writer.

    Claims that were fenced are given back as if nothing had been tried. ``attempted`` says whether
    a server was asked in this attempt.
    """
    policy = context.policy if len(transaction.claims) == 1 else context.policy.for_all()
    route_taken = {
        "account": context.routes.name(transaction.route),
        "before": transaction.failed or None,
        "dkim": transaction.selectors or None,
    }
    attempted = attempted or bool(transaction.failed)
    now, ended = context.clock.boot(), []
    for one in transaction.claims:
        outcome = outcomes[one.address]
        if isinstance(outcome, Fenced):
            result = released(one, FENCED_WAIT_SECONDS, attempted=bool(transaction.failed))
        else:
            result = judge(outcome, one, policy, route_taken, left=one.left(now))
            if not attempted:
                result = result._replace(attempted=False)
        ended.append((one, result))
    context.results.put_together(ended)


def give_back(context: WorkerContext, transaction: Transaction, wait: float = 0.0, why: str | None = None) -> None:
    """Give back the claims of a transaction that was not sent; they are due in ``wait`` seconds.

    Their timelines show ``why``, if given.
    """
    fault("claims.release")
    account = context.routes.name(transaction.route)
    now, ended = context.clock.boot(), []
    for one in transaction.claims:
        # Mail that is useful no longer than it would wait is claimed once more at that time, and ended.
        left = one.left(now)
        its_wait = wait if left is None else min(wait, max(left, 0.0))
        ended.append((one, released(one, its_wait, why, account, attempted=bool(transaction.failed))))
    context.results.put_together(ended)
