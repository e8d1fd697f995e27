"""The checks of mail that another server sent. Nothing in it is changed, and its header may be anything.

People are shown what can be read of its header. Recipients were checked when the server named them.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime

from mailbbgun.accept.checks import Wrong, check_options, key_of
from mailbbgun.accept.draft import Draft
from mailbbgun.accept.fields import BCC, CC, TO, Options, Raw, Received
from mailbbgun.accept.mime.raw import check_raw
from mailbbgun.composing.mime import Mailbox
from mailbbgun.composing.reading import shown
from mailbbgun.core import addresses
from mailbbgun.core.caller import Caller
from mailbbgun.core.errors import InvalidInput, TooLarge
from mailbbgun.mime_reading.correspondents import correspondents
from mailbbgun.mime_reading.mail import Problems
from mailbbgun.mime_reading.parts import header
from mailbbgun.settings.settings import Settings

#: The address in From of mail that has none there (RFC 2606 §2).
NOBODY = "unknown@invalid"


def check_finished(submission: Raw | Received, options: Options, settings: Settings, caller: Caller) -> Draft:
    """Return the draft of finished MIME. Raises what :func:`check_raw` and :func:`check_received` do."""
    if isinstance(submission, Raw):
        return check_raw(submission, options, settings, caller)
    return check_received(submission, options, settings)


def check_received(submission: Received, options: Options, settings: Settings) -> Draft:
    """Return the draft of mail that another server sent.

    Raises :class:`TooLarge`, and :class:`InvalidInput` under the names ``mail_from`` and ``recipients``.
    """
    if len(submission.mime) > settings.MAX_BODY_SIZE:
        raise TooLarge(f"The message has {len(submission.mime)} bytes, and {settings.MAX_BODY_SIZE} are the most.")
    wrong: Wrong = {}
    mail_from = _addresses("mail_from", [submission.mail_from] if submission.mail_from else [], settings, wrong)
    recipients = _addresses("recipients", submission.recipients, settings, wrong)
    if "recipients" not in wrong and not 0 < len(recipients) <= settings.MAX_RECIPIENTS:
        wrong["recipients"] = [f"There are {len(recipients)}: 1 to {settings.MAX_RECIPIENTS} are taken."]
    check_options(options, settings, wrong)
    if wrong:
        raise InvalidInput("The message is not valid.", fields=wrong)
    sender, subject, message_id_header, _ = shown(submission.mime)
    whole = (*mail_from, *recipients, sender.address)

    def compose(*, message_id_header: str, date: datetime, boundary: str | None = None) -> bytes:
        del message_id_header, date, boundary
        return submission.mime

    return Draft(
        sender=Mailbox(sender.name, _author(sender.address)),
        mail_from=next(iter(mail_from), ""),
        recipients=_kinds(recipients, submission.mime, settings),
        subject=subject[: settings.MAX_SUBJECT_SIZE],
        message_id_header=message_id_header or None,
        smtputf8=not all(map(str.isascii, whole)),
        compose=compose,
        received=True,
    )


def _kinds(recipients: Sequence[str], mime: bytes, settings: Settings) -> dict[str, str]:
    """Return the recipients with the field that names each: ``to``, ``cc``; ``bcc`` if neither does."""
    fields, _ = header(mime, 0, len(mime), Problems())
    named: dict[str, str] = {}
    for kind in (CC, TO):  # of both, To counts
        for name, value in fields:
            if name.lower() == kind.encode():
                named |= dict.fromkeys(_keys(correspondents(value, None), settings), kind)
    return {one: named.get(key_of(one, settings), BCC) for one in recipients}


def _keys(named: Iterable[str], settings: Settings) -> Iterator[str]:
    for one in named:
        with suppress(ValueError):  # a name without an address
            yield key_of(addresses.address(addresses.in_mailbox(one)), settings)


def _author(text: str) -> str:
    """Return the address in From; that of nobody if it is none, for a message must have one."""
    try:
        return addresses.address(text)
    except ValueError:
        return NOBODY


def _addresses(name: str, given: Sequence[str], settings: Settings, wrong: Wrong) -> list[str]:
    """Return addresses in the form that is stored, each mailbox once; add the faults of others to ``wrong``."""
    found: dict[str, str] = {}
    for text in given:
        try:
            address = addresses.address(text)
            found.setdefault(key_of(address, settings), address)
        except ValueError as error:
            wrong.setdefault(name, []).append(str(error))
    return [*found.values()]
