"""Opens a message for sending: its bytes come from memory, from the database, or from a spooled file."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mailbbgun.core.errors import SecretUnreadable
from mailbbgun.deliver.context import WorkerContext
from mailbbgun.deliver.preparing.grouping import forwarded
from mailbbgun.deliver.retry import judge, released
from mailbbgun.deliver.transaction import Transaction
from mailbbgun.drivers.operations import InThread
from mailbbgun.events.kinds import Reason
from mailbbgun.messages.outgoing import NotComposed
from mailbbgun.messages.status import ERROR
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.spooled import Raw


@asynccontextmanager
async def opened(context: WorkerContext, transaction: Transaction) -> AsyncIterator[Envelope]:
    """Open a message for sending: the context's value is its envelope, with the same bytes in every attempt.

    A message with files waits for room in the spool folder, and has it until the block ends. Raises
    :class:`NotComposed`, :class:`DatabaseUnavailable`.
    """

    async def envelope(raw: Raw) -> Envelope:
        to = tuple(one.address for one in transaction.claims)
        ids = {one.address: one.delivery_id for one in transaction.claims}
        repeated = any(one.claim_number > 1 for one in transaction.claims)
        whose, smtputf8 = transaction.tenant_id, transaction.smtputf8
        unsigned = Envelope(
            transaction.mail_from, to, raw, smtputf8, deliveries=ids, repeated=repeated, tenant_id=whose
        )
        if transaction.received_for is not None:
            return forwarded(unsigned, transaction.received_for, transaction.route)
        return unsigned if context.domain_keys.none else await _signed(context, transaction, unsigned)

    if transaction.raw is not None:
        yield await envelope(transaction.raw)
        return
    ready = await InThread(lambda: context.composed.ready(transaction.message_id), reads=True)
    if (whole := ready.whole) is not None:
        yield await envelope(whole)
        return
    async with context.spool_budget.taken(ready.composed.size):
        with await InThread(lambda: context.composed.spooled(ready)) as spooled:
            yield await envelope(spooled)


async def _signed(context: WorkerContext, transaction: Transaction, envelope: Envelope) -> Envelope:
    """Return the envelope with what signs its message, if From is of a sending domain; note the selectors."""
    author, message_id = transaction.author, transaction.message_id
    try:
        found = await context.domain_keys.signed(context.db, transaction.tenant_id, author, message_id, envelope)
    except (SecretUnreadable, OSError) as error:  # OSError: of the spooled file
        raise NotComposed(f"the message cannot be signed: {error}") from error
    envelope, transaction.selectors = found
    return envelope


def not_sent(context: WorkerContext, transaction: Transaction, error: NotComposed) -> None:
    """Defer a transaction whose message cannot be composed now. Nothing was sent, no server was asked.

    If that was the last try, the reason tells of a damaged file. A message with a file that may not be
    sent bounces. One that waits for the virus scanner or the blob store keeps its place in the schedule.
    """
    policy = context.policy.for_all()
    now, ended = context.clock.boot(), []
    for one in transaction.claims:
        if error.waits:
            attempted = bool(transaction.failed)
            left = one.left(now)
            wait = error.waits if left is None else min(error.waits, max(left, 0.0))
            ended.append((one, released(one, wait, str(error), attempted=attempted)))
            continue
        result = judge(error.outcome, one, policy, left=one.left(now))._replace(attempted=bool(transaction.failed))
        if error.damaged and result.status == ERROR:
            result = result._replace(reason=Reason.ATTACHMENT_DAMAGED)
        ended.append((one, result))
    context.results.put_together(ended)
