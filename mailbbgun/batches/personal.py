"""Prepares batches of one content for many recipients. The content is stored once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from mailbbgun.accept.accept import Acceptor
from mailbbgun.accept.checks import Sharing
from mailbbgun.accept.draft import Draft
from mailbbgun.accept.fields import KEPT, TO, Fields
from mailbbgun.batches.batching import GivenBatch, Prepared, lane_of_batch
from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import InvalidInput, TooLarge
from mailbbgun.core.ids import new_ids
from mailbbgun.core.timing import timing
from mailbbgun.database.compiled import StatementStep
from mailbbgun.messages import storing
from mailbbgun.messages.composing import Own, compose
from mailbbgun.messages.contents import Content, Personal, StoredContent
from mailbbgun.messages.publisher import Publisher
from mailbbgun.recipients import bulk
from mailbbgun.recipients.check import Recipient
from mailbbgun.recipients.check import check as check_recipients
from mailbbgun.recipients.faults import Faults
from mailbbgun.recipients.trial import Trial
from mailbbgun.settings.settings import Settings
from mailbbgun.templates.engine import Sources


class _Message(NamedTuple):
    """A recipient's message, and the link by which the recipient unsubscribes, if there is one."""

    recipient: Recipient
    id: UUID
    unsubscribe_url: str

    @property
    def values(self) -> Mapping[str, Any]:
        """The values of a template's variables."""
        if not self.unsubscribe_url:
            return self.recipient.variables
        return {"unsubscribe_url": self.unsubscribe_url, **self.recipient.variables}


class _Tried(NamedTuple):
    """A message whose texts can be rendered. ``size`` is about how many bytes they have."""

    recipient: Recipient
    id: UUID
    unsubscribe_url: str
    subject: str
    size: int


