"""The rules a submission must keep, in order. All that it breaks is told at once."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import orjson

from mailbbgun.accept.addresses import BLANK, mailbox, mailboxes, shown
from mailbbgun.accept.draft import BCC, CC, TO, Draft, Submission
from mailbbgun.core.addresses import mailbox_key
from mailbbgun.core.caller import Caller, KeyKind
from mailbbgun.core.errors import ConfigurationError, InvalidInput
from mailbbgun.messages import provider_headers, simulator
from mailbbgun.messages.headers import refusal, structured
from mailbbgun.messages.mime import LONGEST_NAME, Mailbox, one_line
from mailbbgun.settings.settings import Settings

MOST_TAGS, TAG_SIZE = 10, 128  # characters
METADATA_SIZE = 4096  # bytes of JSON
MOST_HEADERS, HEADER_SIZE, STRUCTURED_SIZE = (
    50,
    4096,
    10_000,
)  # characters of a value; a long thread has a hundred References
NEEDS_RECIPIENT = "`to` is required: the address of a recipient; it may be left out where cc or bcc has one."
RESERVED_HEADER = "Reserved: the service or a mail server on the way sets it, or it has a field of its own."
MESSAGE_ID_SIZE = 250

Broken = Iterator[tuple[str, str]]  # field, what is wrong
Rule = Callable[[Submission, Settings], Broken]

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_MESSAGE_ID = re.compile(r"<?([!-;=?A-~]+@[!-;=?A-~]+)>?")  # one @, no angle bracket inside: linear
# Headers we set, the transport sets, or that carry meaning only their own field may give.
_STRUCTURAL = frozenset(
    "from sender reply-to to cc bcc subject date message-id mime-version received return-path delivered-to errors-to apparently-to "  # noqa: SIM905
    "dkim-signature domainkey-signature authentication-results received-spf return-receipt-to".split()
)
_STRUCTURAL_KINDS = ("content-", "resent-", "arc-")


def check(submission: Submission, settings: Settings, caller: Caller) -> Draft:
    """Return the draft of a submission by a caller. Raises :class:`InvalidInput` with everything that is wrong."""
    wrong: dict[str, list[str]] = {}
    default_from = caller.identity.default or settings.DEFAULT_FROM
    boxes = {
        name: _parsed(name, texts(submission, default_from), settings, wrong) for name, texts in _ADDRESSES.items()
    }
    recipients = _envelope(boxes, settings)
    if len(recipients) > settings.MAX_RECIPIENTS:
        wrong.setdefault(TO, []).append(f"More than {settings.MAX_RECIPIENTS} recipients.")
    if not boxes[TO] and TO not in wrong and (submission.to or not (recipients or CC in wrong or BCC in wrong)):
        wrong[TO] = [NEEDS_RECIPIENT]
    for name, why in _permissions(boxes, recipients, caller, given=submission.sender is not None):
        wrong.setdefault(name, []).append(why)
    for name, why in _orders(submission, caller):
        wrong.setdefault(name, []).append(why)
    for rule in RULES:
        for name, why in rule(submission, settings):
            wrong.setdefault(name, []).append(why)
    if wrong:
        raise InvalidInput("Some fields are not valid.", fields=wrong)
    identifier = _MESSAGE_ID.fullmatch(submission.message_id) if submission.message_id else None
    return Draft(
        sender=boxes["from"][0],
        envelope_from=(boxes["envelope_from"] or boxes["from"])[0].address,
        to=boxes[TO],
        cc=boxes[CC],
        reply_to=boxes["reply_to"],
        recipients=recipients,
        subject=submission.subject,
        text=submission.text,
        html=submission.html,
        headers=submission.headers,
        tags=list(dict.fromkeys(submission.tags)),
        metadata=submission.metadata,
        message_id=f"<{identifier[1]}>" if identifier else None,
        priority=submission.priority,
    )


def _envelope(boxes: Mapping[str, Sequence[Mailbox]], settings: Settings) -> dict[str, str]:
    """Return the recipients' addresses, each mailbox once, as it is written first, with the most visible field that has it."""
    recipients: dict[str, tuple[str, str]] = {}
    for kind in (TO, CC, BCC):
        for box in boxes[kind]:
            recipients.setdefault(_key(box, settings), (box.address, kind))
    return dict(recipients.values())


