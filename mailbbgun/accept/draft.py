"""What the checks return: a message that breaks no rule, from any kind of submission."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

import orjson

from mailbbgun.composing.contents import Content, Personal
from mailbbgun.composing.mime import Mailbox
from mailbbgun.core.caller import Caller

NOTHING_PERSONAL = Personal()
#: What stands for the parts of a mail that differ each time it is composed.
NO_MESSAGE_ID, NO_TIME, BOUNDARY = "<>", datetime(1970, 1, 1, tzinfo=UTC), "=_likeness"


class Composing(Protocol):
    """Makes the bytes that are stored and sent. Both headers are added only where the message lacks them.

    Raises :class:`InvalidInput`.
    """

    def __call__(self, *, message_id_header: str, date: datetime, boundary: str | None = None) -> bytes:
        """``message_id_header`` is in angle brackets, ``date`` in UTC, ``boundary`` by default a random one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What is stored of a message, and how its bytes are made."""

    #: The From header.
    sender: Mailbox
    #: The envelope's sender: where bounces go (RFC 5321 §4.1.1.2).
    mail_from: str
    #: The envelope's recipients, each mailbox once: address → ``to``, ``cc`` or ``bcc``.
    recipients: Mapping[str, str]
    subject: str
    #: The Message-ID header in the message; None: accept makes one.
    message_id_header: str | None
    #: Whether an address or the header needs RFC 6531.
    smtputf8: bool
    #: Makes the bytes of a plain message; None: it is stored as its ``content`` and ``personal`` part.
    compose: Composing | None = None
    content: Content | None = None
    personal: Personal = NOTHING_PERSONAL
    #: Whether another server sent it to a mailbox here.
    received: bool = False

    def likeness(self, send_at: datetime | None) -> bytes:
        """Return bytes that are equal for equal mail to the same recipients, to be sent at the same time.

        A Message-ID that we or the client's fields give it, and its links to unsubscribe and to us, make no difference.
        Raises what composing it would.
        """
        if self.content is None:
            assert self.compose is not None  # a draft has that, or content
            mail = self.compose(message_id_header=NO_MESSAGE_ID, date=NO_TIME, boundary=BOUNDARY)
        else:
            files = [replace(one, attachment_id=None) for one in self.content.files]  # equal, however it is named
            shown = self.personal.row() | {
                "unsubscribe_url": bool(self.personal.unsubscribe_url),
                "tracking_key": bool(self.personal.tracking_key),
            }
            mail = replace(self.content, files=files).encoded() + orjson.dumps(shown, option=orjson.OPT_SORT_KEYS)
        envelope = [self.mail_from, self.subject, sorted(self.recipients.items()), send_at]
        return orjson.dumps(envelope) + mail


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedSubmission:
    """A submission that a door has made ready: it is no mail, and is sent byte for byte as it is.

    ``sender`` is the address that decides its route (``relays/slack/medium.py``), ``sender_name`` what people
    see before it, ``recipient`` where it goes, and ``body`` what the relay sends.
    """

    sender: str
    sender_name: str
    recipient: str
    subject: str
    body: str = field(repr=False)

    def draft(self) -> Draft:
        """Return what is stored of it."""

        def compose(*, message_id_header: str, date: datetime, boundary: str | None = None) -> bytes:
            del message_id_header, date, boundary
            return self.body.encode()

        return Draft(
            sender=Mailbox(self.sender_name, self.sender),
            mail_from=self.sender,
            recipients={self.recipient: "to"},
            subject=self.subject,
            message_id_header=None,
            smtputf8=False,
            compose=compose,
        )


def from_draft(draft: Draft, caller: Caller) -> dict[str, Any]:
    """Return the columns of a message that its draft and its caller decide."""
    return {
        "tenant_id": caller.tenant_id,
        "key_id": caller.key_id,
        "test": caller.tests_only,
        "subject": draft.subject,
        "sender": str(draft.sender),
        "mail_from": draft.mail_from,
        "smtputf8": draft.smtputf8,
        "received": draft.received,
    }
