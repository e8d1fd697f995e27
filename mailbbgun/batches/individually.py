"""``individual`` in ``POST /messages``: one mail for each recipient, so that none sees another."""

from dataclasses import replace

from mailbbgun.accept.accept import Acceptor, asked_for
from mailbbgun.accept.address_lists import mailboxes, written
from mailbbgun.accept.checks import key_of
from mailbbgun.accept.fields import BCC, CC, TO, Fields, Options
from mailbbgun.batches.batching import Batcher, GivenBatch, StoredBatch
from mailbbgun.composing.mime import Mailbox
from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import InvalidInput
from mailbbgun.settings.settings import Settings


class Individually:
    """Accepts a message as a batch of the recipients in its ``to``."""

    def __init__(self, settings: Settings, acceptor: Acceptor, batcher: Batcher) -> None:
        self._settings, self._acceptor, self._batcher = settings, acceptor, batcher

    def accept(self, submission: Fields, options: Options, caller: Caller) -> StoredBatch:
        """Store one mail for each recipient. A mailbox that is given twice gets one.

        Raises what :meth:`Batcher.accept` does; faults of recipients are faults of ``to``.
        """
        wrong = {
            name: ["With individual each recipient gets a mail of its own: name all of them in to."]
            for name in (CC, BCC)
            if getattr(submission, name)
        }
        most, longest = self._settings.MAX_BULK_EMAILS, self._settings.MAX_EMAIL_ADDRESS_SIZE
        found, broken = mailboxes(submission.to, longest, most)
        if broken or len(found) > most:
            wrong[TO] = broken or [f"More than {most} addresses (MAX_BULK_EMAILS)."]
        if wrong:
            raise InvalidInput("Some fields are not valid.", fields=wrong)
        unique: dict[str, Mailbox] = {}
        for box in found:
            unique.setdefault(key_of(box.address, self._settings), box)
        submission = self._acceptor.keep_brought(submission, caller)
        given = GivenBatch(
            common=replace(submission, to=(), individual=None, variables={}),
            options=options,
            recipients=[{TO: written(box)} for box in unique.values()],
            variables=submission.variables,
            asked=asked_for(submission, options),
        )
        try:
            return self._batcher.accept(given, caller)
        except InvalidInput as error:
            raise _about_to(error) from error


def _about_to(error: InvalidInput) -> InvalidInput:
    """Return an error about recipients of a batch as one about ``to``."""
    fields: dict[str, list[str]] = {}
    for name, why in (error.fields or {}).items():
        fields.setdefault(TO if name.startswith("recipients.") else name, []).extend(why)
    return InvalidInput("Some fields are not valid.", fields=fields)
