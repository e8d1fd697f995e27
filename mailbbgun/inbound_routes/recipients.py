"""Tells which recipients at local domains take mail, by mailboxes and routes: for the SMTP door, and for trials."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from mailbbgun.core import addresses
from mailbbgun.core.errors import InvalidInput
from mailbbgun.database.db import Database
from mailbbgun.domains.local import LocalDomain, LocalDomains
from mailbbgun.inbound_routes import repo
from mailbbgun.inbound_routes.plan import Header, RoutePlan, RouteRule, planned
from mailbbgun.mailboxes.quota import FULL, TOO_LARGE
from mailbbgun.mailboxes.resolve import NOT_LOCAL, UNKNOWN, FoundMailbox, resolve
from mailbbgun.smtp.reply import Reply

#: Why a mail has no room.
NO_ROOM = (TOO_LARGE, FULL)


TAKEN = Reply(250, "2.1.5", "taken")
UNDECIDED = Reply(250, "2.1.5", "taken if a route matches its header")


class Taking(NamedTuple):
    """A recipient's mail is taken. ``decided``: whatever is in it; otherwise its header decides."""

    tenant_id: UUID
    decided: bool


class Intent(NamedTuple):
    """What is wanted of a mail to one recipient, and where it can be stored."""

    plan: RoutePlan
    own: FoundMailbox | None
    stores: Sequence[FoundMailbox]
    #: Why mailboxes do not take it, the recipient's own first.
    refused: Sequence[Reply]

    @property
    def homeless(self) -> bool:
        """Whether the recipient's domain has ceased to be local since its routes were found."""
        return self.plan.to_own_mailbox and self.own is None and self.refused[0] == NOT_LOCAL

    @property
    def no_room(self) -> Reply | None:
        """The reply of a mailbox that has no room for it, that of the smallest first; None: all have."""
        return next((reply for reply in NO_ROOM if reply in self.refused), None)


class InboundRecipients:
    """Knows the recipients at local domains. Thread-safe."""

    def __init__(self, database: Database, domains: LocalDomains) -> None:
        self._database, self._domains = database, domains

    def rules(self, recipients: Sequence[str]) -> dict[UUID, list[RouteRule]]:
        """Return the enabled routes, in their order, of each tenant that has these recipients' domains.

        Raises :class:`DatabaseUnavailable`.
        """
        found = {}
        for tenant_id in {local.tenant_id for one in recipients if (local := self._local(one))}:
            with self._database.read(tenant_id) as session:
                found[tenant_id] = repo.rules(session, tenant_id)
        return found

    def intents(
        self,
        recipients: Sequence[str],
        rules: Mapping[UUID, Sequence[RouteRule]],
        size: int = 0,
        header: Header | None = None,
    ) -> dict[str, tuple[UUID, Intent] | None]:
        """Return for each recipient its tenant and what is wanted; None: its domain is not local.

        ``rules``: what :meth:`rules` returns. ``size``: octets of the mail, as far as they are known.
        Raises :class:`DatabaseUnavailable`.
        """
        owners = {one: local for one in recipients if (local := self._local(one)) and local.tenant_id in rules}
        plans = {one: planned(rules[local.tenant_id], one, header) for one, local in owners.items()}
        own = [one for one, plan in plans.items() if plan.to_own_mailbox]
        # A mailbox has room for a mail or not, whoever it is to.
        wanted = dict.fromkeys([*own, *(mailbox for plan in plans.values() for mailbox in plan.stores)])
        found = resolve(self._database, self._domains, [*wanted], size) if wanted else {}
        made: dict[str, tuple[UUID, Intent] | None] = {}
        for one in recipients:
            made[one] = (owners[one].tenant_id, _intent(plans[one], one, found)) if one in owners else None
        return made

    def taking(
        self, recipients: Sequence[str], size: int = 0, header: Header | None = None
    ) -> dict[str, Taking | Reply]:
        """Return for each recipient that its mail is taken, or the reply that refuses it. Raises as :meth:`intents`.

        Without a ``header`` it is the answer to RCPT, with one that to the mail.
        """
        found = self.intents(recipients, self.rules(recipients), size, header)
        return {one: _taking(*intent) if intent else NOT_LOCAL for one, intent in found.items()}

    def tried(self, tenant_id: UUID, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Return what would become of a mail (``schemas.InboundTrial``), as ``schemas.InboundVerdict`` shows it.

        A domain that is local to another tenant is told as one that is not local. Raises :class:`InvalidInput`, and
        as :meth:`intents`.
        """
        try:
            recipient = addresses.address(wanted["recipient"])
        except ValueError as error:
            raise InvalidInput("Some fields are not valid.", fields={"recipient": [str(error)]}) from error
        header = None if wanted["headers"] is None else [*wanted["headers"].items()]
        rules = {owner: its for owner, its in self.rules([recipient]).items() if owner == tenant_id}
        found = self.intents([recipient], rules, header=header)[recipient]
        if found is None:
            return {"routes": [], "stores": [], "forwards": [], "posts": [], "reply": _said(NOT_LOCAL)}
        plan, own, stores, _ = intent = found[1]
        reply = _taking(tenant_id, intent)
        return {
            "routes": [{"id": rule.id, "name": rule.name} for rule in plan.rules],
            "stores": [one.address for one in (*([own] if own else ()), *stores)],
            "forwards": [*plan.forwards],
            "posts": [rule.url for rule in plan.posts],
            "reply": _said(reply if isinstance(reply, Reply) else TAKEN if reply.decided else UNDECIDED),
        }

    def _local(self, address: str) -> LocalDomain | None:
        return self._domains.of(address.rpartition("@")[2].lower())


def _intent(plan: RoutePlan, recipient: str, found: dict[str, FoundMailbox | Reply]) -> Intent:
    its = [*([found[recipient]] if plan.to_own_mailbox else []), *(found[one] for one in plan.stores)]
    own = found[recipient] if plan.to_own_mailbox else None
    others = [one for mailbox in plan.stores if isinstance(one := found[mailbox], FoundMailbox)]
    return Intent(
        plan,
        own if isinstance(own, FoundMailbox) else None,
        others,
        [one for one in its if isinstance(one, Reply)],
    )


def _taking(tenant_id: UUID, intent: Intent) -> Taking | Reply:
    plan = intent.plan
    if no_room := intent.no_room:
        return no_room
    if intent.own or intent.stores or plan.leaves or plan.dropped:
        return Taking(tenant_id, decided=True)
    return Taking(tenant_id, decided=False) if plan.open else UNKNOWN


def _said(reply: Reply) -> str:
    return f"{reply.code} {reply.enhanced} {reply.text}"
