"""Prepares batches of one content for many recipients. The content is stored once."""

import math
from collections.abc import Callable, Sequence
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
from mailbbgun.composing.compose import Own, compose
from mailbbgun.composing.contents import Content, Personal, StoredContent
from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import InvalidInput, TooLarge
from mailbbgun.core.ids import new_ids
from mailbbgun.core.timing import timing
from mailbbgun.database.compiled import StatementStep
from mailbbgun.database.db import Database
from mailbbgun.messages import storing
from mailbbgun.messages.publisher import Publisher
from mailbbgun.recipients import bulk
from mailbbgun.recipients.budget import TemplateBudget
from mailbbgun.recipients.check import Recipient
from mailbbgun.recipients.check import check as check_recipients
from mailbbgun.recipients.faults import Faults
from mailbbgun.recipients.trial import Trial
from mailbbgun.settings.settings import Settings
from mailbbgun.suppressions import check as suppressions
from mailbbgun.templates.engine import Sources


class _Tried(NamedTuple):
    """A recipient whose texts can be rendered. ``size`` is about how many bytes they have."""

    id: UUID  # of the message
    recipient: Recipient
    unsubscribe_url: str  # "": none
    subject: str
    size: int


class PersonalForm:
    """Prepares batches of recipients: see :class:`~mailbbgun.batches.batching.BatchForm`."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        publisher: Publisher,
        acceptor: Acceptor,
        template_seconds: float = math.inf,
    ) -> None:
        """``template_seconds``: CPU that the templates of a batch may take."""
        self._settings, self._database, self._publisher, self._acceptor = settings, database, publisher, acceptor
        self._template_seconds = template_seconds

    def prepare(
        self, given: GivenBatch, caller: Caller, batch_id: UUID, now: datetime, faults: dict[int, Faults]
    ) -> Prepared | None:
        """Check the recipients, and what their mails share; see :class:`~mailbbgun.batches.batching.BatchForm`."""
        found, wrong = check_recipients(given.recipients, given.variables, self._settings, caller)
        faults |= wrong
        if not found:
            return None
        first = replace(given.common, to=[given.recipients[found[0].place][TO]])
        sharing = Sharing.TEMPLATED if _are_sources(given.common, found) else Sharing.SHARED
        ids = new_ids(len(found))
        draft = self._acceptor.draft(ids[0], first, given.options, caller, sharing)
        link = self._acceptor.link(caller) if given.common.unsubscribe else None
        of = f"the template {given.common.template}" if given.common.template is not None else "the batch's texts"
        tried = self._tried(
            draft, found, ids, link, faults, TemplateBudget(self._template_seconds, of, len(found), "recipients")
        )
        if not tried:
            return None
        assert draft.content is not None  # the draft is of a shared content
        content, ids = StoredContent.of(caller.tenant_id, draft.content), [one.id for one in tried]
        lane = lane_of_batch(given.options.priority)
        times = timing(given.options.send_at, given.options.useful_until, given.options.ttl, now)
        hinted = times.send_at is None and self._publisher.takes(lane, len(ids))
        columns = _columns(given, draft, caller, now) | {"content_id": content.id, "batch_id": batch_id}
        shared = bulk.Shared(columns | times._asdict(), lane, self._settings.HOSTNAME, hinted, times.send_at)
        records = self._records(given, draft, content.content, tried, now)
        return Prepared(
            ids=ids,
            indexes=[one.recipient.place for one in tried],
            subject=draft.subject,
            steps=partial(_steps, content, shared, records),
            suppressed=self._suppressed(tried, caller),
            after_commit=partial(self._publisher.offer_marked, lane, ids if hinted else ()),
        )

    def _suppressed(self, tried: Sequence[_Tried], caller: Caller) -> list[str]:
        """Return the suppressed recipients. Their messages end when a worker claims them."""
        if not caller.has_suppressions:
            return []
        asked = [
            suppressions.TenantRecipient(caller.tenant_id, caller.tests_only, one.recipient.box.address)
            for one in tried
        ]
        return sorted({one.address for one in suppressions.suppressed(self._database, asked)})

    def _tried(
        self,
        draft: Draft,
        found: Sequence[Recipient],
        ids: Sequence[UUID],
        link: Callable[[UUID, str], str] | None,
        faults: dict[int, Faults],
        budget: TemplateBudget,
    ) -> list[_Tried]:
        """Return the recipients whose texts can be rendered. The others are added to ``faults``.

        Raises :class:`TooLarge` if that takes more than the ``budget``.
        """
        content = draft.content
        if content is None or not content.templated:
            return [
                _Tried(identifier, one, link(identifier, one.box.address) if link else "", draft.subject, 0)
                for one, identifier in zip(found, ids, strict=True)
            ]
        trial = Trial(Sources(content.subject or "", content.text, content.html), self._settings)
        tried = []
        for one, identifier in zip(found, ids, strict=True):
            url = link(identifier, one.box.address) if link else ""
            values = {"unsubscribe_url": url, **one.variables} if url else one.variables
            budget.check(one.place)
            try:
                tried.append(_Tried(identifier, one, url, *trial.of(values)))
            except (InvalidInput, TooLarge) as error:
                faults[one.place] = error.fields or {"variables": [error.message]}
        return tried

    def _records(
        self, given: GivenBatch, draft: Draft, content: Content, tried: Sequence[_Tried], now: datetime
    ) -> list[bulk.Record]:
        """Return what is each message's own. Raises :class:`TooLarge` if one is larger than MAX_MESSAGE_SIZE.

        The first message is composed, which finds what cannot be sent. The sizes of the others follow
        from its size and from those of their texts.
        """
        others = (draft.mail_from, draft.sender.address, *(box.address for box in content.reply_to))
        ascii_so_far = all(map(str.isascii, others))
        identifier, one, url, subject, size = tried[0]
        keys = self._tracking_keys(given, tried)
        personal = Personal(to=[one.box], variables=one.variables, unsubscribe_url=url, tracking_key=keys[0])
        header = f"<{identifier}@{self._settings.HOSTNAME}>"
        fixed = compose(content, Own(identifier, now, header, subject, personal)).size - size
        self._acceptor.check_size(fixed + max(one.size for one in tried))
        common = dict(given.options.metadata)
        return [
            {
                "id": identifier,
                "delivery_id": delivery_id,
                "address": one.box.address,
                "subject": subject,
                "size": fixed + size,
                "smtputf8": not (ascii_so_far and one.box.address.isascii()),
                "personal": personal_row(one, url, key),
                "metadata": {**common, **one.metadata} if common else one.metadata,
            }
            for (identifier, one, url, subject, size), delivery_id, key in zip(
                tried, new_ids(len(tried)), keys, strict=True
            )
        ]

    def _tracking_keys(self, given: GivenBatch, tried: Sequence[_Tried]) -> list[str]:
        """Return the key of each message's tracked links; empty ones if nothing is tracked."""
        if not given.common.tracked:
            return [""] * len(tried)
        trackers = (self._acceptor.tracker(one.id) for one in tried)
        return [tracker.key if tracker else "" for tracker in trackers]


