"""One e-mail address, without a name: ``ann@example.com``. No DNS.

Domains become A-labels in lower case at once, so header, envelope and table agree. Local parts keep their case, may be
any script (RFC 6531), are in NFC (RFC 6532 §3.1), and have quotes only where they need them (RFC 5321 §4.1.2):
``"ann"@example.com`` is ``ann@example.com``.
"""

import re
import unicodedata
from functools import lru_cache

import email_validator
import idna

# Mail of tests and of a LAN goes to names such as box.test, intranet.local and localhost; the list is the library's switch for that.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()

#: Octets of an address (RFC 5321 §4.5.3.1.3, less the angle brackets).
LONGEST = 254
LONGEST_DOMAIN = 253

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~-"  # RFC 5322 §3.2.3
_DOT_ATOM = re.compile(rf"[{_ATEXT}]+(?:\.[{_ATEXT}]+)*")
_UTF8_DOT_ATOM = re.compile(rf"[\u0080-\U0010ffff{_ATEXT}]+(?:\.[\u0080-\U0010ffff{_ATEXT}]+)*")  # RFC 6531 §3.3
_SPECIAL = re.compile(rf"[^.{_ATEXT}\u0080-\U0010ffff]")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_IPV4 = re.compile(r"[0-9]+(?:\.[0-9]+){3}")
_NEVER_SENT = re.compile("[ <>]")  # in quotes: servers are known that end an address there, quoted or not


def address(text: str) -> str:
    """Return an address as it is kept. Raises ``ValueError`` with a sentence that is safe to show."""
    local, at, domain = text.rpartition("@")
    if not at:
        raise _invalid(
            "its @-sign is a full-width one." if "＠" in text else "it has no @-sign, as in ann@example.com."
        )
    found = f"{local if _DOT_ATOM.fullmatch(local) else _local(local, domain)}@{_domain(domain)}"
    # What a client gave and what is kept may differ in length either way.
    if len(text) + len(found) > LONGEST and (size := max(len(text.encode()), len(found.encode()))) > LONGEST:
        raise _invalid(f"it has {size} octets, and {LONGEST} are the most (RFC 5321 §4.5.3.1.3).")
    return found


def domain(text: str) -> str:
    """Return the domain of addresses as it is kept: in A-labels and lower case. Raises ``ValueError`` with a sentence that is safe to show."""
    if "@" in text:
        raise ValueError("Not a domain: it has an @-sign.")
    return _domain(text)


def mailbox_key(address: str, *, case_sensitive: bool) -> str:
    """Return what addresses of one mailbox have in common, for addresses as :func:`address` returns them.

    ``case_sensitive``: whether ``Ann`` and ``ann`` are two mailboxes. RFC 5321 §2.4 allows that; hardly any server does it.
    """
    return address if case_sensitive else address.lower()


def foreign(text: str) -> bool:
    """Say whether addresses in a text may take long to check: ten times as long as others, when their domains are new."""
    return not text.isascii() or "xn--" in text.lower()


def _invalid(why: str) -> ValueError:
    return ValueError(f"Not a valid e-mail address: {why}")


def _local(text: str, domain: str) -> str:
    """Return a local part that is no ASCII dot-atom as it is kept."""
    quoted = _QUOTED.fullmatch(text)
    plain = unicodedata.normalize("NFC", re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else text)
    if not text or not plain:
        raise _invalid("there is nothing before the @-sign.")
    # isprintable: no control, format, private or unassigned characters, no surrogates, no space but U+0020
    if unseen := next((character for character in text + plain if not character.isprintable()), None):
        raise _invalid(f"it has U+{ord(unseen):04X} before the @-sign, which nobody sees.")
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
    """Return an internationalised domain in A-labels if all its characters are :func:`_simple`; else None."""
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
    """Say whether a character is valid anywhere in a label, beside any other, and stays as it is (RFC 5892, UTS #46)."""
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
    """Return an internationalised domain in A-labels; None for one that is wrong, or that takes a closer look.

    The library would convert it there and back again, which takes four times as long.
    """
    if not text or len(text) > LONGEST_DOMAIN or not text.isprintable() or unicodedata.category(text[0])[0] == "M":
        return None
    if any(unicodedata.bidirectional(one) in ("R", "AL", "AN") for one in text):
        return None  # where writing from right to left is in one label, there are rules for all (RFC 5893)
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
