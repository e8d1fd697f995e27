"""The verb: tell what a mail that came back says."""

import re
from collections.abc import Iterable, Sequence
from html import unescape

from mailbbgun.bounces import addresses, auto_reply, delivery_status, feedback, mime, notice
from mailbbgun.bounces.classify import Classifier, after_data, at_rcpt, codes_in, in_reply_to
from mailbbgun.bounces.delivery_status import DeliveryStatus, StatusOfRecipient
from mailbbgun.bounces.mime import Mail
from mailbbgun.bounces.report import BounceClass, FailedRecipient, MailReport, ReportKind

#: Characters of what a report says to a person that are kept, and of what it says about one recipient.
LONGEST_TEXT, LONGEST_REASON = 4_096, 1_000

_DAEMON = re.compile(
    r"mailer-?daemon|mdaemon|post[-_]?master|mail ?delivery|delivery sub|mail ?(?:system|administrator|admin)|"
    r"mail-?master|\bdaemon\b|"
    r"no-?reply|bounce|exchange|network email|mmdf|smtp|imss|system admin",
    re.IGNORECASE,
)
_SUBJECT = re.compile(
    r"undeliver|undelivr|not (?:be )?deliver|deliver\w{0,8} (?:fail|status|notif|problem|error|delay|report|unsuc|has)|"
    r"returned (?:mail|message|to sender)|return(?:ed)? mail|fail(?:ed|ure|ure notice)?\b.{0,30}(?:deliver|notice|"
    r"mail|message)|mail (?:system )?(?:error|fail|could|not|problem|undel)|"
    r"(?:delivery|mail|message|e-?mail).{0,20}(?:fail|delay|warning|error|reject|block)|could not (?:be )?(?:send|"
    r"sent|deliver)|"
    r"non ?remis|non ?deliver|ndn:|bounce|warning: (?:could|message)|unzustellbar|nicht zugestellt|"
    r"no se (?:pudo|puede|ha podido)|mancato recapito|non recapit|onbestelbaar|kan (?:ikke|inte) lever|olever|"
    r"går inte att lever|toimittamat|ei voi\w{0,3} toimit|niedostarcz|nie dostarcz|nedoruč|kézbesíthet|teslim edile|"
    r"não é possível entreg|impossible de remettre|no entregad|nije isporuč|배달|傳遞|传递|未送达|"
    r"não (?:foi )?entreg|недоставл|не доставл|"
    r"配信|送信エラー|届き|退信|无法投递|status notification|unknown (?:user|address|recipient)|user unknown|rejected|"
    r"mailbox (?:full|not|unav)|quota|nondeliver|message status|returned because|error sending",
    re.IGNORECASE,
)
_DELAYED = re.compile(
    r"will (?:keep |be )?(?:retr|try)|still (?:try|being)|has been delayed|has not been delivered yet|"
    r"warning message only|"
    r"no need to (?:re|do)|do not need to resend|not yet been delivered|continue (?:to )?try|delayed mail|"
    r"temporarily undeliver|this is (?:just )?a warning|delivery attempts will continue|message still undelivered",
    re.IGNORECASE,
)
_ANSWER = re.compile(r"\s{0,9}(?:re|aw|sv|fwd?|wg|tr)\s?(?:\[\d\])?:", re.IGNORECASE)
# What a person's programs write before the subject of a mail that is forwarded, and a mail server's name.
_FORWARDS = re.compile(r"\s{0,9}(?:fwd?|wg|tr|rv|enc|i|vs|vb|doorst)\s?:", re.IGNORECASE)
_SERVER = re.compile(r"mailer-?daemon|post-?master|mail delivery (?:sub)?system", re.IGNORECASE)
_LETTERS = re.compile(r"[^\W\d_]{2}")
_TAG = re.compile(r"<[^<>]{0,2000}>")
_BREAKS = re.compile(r"<(?:br|/p|/div|/tr|/li|/h\d|/td)\b[^<>]{0,200}>", re.IGNORECASE)


def read(raw: bytes, classifier: Classifier | None = None) -> MailReport:
    """Return what a mail that came back says. Takes bounded time and memory, and never raises.

    ``raw`` may have any line ends and any damage; its first ``mime.MOST_BYTES`` are read.
    """
    mail = mime.parse(raw)
    return _Reader(mail, classifier or Classifier()).report()


