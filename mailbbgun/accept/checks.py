"""The checks of a submission and its options. An error names every fault at once, each with its field."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from enum import Enum, auto
from functools import partial
from typing import Any

from mailbbgun.accept.address_lists import BLANK, mailbox, mailboxes, shown
from mailbbgun.accept.attached import faults_of_brought
from mailbbgun.accept.draft import Draft
from mailbbgun.accept.fields import BCC, CC, PLAIN, TO, Fields, Options, Rule, name_in_json, texts_broken
from mailbbgun.composing import mime
from mailbbgun.composing.contents import Content, Personal
from mailbbgun.composing.mime import Mailbox, in_brackets
from mailbbgun.composing.provider_headers import orders
from mailbbgun.core import timing
from mailbbgun.core.addresses import mailbox_key
from mailbbgun.core.caller import Caller, KeyKind
from mailbbgun.core.errors import InvalidInput
from mailbbgun.relays import simulator
from mailbbgun.settings.settings import Settings
from mailbbgun.suppressions import links
from mailbbgun.templates import engine
from mailbbgun.templates.engine import Rendered, Sources
from mailbbgun.tracking.keys import NO_PUBLIC_URL, Tracker

_NEEDS_TEMPLATE = "Is for a saved template: name that in `template`. In a batch, texts need none for variables."
_IN_TEMPLATE = "Comes from the template: leave it out, or leave out `template`."
NEEDS_RECIPIENT = "`to` is required: the address of a recipient; it may be left out where cc or bcc has one."

#: Makes the link by which an address unsubscribes.
Link = Callable[[str], str]
#: Faults: each a field, and a sentence about what is wrong.
Broken = Iterator[tuple[str, str]]
#: The sentences about faults, by field.
Wrong = dict[str, list[str]]


def _ruled(kind: type[Fields] | type[Options]) -> tuple[tuple[str, str, Rule], ...]:
    """Return each field that has a rule: its name, its name in JSON, and the rule."""
    return tuple(
        (one.name, name_in_json(one.name), one.metadata["rule"]) for one in fields(kind) if one.metadata.get("rule")
    )


_OF_FIELDS, _OF_OPTIONS = _ruled(Fields), _ruled(Options)


class Sharing(Enum):
    """Whether several messages will share the content of a submission."""

    ALONE = auto()
    SHARED = auto()
    #: Its texts are sources of templates, into which each message puts its own variables.
    TEMPLATED = auto()


def check(
    submission: Fields,
    options: Options,
    settings: Settings,
    caller: Caller,
    sources: Sources | None = None,
    link: Link | None = None,
    sharing: Sharing = Sharing.ALONE,
    tracker: Tracker | None = None,
) -> Draft:
    """Return the draft of a caller's submission.

    ``sources``: the texts of the template that it names. ``link`` makes the link by which a recipient
    unsubscribes, ``tracker`` signs tracked ones if those are asked for; None: there are no links. Raises
    :class:`InvalidInput` with all its faults, and :class:`TooLarge` for a template's variables.
    """
    wrong: Wrong = {}
    boxes, recipients = _addressed(submission, settings, caller, wrong)
    _keep_rules(submission, _OF_FIELDS, settings, wrong)
    if "headers" not in wrong:
        # Only headers that keep the rules, so that what is parsed here is short.
        right = [one for one in submission.headers.items() if f"headers.{one[0]}" not in wrong]
        wrong |= {f"headers.{name}": [why] for name, why in orders(right, caller)}
    unsubscribe_url = _unsubscribe_url(submission, recipients, link, wrong)
    values = Personal(variables=submission.variables, unsubscribe_url=unsubscribe_url).values
    rendered = _rendered(submission, sources if sharing is Sharing.ALONE else None, values, settings, wrong)
    brought = faults_of_brought(submission.attachments, submission.brought, settings)
    for name, why in (*_lacking(submission, sources, tracker), *brought):
        wrong.setdefault(name, []).append(why)
    check_options(options, settings, wrong)
    if wrong:
        raise InvalidInput("Some fields are not valid.", fields=wrong)
    draft = _draft(submission, boxes, recipients)
    if sharing is Sharing.ALONE and draft.compose:
        return draft
    content = _content(submission, draft, boxes["reply_to"], sources, tracker, templated=sharing is Sharing.TEMPLATED)
    urls = {"unsubscribe_url": unsubscribe_url, "tracking_key": tracker.key if tracker else ""}
    personal = Personal(to=boxes[TO], cc=boxes[CC], variables=submission.variables, **urls)
    subject = rendered.subject if rendered else content.subject or draft.subject
    return replace(draft, subject=subject, compose=None, content=content, personal=personal)


def _addressed(
    submission: Fields, settings: Settings, caller: Caller, wrong: Wrong
) -> tuple[dict[str, list[Mailbox]], dict[str, str]]:
    """Return the mailboxes of each field, and the envelope's recipients; add what is wrong with them."""
    default_from = caller.identity.default or settings.DEFAULT_FROM
    boxes = {
        name: _parsed(name, texts(submission, default_from), settings, wrong) for name, texts in _ADDRESSES.items()
    }
    recipients = envelope({kind: boxes[kind] for kind in (TO, CC, BCC)}, settings)
    if len(recipients) > settings.MAX_RECIPIENTS:
        wrong.setdefault(TO, []).append(f"More than {settings.MAX_RECIPIENTS} recipients.")
    if not boxes[TO] and TO not in wrong and (submission.to or not (recipients or CC in wrong or BCC in wrong)):
        wrong[TO] = [NEEDS_RECIPIENT]
    for name, why in permissions(
        boxes["from"], boxes["envelope_from"], recipients, caller, given=submission.sender is not None
    ):
        wrong.setdefault(name, []).append(why)
    return boxes, recipients


