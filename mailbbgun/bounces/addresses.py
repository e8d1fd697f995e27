"""Finds addresses in what mail servers write."""

import re

#: Characters of an address, at most (RFC 5321 §4.5.3.1).
LONGEST = 320

# The lengths are bounds, so that no text takes more than linear time.
_LOCAL = r"(?:\"[^\"\s@]{1,64}\"|[^\s<>\"'`(),:;@\[\]|\\{}]{1,128})"
ADDRESS = re.compile(rf"({_LOCAL})@([\w\-]{{1,63}}(?:\.[\w\-]{{1,63}}){{0,10}}|\[[\d.]{{7,15}}\])")

#: Local parts of machines and of people who care for them: no report is about them.
_SERVICE = re.compile(
    r"(?:mailer-?daemon|post[-_]?master|mail-?master|mdaemon|abuse|support|no-?reply|root|daemon|hostmaster|"
    r"listserv|helpdesk)\Z",
    re.IGNORECASE,
)


def clean(text: str) -> str:
    """Return the bare address in what a field or line gives, in angle brackets, quotes or with a comment.

    Empty if there is none.
    """
    match = ADDRESS.search(text[: 4 * LONGEST])
    return _bare(match) if match else ""


def all_in(text: str) -> list[str]:
    """Return the addresses in a text, each once, in order."""
    return list(dict.fromkeys(filter(None, map(_bare, ADDRESS.finditer(text)))))


def is_service(address: str) -> bool:
    """Return whether an address is of a machine, or of one who cares for it."""
    return bool(_SERVICE.match(address.partition("@")[0]))


def _bare(match: re.Match[str]) -> str:
    """Return the address without what sticks to it; empty if it is none."""
    local, domain = match[1].lstrip(".=*-_").rstrip(), match[2].rstrip(".-_")
    if match[1].startswith('"'):
        local = match[1]
    if local.lower().startswith("smtp="):  # an X.400 address with an Internet address in it
        local = local[5:]
    if local.startswith("/") and "=" not in local:  # a path, and no X.400 address
        return ""
    local = local or match[1]
    return f"{local}@{domain}"[:LONGEST]
