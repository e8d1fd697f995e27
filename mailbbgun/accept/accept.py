"""The verb: check a submission and compose the message. It is stored when the result is asked for.

First the commit, then the hint to the workers: no request waits for the queue.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from mailbbgun.accept.attached import Attached
from mailbbgun.accept.checks import Sharing, check
from mailbbgun.accept.draft import Draft, PreparedSubmission, from_draft
from mailbbgun.accept.fields import KEPT, PLAIN, Fields, Options, Raw, Received, Submission
from mailbbgun.accept.mime.received import check_finished
from mailbbgun.accept.pending import PendingWrite, Rows
from mailbbgun.accept.store import Store
from mailbbgun.composing.compose import Own, compose
from mailbbgun.composing.contents import File, StoredContent
from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import InvalidInput, TooLarge
from mailbbgun.core.ids import new_id
from mailbbgun.core.timing import NOW, timing
from mailbbgun.database import idempotency
from mailbbgun.limits.duplicates import DuplicateGuard
from mailbbgun.messages.publisher import Publisher
from mailbbgun.messages.status import PENDING
from mailbbgun.settings.settings import Settings
from mailbbgun.suppressions.links import UnsubscribeLink, UnsubscribeLinks
from mailbbgun.templates.resolve import Templates
from mailbbgun.tracing.spans import OpenSpan, Traces
from mailbbgun.tracking.keys import Tracker, TrackingKeys


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a door answers. ``replayed``: it is the answer to an earlier request with the same key."""

    id: str
    status: str
    subject: str
    replayed: bool = False
    #: Recipients that the tenant has suppressed: nothing is sent to them.
    suppressed: Sequence[str] = ()
    #: The id of the message that the key has just sent, and that this would be once more. See ``limits/duplicates.py``.
    duplicate_of: str | None = None


class Accepting:
    """A valid submission. Nothing is stored until :meth:`begin` or :meth:`result` is called."""

    def __init__(self, pending: PendingWrite) -> None:
        self._pending = pending

    @property
    def ended(self) -> bool:
        """Whether the message is stored, so that :meth:`result` returns at once."""
        return self._pending.stored

    def begin(self, then: Callable[[], None]) -> None:
        """Begin to store the message. ``then`` is called, by any thread, as soon as :meth:`result`
        need not wait for a shared commit: the message is stored, or ``result`` must do the rest.
        """
        self._pending.begin(then)

    def result(self) -> Accepted:
        """Wait until the message is stored durably.

        Raises :class:`IdempotencyMismatch`, :class:`QuotaExceeded`, and :class:`DatabaseUnavailable`
        if it is not certain that the message is stored.
        """
        first = self._pending.result()
        if first is None:
            return Accepted(**self._pending.rows.response)
        return Accepted(**first, replayed=self._pending.duplicate is None)