def personal_row(one: Recipient, unsubscribe_url: str = "", tracking_key: str = "") -> dict[str, Any]:
    """Return what ``contents.Personal.row`` does, in a fraction of the time."""
    row: dict[str, Any] = {"to": ((one.box.name, one.box.address),)}
    if one.variables:
        row["variables"] = one.variables
    if unsubscribe_url:
        row["unsubscribe_url"] = unsubscribe_url
    if tracking_key:
        row["tracking_key"] = tracking_key
    return row


def _are_sources(common: Fields, found: Sequence[Recipient]) -> bool:
    """Return whether the texts of a request are sources of templates: a template has its own, and they need values."""
    if common.template is not None:
        return False
    texts = (common.subject, common.text or "", common.html or "")
    named = bool(common.unsubscribe) and any("unsubscribe_url" in text for text in texts)
    return named or any(one.variables for one in found)


def _columns(given: GivenBatch, draft: Draft, caller: Caller, now: datetime) -> dict[str, Any]:
    """Return the columns that the messages share."""
    return dict.fromkeys(bulk.SHARED) | {
        "tenant_id": caller.tenant_id,
        "key_id": caller.key_id,
        "test": caller.tests_only,
        "received": False,
        "created_at": now,
        "sender": str(draft.sender),
        "mail_from": draft.mail_from,
        **{name: getattr(given.options, name) for name in KEPT if name in bulk.SHARED},
        "tags": list(dict.fromkeys(given.options.tags)),
    }


def _steps(
    content: StoredContent, shared: bulk.Shared, records: Sequence[bulk.Record], dialect: str
) -> list[StatementStep]:
    return [*storing.content_steps(dialect, [content]), *bulk.steps(dialect, shared, records)]