class PersonalForm:
    """Prepares batches of recipients: see :class:`~mailbbgun.batches.batching.Form`."""

    def __init__(self, settings: Settings, publisher: Publisher, acceptor: Acceptor) -> None:
        self._settings, self._publisher, self._acceptor = settings, publisher, acceptor

    def prepare(
        self, given: GivenBatch, caller: Caller, batch_id: UUID, now: datetime, faults: dict[int, Faults]
    ) -> Prepared | None:
        """Check the recipients, and what their mails share; see :class:`~mailbbgun.batches.batching.Form`."""
        found, wrong = check_recipients(given.recipients, given.variables, self._settings, caller)
        faults |= wrong
        if not found:
            return None
        first = replace(given.common, to=[given.recipients[found[0].place][TO]])
        # A template is its own source; texts that came with the request are sources if there are variables.
        sharing = Sharing.TEMPLATED if _are_sources(given.common, found) else Sharing.SHARED
        draft = self._acceptor.draft(first, given.options, caller, sharing)
        tried = self._tried(draft, self._with_ids(given.common, found, caller), faults)
        if not tried:
            return None
        assert draft.content is not None  # the draft is of a shared content
        content, ids = StoredContent.of(caller.tenant_id, draft.content), [one.id for one in tried]
        lane = lane_of_batch(given.options.priority)
        times = timing(given.options.send_at, given.options.useful_until, given.options.ttl, now)
        hinted = times.send_at is None and self._publisher.takes(lane, len(ids))
        columns = _columns(given, draft, caller, now) | {"content_id": content.id, "batch_id": batch_id}
        shared = bulk.Shared(columns | times._asdict(), lane, self._settings.HOSTNAME, hinted, times.send_at)
        records = self._records(given, content.content, tried, now)
        return Prepared(
            ids=ids,
            indexes=[one.recipient.place for one in tried],
            subject=draft.subject,
            steps=partial(_steps, content, shared, records),
            after_commit=partial(self._publisher.offer_marked, lane, ids if hinted else ()),
        )

    def _with_ids(self, common: Fields, found: Sequence[Recipient], caller: Caller) -> list[_Message]:
        """Give each recipient's message its id and, if asked for, the link by which the recipient unsubscribes."""
        ids = new_ids(len(found))
        links = [self._acceptor.link(caller, one) for one in ids] if common.unsubscribe else [None] * len(ids)
        return [
            _Message(one, identifier, link(one.box.address) if link else "")
            for one, identifier, link in zip(found, ids, links, strict=True)
        ]

    def _tried(self, draft: Draft, found: Sequence[_Message], faults: dict[int, Faults]) -> list[_Tried]:
        """Return the recipients whose texts can be rendered. The others are added to ``faults``."""
        content = draft.content
        if content is None or not content.templated:
            return [_Tried(*one, draft.subject, 0) for one in found]
        trial = Trial(Sources(content.subject or "", content.text, content.html), self._settings.MAX_SUBJECT_SIZE)
        tried = []
        for one in found:
            try:
                tried.append(_Tried(*one, *trial.of(one.values)))
            except (InvalidInput, TooLarge) as error:
                faults[one.recipient.place] = error.fields or {"variables": [error.message]}
        return tried

    def _records(
        self, given: GivenBatch, content: Content, tried: Sequence[_Tried], now: datetime
    ) -> list[bulk.Record]:
        """Return what is each message's own.

        The first message is composed, which finds what cannot be sent. The sizes of the others follow
        from its size and from those of their texts.
        """
        first = tried[0]
        box, variables = first.recipient.box, first.recipient.variables
        personal = Personal(to=[box], variables=variables, unsubscribe_url=first.unsubscribe_url)
        header = f"<{first.id}@{self._settings.HOSTNAME}>"
        fixed = compose(content, Own(first.id, now, header, first.subject, personal)).size - first.size
        fixed -= len(first.unsubscribe_url)
        common = dict(given.options.metadata)
        return [
            {
                "id": identifier,
                "delivery_id": delivery_id,
                "address": one.box.address,
                "subject": subject,
                "size": fixed + size + len(url),
                "personal": personal_row(one, url),
                "metadata": {**common, **one.metadata} if common else one.metadata,
            }
            for (one, identifier, url, subject, size), delivery_id in zip(tried, new_ids(len(tried)), strict=True)
        ]


def personal_row(one: Recipient, unsubscribe_url: str = "") -> dict[str, Any]:
    """Return what ``contents.Personal.row`` does, in a fraction of the time."""
    to = ((one.box.name, one.box.address),)
    row: dict[str, Any] = {"to": to, "variables": one.variables} if one.variables else {"to": to}
    if unsubscribe_url:
        row["unsubscribe_url"] = unsubscribe_url
    return row


def _are_sources(common: Fields, found: Sequence[Recipient]) -> bool:
    """Return whether the texts of a request are themselves sources of templates."""
    if common.template is not None:
        return False
    texts = (common.subject, common.text or "", common.html or "")
    return any(one.variables for one in found) or (
        bool(common.unsubscribe) and any("unsubscribe_url" in text for text in texts)
    )


def _columns(given: GivenBatch, draft: Draft, caller: Caller, now: datetime) -> dict[str, Any]:
    """Return the columns that the messages share."""
    return dict.fromkeys(bulk.SHARED) | {
        "tenant_id": caller.tenant_id,
        "key_id": caller.key_id,
        "test": caller.tests_only,
        "created_at": now,
        "sender": str(draft.sender),
        "mail_from": draft.mail_from,
        "smtputf8": draft.smtputf8,
        **{name: getattr(given.options, name) for name in KEPT if name in bulk.SHARED},
        "tags": list(dict.fromkeys(given.options.tags)),
    }


def _steps(
    content: StoredContent, shared: bulk.Shared, records: Sequence[bulk.Record], dialect: str
) -> list[StatementStep]:
    return [*storing.content_steps(dialect, [content]), *bulk.steps(dialect, shared, records)]
