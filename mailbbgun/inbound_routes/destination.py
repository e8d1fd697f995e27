"""Delivers mail to local domains: to mailboxes, and as routes want it (``relays/local.py``).

Routes are asked when the mail is delivered here, whichever way it came in. What they want is stored in
the transaction of that delivery's result, so a process that dies before has done nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from mailbbgun.domains.local import LocalDomains
from mailbbgun.inbound_routes.effect import NewDelivery, RoutedEffect, RoutedKind
from mailbbgun.inbound_routes.plan import Header
from mailbbgun.inbound_routes.recipients import InboundRecipients, Intent
from mailbbgun.mailboxes.models import QUARANTINE_FIELD
from mailbbgun.mailboxes.resolve import UNKNOWN
from mailbbgun.mailboxes.store import Stored
from mailbbgun.mime_reading.read import fields_of
from mailbbgun.relays.local import HOMELESS, Destination
from mailbbgun.relays.posting.relay import post_address
from mailbbgun.services import Services
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Bounced, Deferred, Delivered, Outcome, Phase
from mailbbgun.smtp.reply import Reply

#: Characters of a reply, at most.
LONGEST_REPLY = 400

LOOP = Reply(554, "5.4.6", "a loop: it has been forwarded from this address before")
NOT_FORWARDED = Reply(550, "5.7.1", "not forwarded, for it is quarantined")


class RoutedMail:
    """The destination of mail to local domains: routes first, and mailboxes. Thread-safe."""

    def __init__(self, services: Services, domains: LocalDomains, mailboxes: Destination) -> None:
        self._mailboxes = mailboxes
        self._recipients = InboundRecipients(services.db, domains)

    def takes(self, domain: str, tenant_id: UUID | None) -> bool:
        """Return whether a domain is local. See ``relays/local.py``."""
        return self._mailboxes.takes(domain, tenant_id)

    def deliver(self, envelope: Envelope) -> Mapping[str, Outcome]:
        """Return the outcome of each recipient, with what its mailbox and its routes get."""
        # What a route sent here goes to a mailbox: so routes of one service cannot send mail round in circles.
        if envelope.received_for is not None:
            return self._mailboxes.deliver(envelope)
        # What routes want becomes part of the message: so mail of another tenant, which would see it, has no routes.
        found_rules = self._recipients.rules(envelope.recipients)
        rules = {owner: its for owner, its in found_rules.items() if owner == envelope.tenant_id}
        if not any(rules.values()):
            return self._mailboxes.deliver(envelope)
        raw = envelope.raw if isinstance(envelope.raw, bytes) else b"".join(envelope.raw.octets())
        envelope, header = replace(envelope, raw=raw), fields_of(raw)
        found = self._recipients.intents(envelope.recipients, rules, len(raw), header)
        routed = {one: its[1] for one, its in found.items() if its and its[1].plan.rules}
        others = tuple(one for one in envelope.recipients if one not in routed)
        outcomes = dict(self._mailboxes.deliver(replace(envelope, recipients=others))) if others else {}
        quarantined = raw.startswith(f"{QUARANTINE_FIELD}:".encode())
        for one, intent in routed.items():
            outcomes[one] = self._routed(envelope, one, intent, _forbidding(one, header, quarantined=quarantined))
        return outcomes

    def _routed(self, envelope: Envelope, recipient: str, intent: Intent, forbidden: Reply | None) -> Outcome:
        """Return the outcome of a recipient that routes match. ``forbidden``: why it may not be forwarded."""
        plan = intent.plan
        if intent.homeless:
            return HOMELESS
        if no_room := intent.no_room:  # nothing is done until all can be, as at the door and in the effect's gate
            return _refused(no_room)
        forwards = [] if forbidden else [*plan.forwards]
        new = [NewDelivery(one, RoutedKind.MAIL) for one in (*(one.address for one in intent.stores), *forwards)]
        new += [NewDelivery(post_address(rule.id), RoutedKind.POST) for rule in plan.posts]
        if not new and not intent.own and not plan.dropped:
            return _refused(forbidden if plan.forwards and forbidden else UNKNOWN)
        effect = None
        if intent.own:
            stored = self._mailboxes.deliver(replace(envelope, recipients=(recipient,)))[recipient]
            if not isinstance(stored, Delivered):  # it was just deleted, or filled
                return stored
            assert isinstance(stored.effect, Stored)
            effect = stored.effect
        told = _told(intent, forwards, forbidden if plan.forwards else None)
        return Delivered(Reply(250, "2.1.5", told[:LONGEST_REPLY]), effect=RoutedEffect(recipient, new, effect))


def _forbidding(recipient: str, header: Header, *, quarantined: bool) -> Reply | None:
    """Return why a mail may not be forwarded, if it may not.

    A server that forwards writes Delivered-To: with it the mail has been here before.
    """
    if any(name.lower() == "delivered-to" and value.lower() == recipient.lower() for name, value in header):
        return LOOP
    return NOT_FORWARDED if quarantined else None


def _refused(reply: Reply) -> Outcome:
    return Bounced(reply, Phase.RCPT) if reply.code >= 500 else Deferred(reply, Phase.RCPT)


def _told(intent: Intent, forwards: Sequence[str], forbidden: Reply | None) -> str:
    """Return what was done, for the delivery's timeline."""
    plan = intent.plan
    stores = [one.address for one in (*([intent.own] if intent.own else ()), *intent.stores)]
    done = [f"stored for {', '.join(stores)}"] if stores else []
    done += [f"forwarded to {', '.join(forwards)}"] if forwards else []
    done += [f"posted to {', '.join(_host(rule.url or '') for rule in plan.posts)}"] if plan.posts else []
    done += [forbidden.text] if forbidden else []
    names = ", ".join(rule.name or str(rule.id) for rule in plan.rules)
    return f"{'; '.join(done) or 'dropped'} (inbound routes: {names})"


def _host(url: str) -> str:
    """Return the host of a URL: the rest may have a secret in it."""
    return url.partition("://")[2].partition("/")[0].partition("?")[0]