class Repeated(Accepting):
    """A submission that was accepted before, under the same key: nothing is stored."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self._answer = answer

    @property
    def ended(self) -> bool:
        """True: :meth:`result` returns at once."""
        return True

    def begin(self, then: Callable[[], None]) -> None:
        """Call ``then``: there is nothing to wait for."""
        then()

    def result(self) -> Accepted:
        """Return the answer to the first request."""
        return Accepted(**self._answer, replayed=True)


class Acceptor:
    """The only way in: every door makes a submission of its request and hands it over here."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        publisher: Publisher,
        attached: Attached,
        templates: Templates,
        links: UnsubscribeLinks | None = None,
        tracking: TrackingKeys | None = None,
        traces: Traces | None = None,
    ) -> None:
        self._traces = traces
        self._settings = settings
        self._tracking = tracking
        self._links = links
        self._templates = templates
        self._attached = attached
        self._store = store
        self._publisher = publisher

    def accept(
        self,
        submission: Submission | PreparedSubmission,
        caller: Caller,
        options: Options = PLAIN,
        traceparent: str | None = None,
    ) -> Accepting:
        """Check and compose a caller's message. Nothing is stored until ``begin`` or ``result`` of
        what this returns is called; the hint follows the commit.

        ``traceparent`` is the request's (W3C Trace Context); the message's trace continues that one. Its
        files are stored before this returns. Raises :class:`InvalidInput`, :class:`QuotaExceeded`,
        :class:`TooLarge`, and for files :class:`BlobStoreUnavailable` and :class:`DatabaseUnavailable`.
        """
        identifier = new_id()
        span = self._traces.begin("accept", traceparent, server=True) if self._traces is not None else None
        try:
            draft = self._checked(identifier, submission, options, caller)
        except InvalidInput:
            if first := self._earlier(submission, options, caller):
                return first
            raise
        if isinstance(submission, Fields) and draft.content:
            submission = _naming_all(submission, draft.content.files[len(submission.attachments) :])
        key_claim = None
        if options.idempotency_key is not None:
            key_claim = idempotency.claim_of(caller, options.idempotency_key, asked_for(submission, options))
        lane = self._publisher.count_and_choose_lane(caller.counts_as, options.priority)
        rows = self.rows(identifier, draft, options, caller, lane)
        if caller.duplicate_seconds:
            rows = replace(rows, guard=_guard(draft, rows.message["send_at"], caller))
        offer: Callable[[], None] = partial(self._publisher.offer, lane, identifier)
        if rows.message["send_at"] is not None:  # a worker hints it when it is due
            offer = _nothing
        if span is None:
            return Accepting(self._store.pending(rows, key_claim, offer))
        rows = replace(rows, message={**rows.message, "traceparent": span.traceparent})
        return Accepting(self._store.pending(rows, key_claim, partial(_stored, span, identifier, rows, offer)))

    def _checked(
        self, message_id: UUID, submission: Submission | PreparedSubmission, options: Options, caller: Caller
    ) -> Draft:
        if isinstance(submission, Raw | Received):
            return check_finished(submission, options, self._settings, caller)
        if isinstance(submission, PreparedSubmission):
            return submission.draft()
        return self.draft(message_id, submission, options, caller)

    def _earlier(
        self, submission: Submission | PreparedSubmission, options: Options, caller: Caller
    ) -> Accepting | None:
        """Return the answer to an earlier request that asked for the same with the same key, if there was one.

        What was valid then may be no more: ``useful_until`` passes, a template is deleted.
        """
        if options.idempotency_key is None:
            return None
        if (found := self._store.earlier(idempotency.claim_of(caller, options.idempotency_key, {}))) is None:
            return None
        if isinstance(submission, Fields):
            submission = self.keep_brought(submission, caller)  # the fingerprint names files by their digests
        claim = idempotency.claim_of(caller, options.idempotency_key, asked_for(submission, options))
        return Repeated(found.response) if found.fingerprint == claim.fingerprint else None

    def draft(
        self,
        message_id: UUID,
        submission: Fields,
        options: Options,
        caller: Caller,
        sharing: Sharing = Sharing.ALONE,
    ) -> Draft:
        """Return the draft of a submission, and store the files that it brings along.

        Raises what :meth:`accept` does.
        """
        sources = None
        if submission.template is not None:
            sources = self._templates.resolve(caller, submission.template, submission.locale)
        link = self.link(caller)
        own = partial(link, message_id) if link else None
        tracker = self.tracker(message_id) if submission.tracked else None
        draft = check(submission, options, self._settings, caller, sources, own, sharing, tracker)
        if (submission.attachments or submission.brought) and draft.content:
            files = self._attached.files(submission.attachments, caller, submission.brought)
            draft = replace(draft, content=replace(draft.content, files=files))
        return draft

    def keep_brought(self, submission: Fields, caller: Caller) -> Fields:
        """Store the files that came beside a submission's fields; return one that names them by digest.

        Raises what :meth:`accept` does about files.
        """
        if submission.brought is None:
            return submission
        return _naming_all(submission, self._attached.files((), caller, submission.brought))

    def link(self, caller: Caller) -> Callable[[UUID, str], str] | None:
        """Return a function that makes the link by which an address unsubscribes from mail like a message.

        None if there are no links, since PUBLIC_URL is empty.
        """
        if (links := self._links) is None or not links.possible:
            return None
        return lambda message_id, address: links.url(
            UnsubscribeLink(caller.tenant_id, message_id, address, caller.tests_only)
        )

    def tracker(self, message_id: UUID) -> Tracker | None:
        """Return what tracks a message; None if there are no links, since PUBLIC_URL is empty.

        Raises :class:`DatabaseUnavailable`, :class:`SecretUnreadable`.
        """
        return self._tracking.tracker(message_id) if self._tracking and self._tracking.possible else None

    def rows(
        self,
        identifier: UUID,
        draft: Draft,
        options: Options,
        caller: Caller,
        lane: str,
        batch_id: UUID | None = None,
    ) -> Rows:
        """Return the rows of a message. ``batch_id``: the batch that it comes with. Raises :class:`TooLarge`."""
        now = datetime.now(UTC)
        message_id_header = draft.message_id_header or f"<{identifier}@{self._settings.HOSTNAME}>"
        times = NOW if options is PLAIN else timing(options.send_at, options.useful_until, options.ttl, now)
        raw = draft.compose(message_id_header=message_id_header, date=now) if draft.compose else None
        content = StoredContent.of(caller.tenant_id, draft.content) if draft.content else None
        size = len(raw) if raw is not None else _size(draft, identifier, now, message_id_header)
        self.check_size(size)
        message = {
            "id": identifier,
            **from_draft(draft, caller),
            "created_at": now,
            "message_id": message_id_header,
            "size": size,
            "raw": raw,
            "content_id": content and content.id,
            "personal": draft.personal.row() if content else None,
            "batch_id": batch_id,
            **{name: getattr(options, name) for name in KEPT},
            "tags": list(dict.fromkeys(options.tags)),
            "send_at": times.send_at,
            "useful_until": times.useful_until,
        }
        response = {"id": str(identifier), "status": PENDING, "subject": draft.subject}
        deliveries = _deliveries(draft, caller.tenant_id, identifier, lane, times.send_at)
        return Rows(message, deliveries, response, caller.messages_per_day, content, caller.has_suppressions)

    def check_size(self, size: int) -> None:
        """Raise :class:`TooLarge` for a message of more bytes than MAX_MESSAGE_SIZE."""
        if size > (most := self._settings.MAX_MESSAGE_SIZE):
            raise TooLarge(
                f"The message would have {size} bytes on its way, and {most} are the most (MAX_MESSAGE_SIZE); a file "
                "takes a third more there than on a disk."
            )