def _lacking(submission: Fields, sources: Sources | None, tracker: Tracker | None) -> Broken:
    """Yield the fields without which the others mean nothing."""
    if submission.template is None and submission.text is None and submission.html is None:
        yield "text", "text or html is needed, with more in it than white space."
    if submission.amp_html is not None and submission.html is None and (sources is None or sources.html is None):
        yield "amp_html", "Needs html beside it, for the readers that know no AMP."
    for name in ("track_opens", "track_clicks") if tracker is None else ():
        if getattr(submission, name):
            yield name, NO_PUBLIC_URL


def _unsubscribe_url(submission: Fields, recipients: Mapping[str, str], link: Link | None, wrong: Wrong) -> str:
    """Return the link by which the recipient unsubscribes, "" if none is asked for, and add what is wrong."""
    if not submission.unsubscribe:
        return ""
    if faults := [*links.faults(submission.headers, len(recipients), possible=link is not None)]:
        wrong["unsubscribe"] = faults
    return link(next(iter(recipients))) if link and recipients and not faults else ""


def _rendered(
    submission: Fields, sources: Sources | None, values: Mapping[str, Any], settings: Settings, wrong: Wrong
) -> Rendered | None:
    """Return the texts that a template makes of the submission's variables, and add what is wrong with them."""
    if submission.template is None:
        for name in ("variables", "locale"):
            if getattr(submission, name):
                wrong.setdefault(name, []).append(_NEEDS_TEMPLATE)
        return None
    for name in ("subject", "text", "html"):
        if getattr(submission, name):
            wrong.setdefault(name, []).append(_IN_TEMPLATE)
    if sources is None:  # or each of several messages has its own variables
        return None
    try:
        rendered = engine.render(sources, values)
    except InvalidInput as error:
        if wrong:
            for name, sentences in (error.fields or {}).items():
                wrong.setdefault(name, []).extend(sentences)
            return None
        raise
    for name, why in texts_broken(rendered.subject, rendered.text, rendered.html, settings):
        wrong.setdefault(name, []).append(f"Made by the template: {why}")
    return rendered


def _draft(submission: Fields, boxes: Mapping[str, Sequence[Mailbox]], recipients: Mapping[str, str]) -> Draft:
    (sender,), to, cc, reply_to = boxes["from"], boxes[TO], boxes[CC], boxes["reply_to"]
    mail_from = (boxes["envelope_from"] or boxes["from"])[0].address
    shown = (sender, *to, *cc, *reply_to)
    return Draft(
        sender=sender,
        mail_from=mail_from,
        recipients=recipients,
        subject=submission.subject,
        message_id_header=in_brackets(submission.message_id_header) if submission.message_id_header else None,
        smtputf8=not all(address.isascii() for address in (*recipients, mail_from, *(box.address for box in shown))),
        compose=None
        if submission.composed
        else partial(
            mime.compose,
            sender=sender,
            to=to,
            cc=cc,
            reply_to=reply_to,
            subject=submission.subject,
            text=submission.text,
            html=submission.html,
            headers=submission.sent_headers,
        ),
    )


