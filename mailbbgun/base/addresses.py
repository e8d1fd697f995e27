"""One e-mail address, without a name: ``ann@example.com``. No DNS.

Domains become A-labels at once, so header, envelope and table agree; local parts keep their case and may be any script (RFC 6531).
"""

import re
from functools import lru_cache

import email_validator

# Mail of tests and of a LAN goes to names such as box.test, intranet.local and localhost; the list is the library's switch for that.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()

_DOT_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")  # RFC 5322 §3.2.3
_IPV4 = re.compile(r"[0-9]+(?:\.[0-9]+){3}")


def address(text: str) -> str:
    """Return an address as it is kept. Raises ``ValueError`` with a sentence that is safe to show."""
    local, _, domain = text.rpartition("@")
    if len(local) < 64 and _DOT_ATOM.fullmatch(local) and len(found := _valid("a@" + domain)) < 190:
        return local + found[1:]  # as nearly all: a domain has many addresses, and it is what takes time
    return _valid(text)


def domain(text: str) -> str:
    """Return the domain of addresses as it is kept: in A-labels and lower case. Raises ``ValueError`` with a sentence that is safe to show."""
    if "@" in text:
        raise ValueError("Not a domain: it has an @-sign.")
    return _valid("a@" + text)[2:].lower()


@lru_cache(maxsize=4096)  # applications write from the same few addresses to the same few domains
def _valid(text: str) -> str:
    try:
        found = email_validator.validate_email(text, check_deliverability=False, globally_deliverable=False)
    except email_validator.EmailNotValidError as error:
        raise ValueError(f"Not a valid e-mail address: {error}") from error
    if _IPV4.fullmatch(found.ascii_domain):
        raise ValueError("Not a valid e-mail address: the part after the @-sign is an IP address.")
    return f"{found.local_part}@{found.ascii_domain}"
