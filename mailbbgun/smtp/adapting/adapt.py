"""Decides what of a message has to change for a server, changes that, and signs the message last."""

import re
from dataclasses import replace

from mailbbgun.drivers.operations import InThread
from mailbbgun.smtp.adapting.downgrade import downgraded, header_is_ascii
from mailbbgun.smtp.adapting.seven_bit import in_seven_bits
from mailbbgun.smtp.content import EnvelopeError
from mailbbgun.smtp.envelope import Envelope
from mailbbgun.smtp.outcome import Phase
from mailbbgun.smtp.spooled import SpoolFailed, body_of, header_of, with_fields

# Our own signature is not there yet. An ARC seal is a signature of the message, too (RFC 8617 §4.1.2).
_SIGNATURE = re.compile(rb"^(?:dkim-signature|arc-message-signature)[ \t]*:", re.IGNORECASE | re.MULTILINE)


async def adapted(envelope: Envelope, extensions: dict[str, str]) -> Envelope:
    """Return the envelope in a form that a server with these extensions accepts, signed.

    A body that is not 7-bit is encoded for a server without 8BITMIME (RFC 6152 §3), in a thread. If
    the message was a file, the new one is another file, which the caller must close. Raises
    EnvelopeError and SpoolFailed, whose ``outcome`` is to be recorded.
    """
    envelope = with_header_for(envelope, extensions)
    if "8BITMIME" in extensions or envelope.raw.isascii():
        return signed(envelope)
    if not header_is_ascii(envelope.raw):  # RFC 6531 §3.1 forbids to offer SMTPUTF8 without 8BITMIME
        raise EnvelopeError("5.6.3", "the server does not offer 8BITMIME", Phase.MAIL)
    return await InThread(lambda: _encoded(envelope), reads=True)


def _encoded(envelope: Envelope) -> Envelope:
    """Return the envelope with a message in ASCII, signed."""
    if _SIGNATURE.search(header_of(envelope.raw)):
        # RFC 6376 §5.3: whoever signs must encode first. Afterwards it breaks the signature.
        raise EnvelopeError("5.6.3", "the server does not offer 8BITMIME, and the message is signed", Phase.MAIL)
    try:
        raw = in_seven_bits(envelope.raw)
    except OSError as error:
        raise SpoolFailed(error) from error
    if envelope.sign is None:
        return replace(envelope, raw=raw)
    return replace(envelope, raw=with_fields(raw, envelope.sign(header_of(raw), body_of(raw))), sign=None)


def with_header_for(envelope: Envelope, extensions: dict[str, str]) -> Envelope:
    """Return the envelope with a header that a server with these extensions accepts (RFC 6531 §3.4).

    If the mail needs SMTPUTF8 and the server does not offer it, the header is rewritten in ASCII,
    and recipients outside ASCII are refused later, one by one. Raises EnvelopeError 5.6.7 if the
    sender's or an author's address needs SMTPUTF8.
    """
    if not envelope.smtputf8:
        return envelope
    addresses = (envelope.mail_from, *envelope.recipients)
    if all(map(str.isascii, addresses)) and header_is_ascii(envelope.raw):
        return replace(envelope, smtputf8=False)
    if "SMTPUTF8" in extensions:
        return envelope
    if not envelope.mail_from.isascii():
        raise EnvelopeError("5.6.7", "the server does not offer SMTPUTF8, which the sender's address needs", Phase.MAIL)
    return replace(envelope, raw=downgraded(envelope.raw), smtputf8=False)


def signed(envelope: Envelope) -> Envelope:
    """Return the envelope with the fields of `envelope.sign` before its message."""
    if envelope.sign is None:
        return envelope
    return replace(envelope, raw=with_fields(envelope.raw, envelope.sign(header_of(envelope.raw))), sign=None)
