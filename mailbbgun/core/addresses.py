"""Checks and normalises one e-mail address without a display name: ``ann@example.com``.

It asks no DNS. Every address is stored in one form, so that header, envelope and table agree:

* The domain is written in A-labels (IDNA) and lower case.
* The local part keeps its case, may be of any script (RFC 6531) and is in NFC (RFC 6532 §3.1).
* The local part has quotes only where it needs them (RFC 5321 §4.1.2): ``"ann"@example.com``
  becomes ``ann@example.com``.
"""

import re
import unicodedata
from functools import lru_cache

import email_validator
import idna

# The library refuses the domains of this list. We allow them: mail on a LAN and in tests goes to
# names such as intranet.local, box.test and localhost.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()

#: Octets of an address (RFC 5321 §4.5.3.1.3, less the angle brackets).
LONGEST = 254
LONGEST_DOMAIN = 253

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~-"  # RFC 5322 §3.2.3
_DOT_ATOM = re.compile(rf"[{_ATEXT}]+(?:\.[{_ATEXT}]+)*")
_UTF8_DOT_ATOM = re.compile(rf"[\u0080-\U0010ffff{_ATEXT}]+(?:\.[\u0080-\U0010ffff{_ATEXT}]+)*")  # RFC 6531 §3.3
_SPECIAL = re.compile(rf"[^.{_ATEXT}\u0080-\U0010ffff]")  # a character that needs quotes
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_IPV4 = re.compile(r"[0-9]+(?:\.[0-9]+){3}")

#: The address after a display name. A quoted local part may hold angle brackets (RFC 5322 §3.4.1).
_NAMED = re.compile(r'<((?:"(?:[^"\\]|\\.)*"|[^<>"]*)@[^<>@]*)>$')

_AFTER_AT = re.compile("the part after the @-sign", re.IGNORECASE)

#: Refused even in quotes: some servers end the address at such a character, quoted or not.
_NEVER_SENT = re.compile("[ <>]")


def address(text: str) -> str:
    """Return an address in the form that is stored.

    Raises ``ValueError`` with a sentence that is safe to show.
    """
    if len(text) > LONGEST:  # or what is below would take seconds: a client sends up to MAX_BODY_SIZE
        raise _too_long(len(text.encode(errors="replace")))
    local, at, domain = text.rpartition("@")
    if not at:
        raise _invalid(
            "its @-sign is a full-width one." if "＠" in text else "it has no @-sign, as in ann@example.com."
        )
    found = f"{local if _DOT_ATOM.fullmatch(local) else _local(local, domain)}@{_domain(domain)}"
    # The stored form may be longer or shorter than what the client gave. Both must fit.
    if len(text) + len(found) > LONGEST and (size := max(len(text.encode()), len(found.encode()))) > LONGEST:
        raise _too_long(size)
    return found


def domain(text: str) -> str:
    """Return a domain in the form that is stored: in A-labels and lower case.

    Raises ``ValueError`` with a sentence that is safe to show.
    """
    if "@" in text:
        raise ValueError("Not a domain: it has an @-sign.")
    if len(text) > LONGEST:
        raise ValueError(f"Not a domain: it has {len(text)} characters, and {LONGEST_DOMAIN} are the most.")
    try:
        return _domain(text)
    except ValueError as error:  # it speaks of an address
        why = str(error).removeprefix("Not a valid e-mail address: ")
        raise ValueError(f"Not a domain: {_AFTER_AT.sub('it', why)}") from error


def in_mailbox(text: str) -> str:
    """Return the address in a mailbox as people read it: ``Ann <ann@example.com>`` or the address alone."""
    named = _NAMED.search(text)
    return named[1] if named else text


def mailbox_key(address: str, *, case_sensitive: bool) -> str:
    """Return a key that is the same for all addresses of one mailbox.

    ``address`` is one that :func:`address` returned. ``case_sensitive`` says whether ``Ann`` and
    ``ann`` are two mailboxes. RFC 5321 §2.4 allows that; hardly any server does it.
    """
    return address if case_sensitive else address.lower()


def foreign(text: str) -> bool:
    """Return whether a text may hold internationalised addresses.

    Their domains take ten times as long to check as others when they are new.
    """
    return not text.isascii() or "xn--" in text.lower()


def _invalid(why: str) -> ValueError:
    return ValueError(f"Not a valid e-mail address: {why}")


def _too_long(size: int) -> ValueError:
    return _invalid(f"it has {size} octets, and {LONGEST} are the most (RFC 5321 §4.5.3.1.3).")


