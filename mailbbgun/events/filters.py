"""Which events of a log a reader wants."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Text, and_, cast, literal, or_, select
from sqlalchemy.orm import Session

from mailbbgun.database.db import ascii_lower
from mailbbgun.database.texts import contains, domain_of
from mailbbgun.events.batched import OF_BATCH, batch_event_of
from mailbbgun.events.kinds import Kind
from mailbbgun.events.models import EVENTS
from mailbbgun.messages.models import DELIVERIES, MESSAGES, TAGS
from mailbbgun.messages.repo import of_test_messages

_E, _M, _D = EVENTS.c, MESSAGES.c, DELIVERIES.c


class EventFilters(NamedTuple):
    """What an event must be like. Each field that is given must hold; None or empty: any event."""

    kinds: frozenset[Kind] = frozenset()
    message_id: UUID | None = None
    #: An address in lower case. Events of the whole message count, if it is one of its recipients.
    recipient: str | None = None
    tag: str | None = None
    #: The name of an SMTP account.
    account: str | None = None
    begin: datetime | None = None
    #: Events before this time.
    end: datetime | None = None
    #: Part of the event's data or of the subject, in any case of a to z.
    text: str | None = None

    def of_events(self, session: Session, tenant_id: UUID, tests_only: bool) -> Iterator[ColumnElement[bool]]:
        """Yield the conditions of an event. The event of a batch passes: its messages are looked at one by one."""
        if self.message_id is not None:
            batch = batch_event_of(session, tenant_id, self.message_id, tests_only)
            yield _E.message_id == self.message_id if batch is None else _E.message_id.in_([self.message_id, batch])
        if self.begin is not None:
            yield _E.at >= self.begin
        if self.end is not None:
            yield _E.at < self.end
        its: list[ColumnElement[bool]] = []
        if self.kinds:
            its.append(_E.kind.in_(sorted(kind.value for kind in self.kinds)))
        if self.recipient is not None:
            whole = and_(_E.delivery_id.is_(None), _E.message_id.in_(self._to(tenant_id, tests_only)))
            its.append(or_(ascii_lower(_D.address) == self.recipient, whole))
        if self.tag is not None:
            its.append(_E.message_id.in_(self._tagged(tenant_id, tests_only)))
        if self.account is not None:
            its.append(_E.data["account"].as_string() == self.account)
        if self.text is not None:
            text = literal(self.text.lower())
            its.append(or_(contains(ascii_lower(cast(_E.data, Text)), text), contains(ascii_lower(_M.subject), text)))
        if its:
            kept = and_(*its)
            yield or_(kept, OF_BATCH) if self._of_acceptance else and_(kept, ~OF_BATCH)

    def of_messages(self, tenant_id: UUID, tests_only: bool) -> Iterator[ColumnElement[bool]]:
        """Yield the conditions of a message of a batch whose acceptance is looked for."""
        if self.message_id is not None:
            yield _M.id == self.message_id
        if self.recipient is not None:
            yield _M.id.in_(self._to(tenant_id, tests_only))
        if self.tag is not None:
            yield _M.id.in_(self._tagged(tenant_id, tests_only))
        if self.text is not None:
            yield contains(ascii_lower(_M.subject), literal(self.text.lower()))

    @property
    def _of_acceptance(self) -> bool:
        return self.account is None and (not self.kinds or Kind.ACCEPTED in self.kinds)

    def _to(self, tenant_id: UUID, tests_only: bool) -> Select[Any]:
        assert self.recipient is not None
        its = (_D.tenant_id == tenant_id, *of_test_messages(_D.message_id, tenant_id, tests_only))
        # In the form that the index on recipients has.
        of_domain = domain_of(_D.address) == self.recipient.rpartition("@")[2]
        return select(_D.message_id).where(*its, of_domain, ascii_lower(_D.address) == self.recipient)

    def _tagged(self, tenant_id: UUID, tests_only: bool) -> Select[Any]:
        its = (TAGS.c.tenant_id == tenant_id, *of_test_messages(TAGS.c.message_id, tenant_id, tests_only))
        return select(TAGS.c.message_id).where(*its, TAGS.c.tag == self.tag)


NO_FILTERS = EventFilters()