def _key(box: Mailbox, settings: Settings) -> str:
    return mailbox_key(box.address, case_sensitive=settings.CASE_SENSITIVE_LOCAL_PARTS)


def _permissions(
    boxes: Mapping[str, Sequence[Mailbox]], recipients: Mapping[str, str], caller: Caller, *, given: bool
) -> Broken:
    """The rules of the key and of the tenant's SMTP accounts."""
    for box in boxes["envelope_from"]:
        # Not that an account sends as it: which one a mail leaves through, From decides.
        if not caller.may_send_as(box.address):
            yield "envelope_from", f"This API key may not send as {box.address}, so bounces cannot go there."
    for box in boxes["from"]:
        if not caller.may_send_as(box.address):
            yield "from", f"This API key may not send as {box.address}."
        if not caller.has_account_for(box.address):
            why = (
                ""
                if given
                else " Say from, or make an account the default: none of them is, so this is the service's own."
            )
            yield "from", f"No SMTP account of yours sends as {box.address}.{why}"
    for address, kind in recipients.items():
        if not caller.may_send_to(address):
            yield kind, f"This API key sends to its guests only, and {address} is none."
        if caller.kind is not KeyKind.TEST and simulator.simulated(address):
            yield (
                kind,
                f"Only test keys send to {simulator.DOMAIN}, which is no domain but our simulator of recipients.",
            )


def _orders(given: Submission, caller: Caller) -> Broken:
    """Headers that the provider behind an SMTP account obeys."""
    if not given.headers:
        return
    limits = ", ".join(
        name for name, entries in (("senders", caller.senders), ("guests", caller.kind is KeyKind.TEAM)) if entries
    )
    for name, value in given.headers.items():
        if why := provider_headers.refusal(name, value, limits):
            yield f"headers.{name}", why


def check_default_sender(settings: Settings) -> None:
    """Raise :class:`ConfigurationError` unless ``DEFAULT_FROM`` is an address."""
    try:
        mailbox(settings.DEFAULT_FROM, settings.MAX_EMAIL_ADDRESS_SIZE)
    except ValueError as error:
        raise ConfigurationError(f"DEFAULT_FROM: {settings.DEFAULT_FROM!r}: {error}") from error


_ADDRESSES: dict[str, Callable[[Submission, str], tuple[str, ...]]] = {
    "from": lambda given, default: (default if given.sender is None else given.sender,),
    TO: lambda given, _: tuple(given.to),
    CC: lambda given, _: tuple(given.cc),
    BCC: lambda given, _: tuple(given.bcc),
    "reply_to": lambda given, _: tuple(given.reply_to),
    "envelope_from": lambda given, _: () if given.envelope_from is None else (given.envelope_from,),
}
_ONE = ("from", "envelope_from")  # fields of one address


def _parsed(name: str, texts: Sequence[str], settings: Settings, wrong: dict[str, list[str]]) -> list[Mailbox]:
    if not texts:
        return []
    most, longest = settings.MAX_RECIPIENTS, settings.MAX_EMAIL_ADDRESS_SIZE
    # Nobody's list of addresses is longer than this, and nobody makes us parse one that is.
    separators = sum(text.count(",") + text.count(";") for text in texts)
    if len(texts) > most or separators > 10 * most or sum(map(len, texts)) > most * (longest + 300):
        wrong[name] = [f"More than {most} addresses."]
        return []
    found, broken = _one(name, texts[0], longest) if name in _ONE else mailboxes(texts, longest, most)
    if len(found) > most:
        wrong[name] = [f"More than {most} addresses."]
    elif broken:
        wrong[name] = broken
    if len(found) == 1:
        return found
    unique: dict[str, Mailbox] = {}
    for box in found:
        unique.setdefault(_key(box, settings), box)
    return list(unique.values())


