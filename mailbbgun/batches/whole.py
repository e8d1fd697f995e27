"""Prepares batches of whole messages: each is checked and stored as if it had come alone."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from marshmallow import ValidationError

from mailbbgun.accept.accept import Acceptor
from mailbbgun.accept.pending import Rows, with_suppressed
from mailbbgun.accept.quick import submission_of
from mailbbgun.accept.schema import NewMessage
from mailbbgun.batches.batching import GivenBatch, Prepared, lane_of_batch
from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import FileRefused, InvalidInput, TooLarge
from mailbbgun.core.ids import new_id
from mailbbgun.database.compiled import StatementStep
from mailbbgun.database.db import Database
from mailbbgun.events import log
from mailbbgun.events.kinds import Kind
from mailbbgun.http.bad_input import kind_of, sentences
from mailbbgun.messages import storing
from mailbbgun.messages.publisher import Publisher
from mailbbgun.recipients.budget import TemplateBudget
from mailbbgun.recipients.faults import Faults
from mailbbgun.suppressions.check import TenantRecipient, suppressed

_SCHEMA = NewMessage()


class WholeForm:
    """Prepares batches of whole messages: see :class:`~mailbbgun.batches.batching.BatchForm`."""

    def __init__(
        self, database: Database, publisher: Publisher, acceptor: Acceptor, template_seconds: float = math.inf
    ) -> None:
        """``template_seconds``: CPU that the messages of a batch may take once one of them has a template."""
        self._database, self._publisher, self._acceptor = database, publisher, acceptor
        self._template_seconds = template_seconds

    def prepare(
        self, given: GivenBatch, caller: Caller, batch_id: UUID, now: datetime, faults: dict[int, Faults]
    ) -> Prepared | None:
        """Check the messages; see :class:`~mailbbgun.batches.batching.BatchForm`."""
        del now  # each message has its own time
        checked: list[Rows] = []
        indexes = []
        budget = TemplateBudget(self._template_seconds, "the messages' templates", len(given.messages), "messages")
        for index, item in enumerate(given.messages):
            if _has_template(item) or "template" in given.defaults:
                budget.check(index)
            try:
                checked.append(self._rows(given, item, caller, batch_id))
                indexes.append(index)
            except (InvalidInput, FileRefused, TooLarge) as error:
                faults[index] = error.fields or {"": [error.message]}
        if not checked:
            return None
        found = self._with_suppressed(checked)
        # A worker hints the others when they are due.
        now_due = [rows for rows in found if rows.message["send_at"] is None]
        hints = [(rows.deliveries[0]["lane"], rows.message["id"]) for rows in now_due]
        return Prepared(
            ids=[rows.message["id"] for rows in found],
            indexes=indexes,
            subject=found[0].message["subject"],
            steps=partial(_steps, found),
            suppressed=[address for rows in found for address in rows.response.get("suppressed", ())],
            after_commit=partial(self._offer, hints),
        )

    def _rows(self, given: GivenBatch, item: Any, caller: Caller, batch_id: UUID) -> Rows:
        """Return the rows of a message. Raises :class:`InvalidInput`, :class:`FileRefused`, :class:`TooLarge`."""
        if not isinstance(item, Mapping):
            raise InvalidInput(f"Is an object with the fields of a message; it is {kind_of(item)}.")
        body = {**given.defaults, **item}
        try:
            submission, options = submission_of(body)
        except ValidationError as error:
            raise InvalidInput("not valid", fields=sentences(error.messages, _SCHEMA, body)) from error
        if submission.individual:
            raise InvalidInput("not here", fields={"individual": ["Not in a batch: give `recipients` instead."]})
        identifier = new_id()
        draft = self._acceptor.draft(identifier, submission, options, caller)
        return self._acceptor.rows(identifier, draft, options, caller, lane_of_batch(options.priority), batch_id)

    def _with_suppressed(self, found: Sequence[Rows]) -> Sequence[Rows]:
        """Return the rows of messages, with deliveries to suppressed recipients ended."""
        if not found[0].has_suppressions:
            return found
        asked = [TenantRecipient(rows.message["tenant_id"], rows.message["test"], one["address"])
                 for rows in found for one in rows.deliveries]  # fmt: skip
        addresses = {one.address for one in suppressed(self._database, asked)}
        return [with_suppressed(rows, addresses & {one["address"] for one in rows.deliveries}) for rows in found]

    def _offer(self, hints: Sequence[tuple[str, UUID]]) -> None:
        for lane, identifier in hints:
            self._publisher.offer(lane, identifier)


def _has_template(item: Any) -> bool:
    return isinstance(item, Mapping) and item.get("template") is not None


def _steps(found: Sequence[Rows], dialect: str) -> list[StatementStep]:
    new = [(rows.message, rows.deliveries) for rows in found]
    contents = {rows.content.id: rows.content for rows in found if rows.content}
    # Of messages with a batch the first event is not stored (``events/batched.py``), others are.
    events = [one for one in log.accepted(new) if one["kind"] != Kind.ACCEPTED.value]
    return storing.steps(dialect, new, [*contents.values()], log.appending(dialect, events))
