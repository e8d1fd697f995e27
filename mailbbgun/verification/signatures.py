"""Asks dkimpy about the signatures of a message (RFC 6376, RFC 8463, RFC 8301).

dkimpy's own work on bodies takes quadratic time and many times their size in memory, so bodies are digested by
:class:`SignedMessage`, and dkimpy verifies the header's signature.
"""

import base64
import binascii
import logging
import re
from collections.abc import Callable, Mapping, MutableSequence

import dkim

from mailbbgun.relays.mx import NoAnswer
from mailbbgun.verification.look_ups import BoundedLookUps
from mailbbgun.verification.message import SignedMessage
from mailbbgun.verification.verdict import DKIMResult

#: Signatures that are verified, the topmost first.
MOST_SIGNATURES = 5

#: Octets of a field with a signature, names that it may list, and blanks in a row in it. Regular expressions of
#: dkimpy take quadratic time for these.
LONGEST_FIELD, MOST_NAMES = 16_384, 200
_BLANKS = re.compile(rb"[ \t\r\n]{65}")

#: Bits of an RSA key (RFC 8301 §3.2), and of its exponent.
_LEAST_BITS, _MOST_BITS, _EXPONENT_BITS = 1024, 4096, 64

_FORMS = {b"simple", b"relaxed"}

#: dkimpy logs what is wrong with a message; the verdict says it.
QUIET = logging.Logger("dkimpy", level=logging.CRITICAL + 1)

Key = Callable[[bytes], bytes]


class BodyChanged(dkim.ValidationError):  # type: ignore[misc]  # dkimpy has no types
    """The body is not the one that was signed."""


class NotCovered(dkim.ValidationError):  # type: ignore[misc]  # as above
    """The signature covers only the beginning of the body (l=), so anybody may have added the rest."""


class Verifying:
    """Verifies one signature field in place of dkimpy's method of the same name. Mixed into its classes."""

    message: SignedMessage

    def verify_sig(
        self, sig: Mapping[bytes, bytes], include_headers: MutableSequence[bytes], sig_header: object, dnsfunc: Key
    ) -> bool:
        """Return whether the signature is valid. Raises ``dkim.DKIMException``, and :class:`NoAnswer`."""
        if len(include_headers) > MOST_NAMES:
            raise dkim.ValidationError(f"h= has more than {MOST_NAMES} names")
        if sig[b"a"] == b"rsa-sha1":
            raise dkim.ValidationError("rsa-sha1 proves nothing (RFC 8301)")
        self._read_key(sig, dnsfunc)
        if b"bh" in sig:
            self._check_body(sig)
        of_header = {tag: value for tag, value in sig.items() if tag not in (b"bh", b"l")}
        return bool(self.verify_sig_process(of_header, include_headers, sig_header, dnsfunc))  # type: ignore[attr-defined]  # dkimpy's

    def _read_key(self, sig: Mapping[bytes, bytes], dnsfunc: Key) -> None:
        name = sig[b"s"] + b"._domainkey." + sig[b"d"]
        record = dnsfunc(name)
        if not record:
            raise dkim.KeyFormatError("the DNS has no key for it")
        try:
            found = dkim.evaluate_pk(name, record)
            _check_use(dkim.parse_tag_value(record), sig)
        except (binascii.Error, ValueError, dkim.KeyFormatError, dkim.InvalidTagValueList) as error:
            raise dkim.KeyFormatError("the key in the DNS cannot be used") from error
        self.pk, self.keysize, self.ktag, self.seqtlsrpt = found
        if self.ktag is None or not sig[b"a"].startswith(self.ktag + b"-"):
            raise dkim.KeyFormatError("the key is not of the signature's algorithm")
        if self.ktag == b"rsa":
            if not _LEAST_BITS <= self.keysize <= _MOST_BITS:
                raise dkim.KeyFormatError(f"the key has {self.keysize} bits; {_LEAST_BITS} to {_MOST_BITS} are right")
            if self.pk["publicExponent"].bit_length() > _EXPONENT_BITS:
                raise dkim.KeyFormatError("the key's exponent is too large")

    def _check_body(self, sig: Mapping[bytes, bytes]) -> None:
        form = sig.get(b"c", b"simple/simple").partition(b"/")[2] or b"simple"
        if form not in _FORMS:
            raise dkim.MessageFormatError("invalid c= value")
        try:
            wanted = base64.b64decode(re.sub(rb"[ \t\r\n]+", b"", sig[b"bh"]), validate=True)
        except binascii.Error as error:
            raise dkim.MessageFormatError("bh= is not base64") from error
        body = self.message.body(form)
        if (length := sig.get(b"l")) is not None and int(length) != body.size:
            raise NotCovered("l= leaves out a part of the body")
        if body.value != wanted:
            raise BodyChanged("the body was changed")