def _one(name: str, text: str, longest: int) -> tuple[list[Mailbox], list[str]]:
    try:
        box = mailbox(text.strip(BLANK + ",;"), longest)
    except ValueError as error:
        return [], [f"{shown(text)}: {error}"]
    if box.name and name == "envelope_from":
        return [], [f"{shown(text)}: Is an address alone, without a name: {box.address}."]
    return [box], []


def _bodies(given: Submission, settings: Settings) -> Broken:
    if given.text is None and given.html is None:
        yield "text", "text or html is needed, with more in it than white space."
    for name, body in (("text", given.text), ("html", given.html)):
        # UTF-8 needs at most 4 bytes a character: most texts need no encoding to be measured.
        if body and len(body) * 4 > settings.MAX_TEXT_SIZE and len(body.encode()) > settings.MAX_TEXT_SIZE:
            yield name, f"Longer than {settings.MAX_TEXT_SIZE} bytes."
        if body and "\0" in body:
            yield name, "Has a NUL character."


def _subject(given: Submission, settings: Settings) -> Broken:
    if len(given.subject) > settings.MAX_SUBJECT_SIZE:
        yield "subject", f"Longer than {settings.MAX_SUBJECT_SIZE} characters."
    if not one_line(given.subject):
        yield "subject", "Must be one line without control characters."


def _headers(given: Submission, _: Settings) -> Broken:
    if len(given.headers) > MOST_HEADERS:
        yield "headers", f"More than {MOST_HEADERS} headers."
    if len({name.lower() for name in given.headers}) < len(given.headers):
        yield "headers", "The same header twice."
    for name, value in given.headers.items():
        if not _HEADER_NAME.fullmatch(name) or len(name) > LONGEST_NAME:
            yield "headers", f"Not the name of a header: {name[:LONGEST_NAME]!r}."
        elif name.lower() in _STRUCTURAL or name.lower().startswith(_STRUCTURAL_KINDS):
            yield f"headers.{name}", RESERVED_HEADER
        elif not one_line(value.replace("\t", " ") if structured(name) else value):
            yield f"headers.{name}", "Must be one line without control characters."
        elif len(value) > (most := STRUCTURED_SIZE if structured(name) else HEADER_SIZE):
            yield f"headers.{name}", f"Has {len(value)} characters, and {most} are the most."
        elif why := refusal(name, value):
            yield f"headers.{name}", why


def _tags(given: Submission, _: Settings) -> Broken:
    if len(given.tags) > MOST_TAGS:
        yield "tags", f"More than {MOST_TAGS} tags."
    if any(not tag or len(tag) > TAG_SIZE or not one_line(tag) for tag in given.tags):
        yield "tags", f"Each must be one line of 1 to {TAG_SIZE} characters."


def _metadata(given: Submission, _: Settings) -> Broken:
    if not all(value is None or isinstance(value, str | int | float) for value in given.metadata.values()):
        yield "metadata", "Must be flat: strings, numbers, true, false and null."
    elif len(orjson.dumps(given.metadata)) > METADATA_SIZE:
        yield "metadata", f"Longer than {METADATA_SIZE} bytes of JSON."


def _message_id(given: Submission, _: Settings) -> Broken:
    if given.message_id is not None:
        found = _MESSAGE_ID.fullmatch(given.message_id) if len(given.message_id) <= MESSAGE_ID_SIZE else None
        if not found or any(c in found[1] for c in '()[],;:\\"'):
            yield "message_id_header", "Not a message id like <something@example.com>."


def _priority(given: Submission, _: Settings) -> Broken:
    if not 0 <= given.priority <= 9:
        yield "priority", "Must be from 0 to 9, 9 first."


RULES: tuple[Rule, ...] = (_subject, _bodies, _headers, _tags, _metadata, _message_id, _priority)