def _content(
    submission: Fields,
    draft: Draft,
    reply_to: Sequence[Mailbox],
    sources: Sources | None,
    tracker: Tracker | None,
    *,
    templated: bool,
) -> Content:
    """Return what several messages may share. ``templated``: the submission's own texts are sources."""
    content = Content(
        sender=draft.sender,
        reply_to=reply_to,
        headers=submission.sent_headers,
        text=submission.text,
        html=submission.html,
        amp_html=submission.amp_html,
        calendar=submission.calendar.get("ics"),
        templated=templated,
        subject=submission.subject if templated else None,
        tracking=tracker and tracker.tracking(opens=submission.track_opens, clicks=submission.track_clicks),
    )
    if sources is None:
        return content
    version = str(sources.version_id) if sources.version_id else None
    return replace(
        content,
        templated=True,
        subject=sources.subject,
        text=sources.text,
        html=sources.html,
        template_version=version,
    )


def check_options(options: Options, settings: Settings, wrong: Wrong) -> None:
    """Add the faults of options to ``wrong``."""
    if options is not PLAIN:
        _keep_rules(options, _OF_OPTIONS, settings, wrong)
        times = (options.send_at, options.useful_until, options.ttl)
        for name, why in timing.faults(*times, now=datetime.now(UTC), days=settings.MAX_SCHEDULE_DAYS):
            wrong.setdefault(name, []).append(why)


def _keep_rules(
    given: Fields | Options, ruled: Sequence[tuple[str, str, Rule]], settings: Settings, wrong: Wrong
) -> None:
    for name, in_json, rule in ruled:
        if value := getattr(given, name):
            for part, why in rule(value, settings):
                wrong.setdefault(f"{in_json}.{part}" if part else in_json, []).append(why)


def envelope(boxes: Mapping[str, Sequence[Mailbox]], settings: Settings) -> dict[str, str]:
    """Return the recipients' addresses, each with its kind: ``to``, ``cc`` or ``bcc``.

    A mailbox that is given several times is taken once, with its first spelling and kind.
    """
    recipients: dict[str, tuple[str, str]] = {}
    for kind, its in boxes.items():
        for box in its:
            recipients.setdefault(key_of(box.address, settings), (box.address, kind))
    return dict(recipients.values())


def key_of(address: str, settings: Settings) -> str:
    """Return a key that is the same for all spellings of one mailbox's address."""
    return mailbox_key(address, case_sensitive=settings.CASE_SENSITIVE_LOCAL_PARTS)


def permissions(
    senders: Sequence[Mailbox],
    bounces_to: Sequence[Mailbox],
    recipients: Mapping[str, str],
    caller: Caller,
    *,
    given: bool,
) -> Broken:
    """Yield what the API key or the tenant's SMTP accounts do not permit.

    ``given``: the client named its sender, so From is not a default.
    """
    for box in bounces_to:
        # No account need send as this address: From alone decides which account a mail leaves through.
        if not caller.may_send_as(box.address):
            yield "envelope_from", f"This API key may not send as {box.address}, so bounces cannot go there."
    for box in senders:
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
                f"`{simulator.DOMAIN}` is a domain of this service for tests: only test keys may send to it.",
            )


_ADDRESSES: dict[str, Callable[[Fields, str], tuple[str, ...]]] = {
    "from": lambda given, default: (default if given.sender is None else given.sender,),
    TO: lambda given, _: tuple(given.to),
    CC: lambda given, _: tuple(given.cc),
    BCC: lambda given, _: tuple(given.bcc),
    "reply_to": lambda given, _: tuple(given.reply_to),
    "envelope_from": lambda given, _: () if given.envelope_from is None else (given.envelope_from,),
}
#: Fields that take one address.
_ONE = ("from", "envelope_from")


def _parsed(name: str, texts: Sequence[str], settings: Settings, wrong: Wrong) -> list[Mailbox]:
    if not texts:
        return []
    most, longest = settings.MAX_RECIPIENTS, settings.MAX_EMAIL_ADDRESS_SIZE
    # Parsing takes time: a list that is longer than any real one is refused unparsed.
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
        unique.setdefault(key_of(box.address, settings), box)
    return list(unique.values())


def _one(name: str, text: str, longest: int) -> tuple[list[Mailbox], list[str]]:
    try:
        box = mailbox(text.strip(BLANK + ",;"), longest)
    except ValueError as error:
        return [], [f"{shown(text)}: {error}"]
    if box.name and name == "envelope_from":
        return [], [f"{shown(text)}: Is an address alone, without a name: {box.address}."]
    return [box], []