def _check_use(key: Mapping[bytes, bytes], sig: Mapping[bytes, bytes]) -> None:
    """Check what a key may be used for (RFC 6376 §3.6.1): its hashes, its services, and its flag ``s``."""
    lists = {tag: {word.strip() for word in key.get(tag, b"").split(b":")} for tag in (b"h", b"s", b"t")}
    domain = sig.get(b"i", b"@" + sig[b"d"]).rpartition(b"@")[2]
    if (
        (b"h" in key and b"sha256" not in lists[b"h"])
        or (b"s" in key and not lists[b"s"] & {b"*", b"email"})
        or (b"s" in lists[b"t"] and domain.lower() != sig[b"d"].lower())
    ):
        raise ValueError("it is not for this")


class _Signature(Verifying, dkim.DKIM):  # type: ignore[misc]  # dkimpy has no types
    """The signatures of a message."""

    def __init__(self, message: SignedMessage) -> None:
        super().__init__(message.header + b"\r\n", logger=QUIET)
        self.message = message


def key_from(look_ups: BoundedLookUps) -> Key:
    """Return the function by which dkimpy asks for the text of a key; empty if there is none."""

    def ask(name: bytes, timeout: float = 0) -> bytes:
        texts = look_ups.texts(name.decode("ascii", "replace"))
        return texts[0] if texts else b""

    return ask


def wrong_with(value: bytes) -> str:
    """Return why a field with a signature is not even read; "" if it is."""
    if len(value) > LONGEST_FIELD:
        return f"the field has more than {LONGEST_FIELD} octets"
    return "the field has too many blanks in a row" if _BLANKS.search(value) else ""


def check(message: SignedMessage, look_ups: BoundedLookUps) -> tuple[DKIMResult, ...]:
    """Return a result for each of the topmost signatures; empty if there are none.

    Exceptions that escape are bugs of the library.
    """
    if b"dkim-signature" not in message.header.lower():
        return ()
    if message.is_too_large:
        return (DKIMResult("permerror", reason="the header is too large"),)
    try:
        mail = _Signature(message)
    except (dkim.MessageFormatError, IndexError):  # the latter for a header that begins with a blank
        return (DKIMResult("permerror", reason="the header has a line that is no field"),)
    values = [value for name, value in mail.headers if name.lower() == b"dkim-signature"]
    return tuple(
        _result(mail, place, value, key_from(look_ups)) for place, value in enumerate(values[:MOST_SIGNATURES])
    )


def _result(mail: _Signature, place: int, value: bytes, key: Key) -> DKIMResult:
    """Return what became of one signature."""
    if wrong := wrong_with(value):
        return DKIMResult("permerror", reason=wrong)
    mail.signature_fields = {}
    try:
        valid = mail.verify(place, dnsfunc=key)
    except NoAnswer as error:
        return _told(mail, "temperror", str(error))
    except BodyChanged as error:
        return _told(mail, "fail", str(error))
    except NotCovered as error:
        return _told(mail, "policy", str(error))
    except (dkim.DKIMException, ValueError) as error:
        return _told(mail, "permerror", str(error))
    return _told(mail, "pass") if valid else _told(mail, "fail", "the signature does not match")


def _told(mail: _Signature, word: object, reason: str = "") -> DKIMResult:
    tags = {tag: mail.signature_fields.get(tag, b"").decode("ascii", "replace") for tag in (b"d", b"s", b"a", b"b")}
    start = re.sub(r"\s+", "", tags[b"b"])[:8]
    return DKIMResult(word, tags[b"d"].lower(), tags[b"s"], tags[b"a"], start, reason)  # type: ignore[arg-type]  # one of its words