def _nothing() -> None:
    """The hint of a message that nobody hints now."""


def _stored(span: OpenSpan, identifier: UUID, rows: Rows, offer: Callable[[], None]) -> None:
    """Hint a message that was stored, and end its span."""
    offer()
    told: dict[str, str | int | bool] = {
        "mailbbgun.message_id": str(identifier),
        "mailbbgun.recipients": len(rows.deliveries),
        "mailbbgun.tenant_id": str(rows.message["tenant_id"]),
    }
    span.end(told)


def _size(draft: Draft, identifier: UUID, now: datetime, message_id_header: str) -> int:
    """Return the size of a message that is composed when it is sent. Raises what composing it would."""
    assert draft.content is not None  # a draft has that, or ``compose``
    own = Own(identifier, now, message_id_header, draft.subject, draft.personal)
    return compose(draft.content, own).size


def _guard(draft: Draft, send_at: datetime | None, caller: Caller) -> DuplicateGuard | None:
    """Return the claim of a key that guards against duplicates on this mail."""
    if caller.key_id is None or not caller.duplicate_seconds:
        return None
    sent = draft.likeness(send_at)
    return DuplicateGuard.of(caller.key_id, sent, caller.duplicate_seconds, holds=caller.holds_duplicates)


def asked_for(submission: Submission | PreparedSubmission, options: Options) -> Mapping[str, Any]:
    """Return what a request asked for. The fingerprint of its ``Idempotency-Key`` is made of this.

    Fields that were not given are left out, so a field added later does not change old fingerprints.
    """
    asked = {one.name: getattr(part, one.name) for part in (submission, options) for one in fields(part)}
    del asked["idempotency_key"]
    if isinstance(submission, Fields):
        asked["message_id"] = asked.pop("message_id_header")  # its old name is part of old fingerprints
    if isinstance(submission, Raw | Received):
        asked["mime"] = hashlib.sha256(submission.mime).hexdigest()
    for name in ("unsubscribe", "track_opens", "track_clicks"):
        if not asked.get(name, True):
            del asked[name]
    return {name: value for name, value in asked.items() if value not in (None, (), {})}


def _naming_all(submission: Fields, came: Sequence[File]) -> Fields:
    """Return a submission that names by digest the files that came beside its fields."""
    if submission.brought is None:
        return submission
    beside = [
        {"sha256": one.sha256, "filename": one.filename, "content_type": one.content_type}
        | ({"content_id": one.content_id} if one.content_id else {})
        for one in came
    ]
    return replace(submission, attachments=[*submission.attachments, *beside], brought=None)


def _deliveries(
    draft: Draft, tenant_id: UUID, message_id: UUID, lane: str, due: datetime | None
) -> list[Mapping[str, Any]]:
    shared: dict[str, Any] = {"tenant_id": tenant_id, "message_id": message_id, "lane": lane}
    if due is not None:
        shared["next_attempt_at"] = due
    return [{"id": new_id(), "address": address, "kind": kind, **shared} for address, kind in draft.recipients.items()]
