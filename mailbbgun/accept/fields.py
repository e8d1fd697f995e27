"""The input of accept: a submission and options. Every field of a new message is declared here, once.

A declaration has the field's name and type in Python, its shape in JSON, its sentence in OpenAPI,
and the rule for its values. The schema of ``POST /messages``, the checks, and the columns that keep
the options are made of these declarations.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any

import orjson
from marshmallow import fields as json
from marshmallow import validate

from mailbbgun.accept.attached import FILE_SHAPE, MOST_FILES, Files, faults
from mailbbgun.accept.finished import Raw as Raw
from mailbbgun.accept.finished import Received as Received
from mailbbgun.attachments.receive import ReceivedForm
from mailbbgun.composing.headers import refusal, reserved, structured
from mailbbgun.composing.mime import LONGEST_NAME, one_line
from mailbbgun.http.schemas import Moment, Texts
from mailbbgun.settings.settings import Settings

TO, CC, BCC = "to", "cc", "bcc"
DEFAULT_PRIORITY = 5
#: Tags of a message, and characters of a tag, at most.
MOST_TAGS, TAG_SIZE = 10, 128
#: Bytes of metadata as JSON, at most.
METADATA_SIZE = 4096
#: Headers, and characters of a header's value, at most. A structured one may be longer: a long thread has
#: a hundred References.
MOST_HEADERS, HEADER_SIZE, STRUCTURED_SIZE = 50, 4096, 10_000
#: Characters of a Message-ID header, at most.
MESSAGE_ID_SIZE = 250

Broken = Iterator[tuple[str, str]]
Rule = Callable[[Any, Settings], Broken]
"""Takes a value that is not empty. Yields its faults: the part of the value ("": all of it), and a sentence."""

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_MESSAGE_ID = re.compile(r"<?([!-;=?A-~]+@[!-;=?A-~]+)>?")  # linear: one @, and no angle bracket inside
RESERVED_HEADER = "Reserved: the service or a mail server on the way sets it, or it has a field of its own."


def _body(value: str, settings: Settings) -> Broken:
    # UTF-8 takes at most 4 bytes a character, so most texts are short enough without being encoded.
    if len(value) * 4 > settings.MAX_TEXT_SIZE and len(value.encode()) > settings.MAX_TEXT_SIZE:
        yield "", f"Longer than {settings.MAX_TEXT_SIZE} bytes."
    if "\0" in value:
        yield "", "Has a NUL character."


def _calendar(value: Mapping[str, str], settings: Settings) -> Broken:
    if set(value) != {"ics"}:
        yield "", f"Has one field, ics; this has {', '.join(map(repr, sorted(value)))}."
        return
    for _, why in _body(value["ics"], settings):
        yield "ics", why
    ics = value["ics"].strip().upper()
    if not (ics.startswith("BEGIN:VCALENDAR") and ics.endswith("END:VCALENDAR")):
        yield "ics", "Not an iCalendar object: it goes from BEGIN:VCALENDAR to END:VCALENDAR (RFC 5545 §3.4)."


def _subject(value: str, settings: Settings) -> Broken:
    if len(value) > settings.MAX_SUBJECT_SIZE:
        yield "", f"Longer than {settings.MAX_SUBJECT_SIZE} characters."
    elif not one_line(value):
        yield "", "Must be one line without control characters."


def texts_broken(subject: str, text: str | None, html: str | None, settings: Settings) -> Broken:
    """Yield the faults of texts that a template made: the field, and a sentence."""
    yield from (("subject", why) for _, why in _subject(subject, settings))
    yield from (("text", why) for _, why in _body(text or "", settings))
    yield from (("html", why) for _, why in _body(html or "", settings))


def _headers(value: Mapping[str, str], _: Settings) -> Broken:
    if len(value) > MOST_HEADERS:
        yield "", f"More than {MOST_HEADERS} headers."
        return
    if len({name.lower() for name in value}) < len(value):
        yield "", "The same header twice."
    for name, text in value.items():
        if len(name) > LONGEST_NAME or not _HEADER_NAME.fullmatch(name):
            yield "", f"Not the name of a header: {name[:LONGEST_NAME]!r}."
        elif reserved(name):
            yield name, RESERVED_HEADER
        elif len(text) > (most := STRUCTURED_SIZE if structured(name) else HEADER_SIZE):
            yield name, f"Has {len(text)} characters, and {most} are the most."
        elif not one_line(text.replace("\t", " ") if structured(name) else text):
            yield name, "Must be one line without control characters."
        elif why := refusal(name, text):
            yield name, why


def _tags(value: Sequence[str], _: Settings) -> Broken:
    if len(value) > MOST_TAGS:
        yield "", f"More than {MOST_TAGS} tags."
    if any(not tag or len(tag) > TAG_SIZE or not one_line(tag) for tag in value):
        yield "", f"Each must be one line of 1 to {TAG_SIZE} characters."


def _metadata(value: Mapping[str, Any], _: Settings) -> Broken:
    if not all(one is None or isinstance(one, str | int | float) for one in value.values()):
        yield "", "Must be flat: strings, numbers, true, false and null."
    elif len(orjson.dumps(value)) > METADATA_SIZE:
        yield "", f"Longer than {METADATA_SIZE} bytes of JSON."


def _message_id(value: str, _: Settings) -> Broken:
    found = _MESSAGE_ID.fullmatch(value) if len(value) <= MESSAGE_ID_SIZE else None
    if not found or any(c in found[1] for c in '()[],;:\\"'):
        yield "", "Not a message id like <something@example.com>."


def _priority(value: int, _: Settings) -> Broken:
    if not 0 <= value <= 9:
        yield "", "Must be from 0 to 9, 9 first."


def _given(shape: json.Field[Any], sentence: str, example: Any, rule: Rule | None = None, **default: Any) -> Any:
    """Declare a field: its shape in JSON, its sentence and example in OpenAPI, and the rule for its value.

    Pass ``default`` or ``default_factory`` unless the field is required.
    """
    shape.metadata = {**shape.metadata, "description": sentence, "example": example}
    shape.required = not default
    return field(metadata={"json": shape, "rule": rule}, **default)


def _text(sentence: str, example: str, rule: Rule | None = None, name: str | None = None) -> Any:
    return _given(json.String(data_key=name), sentence, example, rule, default=None)


def _flag(sentence: str) -> Any:
    return _given(json.Boolean(truthy={True}, falsy={False}), sentence, True, default=None)


def _moment(sentence: str, example: str) -> Any:
    shape = {"oneOf": [{"type": "string", "format": "date-time"}, {"type": "string"}, {"type": "number"}]}
    return _given(Moment(metadata=shape), sentence, example, default=None)


def _addresses(sentence: str, example: Any) -> Any:
    shape = {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    return _given(Texts(metadata=shape), sentence, example, default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """A submission to compose, as a client gave it: the types are right, nothing else is checked.

    Addresses are as people write them; ``checks.py`` has their rules.
    """

    to: Sequence[str] = _addresses(
        "Recipients: one address, several with commas, or a list; display names are welcome. "
        "Needed unless there is cc or bcc.",
        "Ann Lee <ann@example.com>",
    )
    subject: str = _given(
        json.String(),
        "One line. It must be given unless there is a template, and may be empty (RFC 5322 §3.6.5).",
        "Your invoice",
        _subject,
        default="",
    )
    text: str | None = _text("The plain text; this, html or a template is needed.", "Dear Ann, …", _body)
    html: str | None = _text("The HTML; with text as well, readers choose.", "<p>Dear Ann, …</p>", _body)
    amp_html: str | None = _text(
        "AMP for Email: a form of html that some readers show instead of it. Needs html.",
        "<!doctype html><html ⚡4email>…</html>",
        _body,
    )
    attachments: Sequence[Mapping[str, str]] = _given(
        Files(metadata={"type": "array", "items": FILE_SHAPE}),
        f"At most {MOST_FILES} files. Each has one of id, sha256, md5 and content.",
        [{"filename": "invoice.txt", "content": "VG90YWw6IDEyIEVVUgo="}],
        faults,
        default=(),
    )
    calendar: Mapping[str, str] = _given(
        json.Dict(json.String(), json.String()),
        "An invitation or another calendar object (RFC 5545): `ics` is its text. Readers offer to accept it if it has "
        "a METHOD. It is also attached as invite.ics.",
        {"ics": "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\n…\r\nEND:VCALENDAR\r\n"},
        _calendar,
        default_factory=dict,
    )
    template: str | None = _text("The id or name of a template, in place of subject, text and html.", "welcome")
    variables: Mapping[str, Any] = _given(
        json.Dict(json.String()),
        "The values of the template's variables: up to 64 KB.",
        {"name": "Ann", "order": {"id": 17}},
        default_factory=dict,
    )
    locale: str | None = _text(
        "The language of the reader, for a template with variants: ja-JP finds ja, and the default if there is none.",
        "ja-JP",
    )
    unsubscribe: bool | None = _flag(
        "Add List-Unsubscribe with a signed link (RFC 8058), and unsubscribe_url to the variables of a template. "
        "Needs one recipient."
    )
    track_opens: bool | None = _flag("Add an invisible image to html: an event, opened, tells when a reader loads it.")
    track_clicks: bool | None = _flag("Lead the links of html through this service: an event, clicked, tells of each.")
    cc: Sequence[str] = _addresses("Recipients who are shown as such.", ["bob@example.com"])
    bcc: Sequence[str] = _addresses("Recipients who are not shown.", ["archive@example.com"])
    sender: str | None = _text("By default the service's own.", "Shop <shop@example.com>", name="from")
    reply_to: Sequence[str] = _addresses("Where answers go.", "help@example.com")
    envelope_from: str | None = _text(
        "Where bounces go: an address that the API key may send as. By default, and where it is from's, "
        "the SMTP account's envelope_from if it has one, else from's.",
        "bounces@example.com",
    )
    headers: Mapping[str, str] = _given(
        json.Dict(json.String(), json.String()),
        "More headers; none that structure the message.",
        {"X-Order": "1234"},
        _headers,
        default_factory=dict,
    )
    message_id_header: str | None = _text(
        "The Message-ID header; by default one is made of the message's id.",
        "<1234@example.com>",
        _message_id,
    )
    #: Files that came beside the fields. They are stored when all else is checked.
    brought: ReceivedForm | None = field(default=None, repr=False)

    individual: bool | None = _flag(
        "One mail for each recipient in `to`, so that none sees another. The answer is that of a batch."
    )

    @property
    def sent_headers(self) -> Mapping[str, str]:
        """The headers of the mail that are neither of its addresses nor of its parts."""
        return self.headers

    @property
    def composed(self) -> bool:
        """Whether the message is stored as what it is made of; otherwise it is plain, and stored as its MIME."""
        own = self.template or self.unsubscribe or self.tracked
        return self.amp_html is not None or bool(self.calendar or self.attachments or self.brought or own)

    @property
    def tracked(self) -> bool:
        """Whether opens or clicks are to be tracked."""
        return bool(self.track_opens or self.track_clicks)


Submission = Fields | Raw | Received


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a caller may ask for with either kind of submission.

    All but the key and ``ttl`` are kept with the message, each in the column of ``messages`` of its
    name. ``core/timing.py`` has the rules for times.
    """

    tags: Sequence[str] = _given(
        json.List(json.String()),
        f"At most {MOST_TAGS}, to find messages by.",
        ["invoice"],
        _tags,
        default=(),
    )
    metadata: Mapping[str, Any] = _given(
        json.Dict(json.String()),
        "Yours: a flat object of up to 4 KB.",
        {"order": 1234},
        _metadata,
        default_factory=dict,
    )
    priority: int = _given(
        json.Integer(strict=True, validate=validate.Range(0, 9)),
        f"0 to 9, 9 first, {DEFAULT_PRIORITY} if not given.",
        5,
        _priority,
        default=DEFAULT_PRIORITY,
    )
    send_at: datetime | None = _moment(  # noqa: RUF009 - a dataclasses.field, as all of them
        "When to send it, at most MAX_SCHEDULE_DAYS ahead: a time of RFC 3339 or RFC 2822, or Unix seconds. "
        "A time in the past is now.",
        "2026-12-24T08:00:00+01:00",
    )
    useful_until: datetime | None = _moment(  # noqa: RUF009 - a dataclasses.field, as all of them
        "Never send it after this time: a delivery that has not left by then ends as ERROR, expired.",
        "2030-12-24T20:00:00+01:00",
    )
    ttl: int | None = _given(
        json.Integer(strict=True, validate=validate.Range(1, 31_536_000)),
        "Instead of useful_until: for how many seconds it is useful, from its sending time on.",
        900,
        default=None,
    )
    #: Requests with the same key make one message.
    idempotency_key: str | None = None

    def with_key(self, key: str | None) -> "Options":
        """Return these options with an idempotency key, if there is one."""
        return self if key is None else replace(self, idempotency_key=key)


PLAIN = Options()

#: The JSON shapes of ``Fields`` and ``Options``, by the names in Python.
SHAPES: Mapping[str, json.Field[Any]] = {
    one.name: one.metadata["json"] for kind in (Fields, Options) for one in fields(kind) if "json" in one.metadata
}

_OPTIONS = tuple(one.name for one in fields(Options) if one.name != "idempotency_key")
#: Options that are kept with a message.
KEPT = tuple(name for name in _OPTIONS if name != "ttl")


def name_in_json(name: str) -> str:
    """Return a field's name in JSON."""
    return SHAPES[name].data_key or name


def rule_of(name: str) -> Rule:
    """Return the rule for the values of a field or an option that has one."""
    rule: Rule = next(one.metadata["rule"] for kind in (Fields, Options) for one in fields(kind) if one.name == name)
    return rule


def parted(given: dict[str, Any]) -> tuple[Fields, Options]:
    """Part a request's values, by names in Python, into a submission and options."""
    kept = {name: given.pop(name) for name in _OPTIONS if name in given}
    return Fields(**given), Options(**kept) if kept else PLAIN