class _Reader:
    """Reads one mail, from the sure signs to the weak ones."""

    def __init__(self, mail: Mail, classifier: Classifier, *, is_forwarded: bool = False) -> None:
        self._mail, self._classifier, self._is_forwarded = mail, classifier, is_forwarded
        self._words = _words_of(mail)
        self._halves = notice.halves(self._words)
        self._original = _original_header(mail) or self._halves.original
        self._text = _shown("\n".join(self._halves.lines).strip())[:LONGEST_TEXT]
        ours = [
            one
            for name in ("from", "to", "delivered-to", "return-path")
            for one in feedback.addressed(mail.headers, name)
        ]
        self._ours = frozenset(one.lower() for one in [*ours, *feedback.addressed(self._original, "from")])

    def report(self) -> MailReport:
        return (
            self._complaint()
            or self._ses()
            or self._receipt()
            or self._notification()
            or self._prose()
            or self._list()
            or self._forwarded()
            or self._rest()
        )

    def _complaint(self) -> MailReport | None:
        part = next(self._mail.of_type("message/feedback-report"), None)
        if part is None:
            return self._informal_complaint()
        told = feedback.arf(part.text, self._original)
        cause = (BounceClass.UNKNOWN, "complaint", None, None, self._text[:LONGEST_REASON])
        recipients = tuple(FailedRecipient(one, *cause) for one in told.recipients)
        return self._report(ReportKind.COMPLAINT, recipients, told.envelope_id, told.feedback_type, told.message_id)

    def _informal_complaint(self) -> MailReport | None:
        """Return the complaint of a loop, or the wish to be left alone, that names no format."""
        if "x-hmxmroriginalrecipient" in self._original:
            kind, found = "abuse", feedback.recipients_of(self._original)
        elif self._mail.first("x-apple-unsubscribe").lower() == "true":
            kind, found = "opt-out", feedback.addressed(self._mail.headers, "from")
        else:
            return None
        cause = (BounceClass.UNKNOWN, "complaint", None, None, self._text[:LONGEST_REASON])
        return self._report(ReportKind.COMPLAINT, [FailedRecipient(one, *cause) for one in found], None, kind)

    def _receipt(self) -> MailReport | None:
        is_one = any(self._mail.of_type("message/disposition-notification", "message/global-disposition-notification"))
        return self._report(ReportKind.OTHER) if is_one else None

    def _ses(self) -> MailReport | None:
        told = feedback.ses(self._words)
        kinds = {"bounce": ReportKind.FAILURE, "complaint": ReportKind.COMPLAINT, "delivery": ReportKind.SUCCESS}
        if told is None or told.kind not in kinds:
            return None
        if told.kind == "complaint":
            cause = (BounceClass.UNKNOWN, "complaint", None, None, "")
            found = [FailedRecipient(address, *cause) for address, _, _ in told.recipients]
        else:
            found = [self._failed(address, said, status, "") for address, status, said in told.recipients]
        return self._report(kinds[told.kind], _unique(found), None, told.feedback_type)

    def _notification(self) -> MailReport | None:
        parts = [*self._mail.of_type("message/delivery-status", "message/global-delivery-status")]
        if not parts and self._looks_like_a_bounce():
            parts = [one for one in self._mail.parts[:4] if delivery_status.looks_like_one(one.text)]
        status = DeliveryStatus()
        for part in parts:
            one = delivery_status.parse(part.text)
            status.envelope_id = status.envelope_id or one.envelope_id
            status.recipients.extend(one.recipients)
        if not status.recipients:
            return None
        kind = _kind_of(status.recipients)
        told = {one.address.lower(): one.text for one in notice.recipients(self._halves.lines, frozenset())}
        named = [one for one in status.recipients if _kind_of([one]) is kind][: delivery_status.MOST_RECIPIENTS]
        recipients = tuple(
            self._failed(
                one.address, one.diagnostic, one.status, told.get(one.address.lower(), self._text), one.original
            )
            for one in named
        )
        return self._report(kind, _unique(recipients), status.envelope_id)

    def _prose(self) -> MailReport | None:
        if not self._looks_like_a_bounce():
            return None
        named = [
            one for value in self._mail.headers.get("x-failed-recipients", ())[:20] for one in addresses.all_in(value)
        ]
        found = notice.recipients(self._halves.lines, self._ours)
        by_address = {one.address.lower(): one.text for one in found}
        pairs = [(one, by_address.get(one.lower(), self._text)) for one in named] or [
            (one.address, one.text) for one in found
        ]
        if not pairs:
            pairs = [(one, self._text) for one in self._addressees()]
        if not pairs:  # names without a domain, or somebody's own address failed
            found = self._without_domain() or notice.recipients(self._halves.lines, frozenset())
            pairs = [(one.address, one.text) for one in found]
        if not pairs:
            return None
        kind = ReportKind.DELAY if _DELAYED.search(self._words[:8_000]) else ReportKind.FAILURE
        only = len(pairs) == 1
        return self._report(
            kind, _unique([self._failed(one, text, "", self._text if only else "") for one, text in pairs])
        )

    def _list(self) -> MailReport | None:
        """Return the failure that a list manager reports: the list did not take the mail."""
        author = next(iter(feedback.addressed(self._mail.headers, "from")), "")
        found = notice.list_that_refuses(self._halves.lines, author, self._ours)
        recipients = [self._failed(one.address, "", "", one.text) for one in found]
        return self._report(ReportKind.FAILURE, recipients) if recipients else None

    def _forwarded(self) -> MailReport | None:
        """Return what a mail server's report says that a person forwards, as an attachment or quoted."""
        if self._is_forwarded or auto_reply.is_one(self._mail):
            return None
        subject = self._mail.first("subject")[:300]
        forwards = bool(_FORWARDS.match(subject))
        if not forwards and ("in-reply-to" in self._mail.headers or _ANSWER.match(subject)):
            return None
        quoted = self._words if forwards else ""
        for inner in mime.forwarded(self._mail, quoted):
            if _SERVER.search(inner.first("from")[:300]):
                told = _Reader(inner, self._classifier, is_forwarded=True).report()
                if told.kind in (ReportKind.FAILURE, ReportKind.DELAY):
                    return told
        return None

    def _rest(self) -> MailReport:
        return self._report(ReportKind.AUTO_REPLY if auto_reply.is_one(self._mail) else ReportKind.OTHER)

    def _looks_like_a_bounce(self) -> bool:
        mail = self._mail
        if "x-failed-recipients" in mail.headers:
            return True
        subject, author = mail.first("subject")[:300], mail.first("from")[:300]
        returned = mail.first("return-path").strip()
        daemon = (
            bool(_DAEMON.search(author))
            or author.rstrip().endswith("<>")
            or returned == "<>"
            or "mailer-daemon" in returned.lower()
        )
        fails = bool(_SUBJECT.search(subject))
        plainly = notice.says_it_failed(self._halves.lines, plainly=True)
        if "in-reply-to" in mail.headers and not daemon:
            return False
        if auto_reply.is_one(mail) and not (
            daemon and (fails or notice.says_it_failed(self._halves.lines, plainly=True))
        ):
            return False
        if daemon:
            return fails or notice.says_it_failed(self._halves.lines)
        return fails and plainly and (not _ANSWER.match(subject) or self._begins_with_it())

    def _without_domain(self) -> list[notice.Failed]:
        known = [one for name in ("to", "cc") for one in feedback.addressed(self._original, name)]
        author = next(iter(feedback.addressed(self._mail.headers, "from")), "")
        return notice.names(self._halves.lines, known, author.rpartition("@")[2]) if author else []

    def _begins_with_it(self) -> bool:
        """Return whether the mail, which seems to be an answer, begins with a server's words and then an address."""
        if "references" in self._mail.headers or _FORWARDS.match(self._mail.first("subject")):
            return False
        first = [line for line in self._halves.lines[:20] if "@" in line or _LETTERS.search(line[:200])][:2]
        return len(first) == 2 and notice.says_it_failed(first[:1], plainly=True) and notice.is_address(first[1])

    def _addressees(self) -> list[str]:
        """Return the only recipient of the mail that came back; none if there are several, or if it is a list."""
        listed = [one for name in ("list-post", "x-beenthere") for one in feedback.addressed(self._original, name)]
        found = [one for name in ("to", "cc", "bcc") for one in feedback.addressed(self._original, name)]
        found = found or feedback.addressed(self._original, "x-rcpt-to")
        return found if len(set(found)) == 1 and found[0].lower() not in {*self._ours, *map(str.lower, listed)} else []

    def _failed(self, address: str, diagnostic: str, status: str, words: str, original: str = "") -> FailedRecipient:
        about = diagnostic or words
        if diagnostic and (command := "end of DATA" if after_data(words) else "RCPT TO" if at_rcpt(words) else ""):
            about = in_reply_to(diagnostic, command)
        code, quoted = codes_in(diagnostic or words)
        given = codes_in(status)[1]
        enhanced = quoted if quoted and (given is None or given.endswith(".0.0") or quoted[0] == given[0]) else given
        cause = self._classifier.classify(code, enhanced, about)
        if cause.class_ is BounceClass.UNKNOWN and diagnostic:
            cause = self._classifier.classify(code, enhanced, f"{diagnostic} {words}")
        text = _shown(" ".join((diagnostic or words).split()))[:LONGEST_REASON]
        original = original or notice.forwarded_by(words)
        other = original if original.lower() != address.lower() else ""
        return FailedRecipient(_shown(address), cause.class_, cause.reason, code, enhanced, text, _shown(other) or None)

    def _report(
        self,
        kind: ReportKind,
        recipients: Iterable[FailedRecipient] = (),
        envelope_id: str | None = None,
        feedback_type: str | None = None,
        message_id: str | None = None,
    ) -> MailReport:
        about = message_id or next(iter(self._original.get("message-id", ())), None)
        about, envelope_id, feedback_type = (one and _shown(one)[:998] for one in (about, envelope_id, feedback_type))
        return MailReport(kind, tuple(recipients), about, envelope_id, feedback_type, self._text)