def _local(text: str, domain: str) -> str:
    """Return the stored form of a local part that is no ASCII dot-atom."""
    quoted = _QUOTED.fullmatch(text)
    plain = unicodedata.normalize("NFC", re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text)
    if not text or not plain:
        raise _invalid("there is nothing before the @-sign.")
    # Not printable are control, format, private and unassigned characters, surrogates, and every
    # space but U+0020.
    if unseen := next((character for character in text + plain if not character.isprintable()), None):
        raise _invalid(f"it has U+{ord(unseen):04X} before the @-sign, which is invisible.")
    if any(unicodedata.category(one[0])[0] == "M" for one in (text, plain)):
        raise _invalid("it begins with a combining character.")
    if _UTF8_DOT_ATOM.fullmatch(plain) and (quoted or _UTF8_DOT_ATOM.fullmatch(text)):
        return plain
    if found := _NEVER_SENT.search(plain):
        raise _invalid(
            f'"{found[0]}" is not taken before the @-sign, not even in quotes: not every server reads it so.'
        )
    in_quotes = '"' + re.sub(r'(["\\])', r"\\\1", plain) + '"'
    if quoted:
        return in_quotes
    special = _SPECIAL.search(plain)
    why = (
        f"{special[0]} before the @-sign needs quotes"
        if special
        else "a dot that is first, last or beside another needs quotes"
    )
    raise _invalid(f"{why} (RFC 5321 §4.1.2): {in_quotes}@{domain if domain.isprintable() else 'example.com'}.")


@lru_cache(maxsize=8192)  # applications write to the same few domains
def _domain(text: str) -> str:
    lower = text.lower()
    if len(lower) > LONGEST_DOMAIN or "--" in lower or not _HOST.fullmatch(lower):
        lower = _of_letters(text) or _a_labels(text) or _by_the_library(text)
    if _IPV4.fullmatch(lower):
        raise _invalid("the part after the @-sign is an IP address.")
    return lower


def _of_letters(text: str) -> str | None:
    """Return an internationalised domain in A-labels; None unless all its characters are simple.

    This is the fast way for most such domains. For simple characters no rule about a whole label
    can fail.
    """
    if (
        len(text) > LONGEST_DOMAIN
        or not unicodedata.is_normalized("NFC", text)
        or not all(one < "\x80" or _simple(one) for one in text)
    ):
        return None
    if "--" in text or "-." in f"{text}." or ".-" in f".{text}":
        return None
    labels = [
        label if label.isascii() else "xn--" + label.encode("punycode").decode() for label in text.lower().split(".")
    ]
    found = ".".join(labels)
    return found if len(found) <= LONGEST_DOMAIN and _HOST.fullmatch(found) else None


@lru_cache(maxsize=8192)
def _simple(character: str) -> bool:
    """Return whether a character may stand anywhere in a label, beside any other, unchanged.

    RFC 5892 says which are valid, UTS #46 which stay unchanged.
    """
    if (
        unicodedata.category(character)[0] not in "LN"
        or unicodedata.bidirectional(character) != "L"
        or character.lower() != character
    ):
        return False
    try:
        return idna.uts46_remap(character) == character and idna.ulabel(idna.alabel(character)) == character
    except (idna.IDNAError, UnicodeError):
        return False


def _a_labels(text: str) -> str | None:
    """Return an internationalised domain in A-labels; None for an invalid or a difficult one.

    ``email_validator`` decides on those. It converts the domain there and back again, which takes
    four times as long.
    """
    if not text or len(text) > LONGEST_DOMAIN or not text.isprintable() or unicodedata.category(text[0])[0] == "M":
        return None
    if any(unicodedata.bidirectional(one) in ("R", "AL", "AN") for one in text):
        return None  # one right-to-left label puts rules on all labels (RFC 5893)
    try:
        found = idna.encode(text, uts46=True).decode()
    except (idna.IDNAError, UnicodeError):
        return None
    if len(found) > LONGEST_DOMAIN or not _HOST.fullmatch(found):
        return None
    return None if any(label[2:4] == "--" and not label.startswith("xn--") for label in found.split(".")) else found


def _by_the_library(text: str) -> str:
    try:
        found = email_validator.validate_email("a@" + text, check_deliverability=False, globally_deliverable=False)
    except email_validator.EmailNotValidError as error:
        raise _invalid(str(error)) from error
    return found.ascii_domain.lower()
