"""What the routes of a tenant want of a mail to one recipient. Pure.

Routes are tried in the order of their priorities. Each that matches adds its actions; one with ``stop``
ends the list. At the end of the list stands the recipient's own mailbox.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from mailbbgun.inbound_routes.patterns import fits

#: Characters of a header field's value that are compared, at most.
COMPARED = 2_000

Header = Sequence[tuple[str, str]]
"""The fields of a mail in their order: names, and values as people read them."""


@dataclass(frozen=True, slots=True)
class RouteRule:
    """A route that is enabled. ``store``: addresses of mailboxes; "" is the recipient's own."""

    id: UUID
    name: str
    recipient: str | None
    header_name: str | None
    header_value: str
    store: str | None
    forward: Sequence[str]
    url: str | None
    stop: bool

    @classmethod
    def of(cls, identifier: UUID, name: str, matching: Mapping[str, Any], actions: Any, *, stop: bool) -> "RouteRule":
        """Return the rule of a route, as its row tells it."""
        header = matching.get("header") or {}
        wanted: dict[str, Any] = {kind: value for action in actions for kind, value in action.items()}
        store = wanted["store"].get("mailbox") or "" if "store" in wanted else None
        return cls(
            identifier,
            name,
            matching.get("recipient"),
            header.get("name"),
            header.get("value", "*"),
            store,
            tuple(wanted.get("forward", ())),
            wanted["post"]["url"] if "post" in wanted else None,
            stop,
        )

    def matches(self, recipient: str, header: Header | None) -> bool | None:
        """Return whether a mail is this route's; None: only its header will tell."""
        if self.recipient is not None and not fits(self.recipient, recipient):
            return False
        if self.header_name is None:
            return True
        if header is None:
            return None
        name = self.header_name.lower()
        return any(key.lower() == name and fits(self.header_value, value[:COMPARED]) for key, value in header)


@dataclass(slots=True)
class RoutePlan:
    """What is to become of a mail to one recipient.

    ``own``: a route stores it in the recipient's mailbox. ``stopped``: that mailbox is not asked otherwise.
    ``open``: a route that did not match so far may do so once the header is known.
    """

    rules: list[RouteRule] = field(default_factory=list)
    own: bool = False
    stores: dict[str, None] = field(default_factory=dict)
    forwards: dict[str, None] = field(default_factory=dict)
    posts: list[RouteRule] = field(default_factory=list)
    stopped: bool = False
    open: bool = False

    @property
    def to_own_mailbox(self) -> bool:
        """Whether the recipient's own mailbox gets it, if there is one."""
        return self.own or not self.stopped

    @property
    def leaves(self) -> bool:
        """Whether it is forwarded or posted."""
        return bool(self.forwards or self.posts)

    @property
    def dropped(self) -> bool:
        """Whether a route wants that nothing becomes of it."""
        return self.stopped and not (self.own or self.stores or self.leaves)


def planned(rules: Sequence[RouteRule], recipient: str, header: Header | None = None) -> RoutePlan:
    """Return what the rules, in their order, want of a mail. ``header`` is None before DATA."""
    plan = RoutePlan()
    for rule in rules:
        matched = rule.matches(recipient, header)
        if matched is None:
            plan.open = True
        if not matched:
            continue
        plan.rules.append(rule)
        if rule.store is not None:
            _store(plan, rule.store, recipient)
        plan.forwards |= dict.fromkeys(rule.forward)
        if rule.url is not None:
            plan.posts.append(rule)
        if rule.stop:
            plan.stopped = True
            break
    return plan


def _store(plan: RoutePlan, mailbox: str, recipient: str) -> None:
    if not mailbox or mailbox.lower() == recipient.lower():
        plan.own = True
    else:
        plan.stores[mailbox] = None
