"""The shapes of a report that came back."""

from dataclasses import dataclass
from enum import StrEnum


class ReportKind(StrEnum):
    """What a mail that came back is."""

    #: At least one recipient did not get the mail, and nobody tries any more.
    FAILURE = "failure"
    #: A server could not deliver it yet and goes on trying: no failure.
    DELAY = "delay"
    #: A person marked the mail as spam (RFC 5965).
    COMPLAINT = "complaint"
    #: A machine answered in place of a person, such as "out of office" (RFC 3834).
    AUTO_REPLY = "auto_reply"
    #: A server says that it delivered, relayed or expanded the mail (RFC 3464 §2.3.3).
    SUCCESS = "success"
    #: Anything else: a receipt that a person read it (RFC 8098), or mail from a person.
    OTHER = "other"


class BounceClass(StrEnum):
    """How lasting a failure is, and whom it concerns."""

    #: The address does not exist, so it never will work: it is suppressed.
    HARD = "hard"
    #: The address is good; the mail could not be delivered now: full, greylisted, throttled.
    SOFT = "soft"
    #: The receiver refuses the sender or the content: reputation, spam, authentication.
    BLOCK = "block"
    #: Nobody can tell.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class FailedRecipient:
    """A recipient that a report names, with what the report says about it."""

    address: str
    class_: BounceClass
    #: The cause in a word, such as ``mailbox_full``.
    reason: str
    #: The SMTP reply's code, such as 550; None if the report has none.
    code: int | None
    #: The enhanced status code (RFC 3463), such as ``5.1.1``; None if the report has none.
    enhanced: str | None
    #: What the report says in words.
    text: str
    #: The address that the mail was sent to, if it was forwarded to ``address`` (RFC 3464 §2.3.1).
    original_address: str | None = None


@dataclass(frozen=True, slots=True)
class MailReport:
    """What a mail that came back says."""

    kind: ReportKind
    #: Of a failure, a delay, a success and a complaint; empty for everything else.
    recipients: tuple[FailedRecipient, ...] = ()
    #: The Message-ID header of the mail that it is about, with its angle brackets.
    message_id_header: str | None = None
    #: Original-Envelope-Id (RFC 3464 §2.2.1), which is what MAIL gave as ENVID.
    original_envelope_id: str | None = None
    #: Of a complaint: Feedback-Type (RFC 5965 §3.1), such as ``abuse``.
    feedback_type: str | None = None
    #: What it says to a person, at most 4,096 characters.
    text: str = ""
