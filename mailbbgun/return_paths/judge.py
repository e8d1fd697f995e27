"""Decides what a report changes. Pure.

A report is *proved* if its recipient, or the mail in it, has a return path of ours: only who got the
delivery, or carried it, knows that. Without one it names a Message-ID, which everybody knows who was in
Cc or reads an archive. So it changes nothing but the timeline.

A delivery has one event for each kind of report. So a report that comes twice changes nothing more, and
whoever has a return path cannot fill the log.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mailbbgun.bounces.report import BounceClass, FailedRecipient, MailReport, ReportKind
from mailbbgun.events.kinds import Kind, Reason
from mailbbgun.messages.status import DELIVERED

#: The reasons of the suppressions that reports make.
BOUNCED, COMPLAINED = "bounced", "complained"
#: Characters of a report's words in an event, at most.
LONGEST_TEXT = 500
#: Kinds of feedback that are no complaint: it was no spam (RFC 6430 §3.2), or a failed DKIM or DMARC (RFC 6591 §3.1).
NO_COMPLAINT = frozenset({"not-spam", "auth-failure"})

#: Reports that are worth an event if nothing proves them.
_TOLD_UNPROVED = frozenset({ReportKind.FAILURE, ReportKind.DELAY, ReportKind.COMPLAINT})
_PROVED_KINDS = {ReportKind.DELAY: Kind.DELAYED, ReportKind.COMPLAINT: Kind.COMPLAINED}


class Happened(NamedTuple):
    """An event of the delivery so far."""

    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ReportedChange:
    """What a report changes.

    ``ends``: the delivery becomes ERROR, bounced. ``suppress``: the reason to suppress its recipient for, if any.
    """

    kind: Kind
    data: Mapping[str, Any]
    ends: bool = False
    suppress: str | None = None


def decided(
    report: MailReport, address: str, status: str, happened: Collection[Happened], *, proved: bool
) -> ReportedChange | None:
    """Return what a report about a delivery to ``address`` changes; None: nothing.

    ``status`` is the delivery's, and ``happened`` are its events.
    """
    about = about_whom(report.recipients, address)
    kind = _kind(report, status, proved=proved)
    if kind is None or (kind is not Kind.BOUNCED and _repeated(report, kind, happened)):
        return None
    data = _data(report, about, kind)
    if kind is Kind.BOUNCED:
        account = next((one.data.get("account") for one in happened if one.kind == Kind.DELIVERED), None)
        data |= {"reason": Reason.BOUNCED.value, "returned": True, "account": account}
    elif kind is Kind.RETURNED:
        data |= {"report": report.kind.value, "proved": proved}
    suppress = None
    if proved and kind is Kind.COMPLAINED:
        suppress = COMPLAINED
    elif proved and report.kind is ReportKind.FAILURE and about is not None and _lasts(about):
        suppress = BOUNCED
    return ReportedChange(kind, data, ends=kind is Kind.BOUNCED, suppress=suppress)


def about_whom(recipients: Sequence[FailedRecipient], address: str) -> FailedRecipient | None:
    """Return what a report says of ``address``; of the first recipient if it names others, as after forwarding."""
    named = next((one for one in recipients if one.address.lower() == address.lower()), None)
    return named or next(iter(recipients), None)


def _kind(report: MailReport, status: str, *, proved: bool) -> Kind | None:
    if not proved:
        return Kind.RETURNED if report.kind in _TOLD_UNPROVED else None
    if report.kind is ReportKind.FAILURE and status == DELIVERED:
        return Kind.BOUNCED
    if report.kind is ReportKind.COMPLAINT and (report.feedback_type or "").lower() in NO_COMPLAINT:
        return Kind.RETURNED
    return _PROVED_KINDS.get(report.kind, Kind.RETURNED)


def _repeated(report: MailReport, kind: Kind, happened: Collection[Happened]) -> bool:
    """Return whether the delivery has an event for this kind of report."""
    failed = report.kind is ReportKind.FAILURE
    if failed and any(one.kind == Kind.BOUNCED and "returned" in one.data for one in happened):
        return True
    if kind is not Kind.RETURNED:
        return any(one.kind == kind for one in happened)
    return any(one.kind == kind and one.data.get("report") == report.kind.value for one in happened)


def _lasts(about: FailedRecipient) -> bool:
    """Return whether no mail to the address will ever arrive. Policy (RFC 3463 §3.8, x.7) is never about that."""
    return about.class_ is BounceClass.HARD and (about.enhanced or "").split(".")[1:2] != ["7"]


def _data(report: MailReport, about: FailedRecipient | None, kind: Kind) -> dict[str, Any]:
    text = (about.text if about else "") or report.text
    feedback_type = report.feedback_type and storable(report.feedback_type)
    found: dict[str, Any] = {"reply": storable(text) or None, "feedback_type": feedback_type}
    if about is not None and report.kind in (ReportKind.FAILURE, ReportKind.DELAY):
        found |= {"class": about.class_.value, "cause": storable(about.reason)}
        found |= {"code": about.code, "enhanced": about.enhanced and storable(about.enhanced)}
        found["reply"] = _words(storable(text), about) or None
    if kind is Kind.COMPLAINED:
        found["feedback_type"] = found["feedback_type"] or "abuse"
    return found


def _words(text: str, about: FailedRecipient) -> str:
    """Return a server's words as replies are kept: without their type (RFC 3464 §2.3.6) and without their codes."""
    if text[:5].lower() == "smtp;":
        text = text[5:].lstrip()
    if text.startswith((f"{about.code} ", f"{about.code}-")):
        text = text[4:].lstrip()
    return text.removeprefix(f"{about.enhanced} ")


def storable(text: str) -> str:
    """Return the beginning of a text that strangers wrote, in one line, with nothing that a database refuses."""
    words = " ".join(text[: 4 * LONGEST_TEXT].split())
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in words)[:LONGEST_TEXT]
