"""Groups claims into transactions: recipients of one message that may take the same routes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from uuid import UUID

from mailbbgun.deliver.claim import Claim, Loaded
from mailbbgun.deliver.context import WorkerContext
from mailbbgun.deliver.transaction import Transaction
from mailbbgun.relays.posting.relay import POST_PREFIX
from mailbbgun.routing.routes import LOCAL
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp_accounts.cache import TenantAccounts

#: Recipients of one transaction: every server accepts that many (RFC 5321 §4.5.3.1.8).
MOST_RECIPIENTS = 100


def grouped(
    context: WorkerContext,
    claims: Sequence[Claim],
    messages: Mapping[UUID, Loaded],
    accounts: Mapping[UUID, TenantAccounts],
) -> list[Transaction]:
    """Return the transactions of claims, each with the route that it takes first."""
    by_message: dict[UUID, list[Claim]] = defaultdict(list)
    transactions = []
    for one in claims:
        if one.received_for is None:
            by_message[one.message_id].append(one)
        else:
            transactions.append(_routed(context, one, messages[one.message_id], accounts[one.tenant_id]))
    for message_id, its in by_message.items():
        message = messages[message_id]
        own, author, theirs = message.own_mail_from, message.from_address, accounts[its[0].tenant_id]
        of_message = partial(Transaction, message_id, message.mail_from, message.smtputf8, message.raw)
        ways = partial(context.routes.candidates, theirs, author, test=message.test, received=message.received)
        groups: dict[tuple[str, ...], list[Claim]] = defaultdict(list)
        for one in its:
            groups[ways(one.address, tenant_id=one.tenant_id)].append(one)
        for candidates, members in groups.items():
            while members:
                route, *others = context.routes.ordered(candidates, context.breaker.paused_for)
                most = min(MOST_RECIPIENTS, context.routes.recipients(route, own_sender=own) or MOST_RECIPIENTS)
                part, members = members[:most], members[most:]
                transactions.append(of_message(route, part, others, author, own, traceparent=message.traceparent))
    return transactions


def forwarded(envelope: Envelope, recipient: str, route: str) -> Envelope:
    """Return the envelope of a mail that a route of a recipient sends on. No key of the tenant signs it.

    What leaves gets Delivered-To, as other servers write it: with it the mail is known if it comes back.
    """
    envelope = replace(envelope, received_for=recipient)
    if route == LOCAL or route.startswith(POST_PREFIX):
        return envelope
    field = f"Delivered-To: {recipient}\r\n".encode()
    return replace(envelope, sign=lambda header, body=None: field)


def _routed(context: WorkerContext, claim: Claim, message: Loaded, theirs: TenantAccounts) -> Transaction:
    """Return the transaction of a delivery that an inbound route made.

    It is forwarded in the name of the recipient that it came to: that is the tenant's own address. Its
    author is a stranger, for whom no account may send and nothing is signed. A null sender stays one, or
    two servers could send each other bounces for ever (RFC 5321 §6.1).
    """
    recipient = claim.received_for or ""
    posted = claim.address.startswith(POST_PREFIX)
    candidates = context.routes.candidates(theirs, recipient, claim.address, tenant_id=claim.tenant_id)
    route, *others = context.routes.ordered(candidates, context.breaker.paused_for)
    return Transaction(
        claim.message_id,
        message.mail_from if posted or not message.mail_from else recipient,
        message.smtputf8 or not claim.address.isascii(),
        message.raw,
        route,
        [claim],
        others,
        own_mail_from=posted or not message.mail_from,
        received_for=recipient,
        traceparent=message.traceparent,
    )