def _kind_of(recipients: Sequence[StatusOfRecipient]) -> ReportKind:
    kinds = [_by_action(one) for one in recipients]
    return next(kind for kind in (ReportKind.FAILURE, ReportKind.DELAY, ReportKind.SUCCESS) if kind in kinds)


def _by_action(one: StatusOfRecipient) -> ReportKind:
    if one.action.startswith("delay"):
        return ReportKind.DELAY
    if one.action.startswith(("deliver", "relay", "expand")):
        return ReportKind.SUCCESS
    if not one.action and one.status[:1] in ("2", "4"):
        return ReportKind.SUCCESS if one.status[:1] == "2" else ReportKind.DELAY
    return ReportKind.FAILURE


def _words_of(mail: Mail) -> str:
    """Return what the mail says to a person: its first parts of text."""
    plain = [one.text for one in mail.of_type("text/plain")][:2]
    if not "".join(plain).strip():
        plain = [_without_tags(one.text) for one in mail.of_type("text/html")][:1]
    if not plain:
        plain = [one.text for one in mail.parts if not one.content_type.startswith(("message/", "image/"))][:1]
    return "\n\n".join(plain)


def _without_tags(html: str) -> str:
    return unescape(_TAG.sub(" ", _BREAKS.sub("\n", _without_styles(html))))


def _without_styles(html: str) -> str:
    lowered, kept, end = html.lower(), [], 0
    while (start := lowered.find("<style", end)) >= 0:
        kept.append(html[end:start])
        end = lowered.find("</style", start)
        if end < 0:
            return "".join(kept)
    return "".join([*kept, html[end:]])


def _original_header(mail: Mail) -> dict[str, list[str]]:
    for part in mail.of_type(
        "message/rfc822", "text/rfc822-headers", "message/rfc822-headers", "message/global", "message/partial"
    ):
        header, _ = mime.split_header(part.text.lstrip())
        if header:
            return header
    return {}


def _unique(recipients: Iterable[FailedRecipient]) -> tuple[FailedRecipient, ...]:
    """Return the recipients, each once."""
    return tuple({one.address.lower(): one for one in reversed([*recipients])}.values())[::-1]


def _shown(text: str) -> str:
    """Return text that every database and every log takes: no control characters, no lone surrogates."""
    text = text.encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() or c in "\n\t" else " " if c.isspace() else "\ufffd" for c in text)
