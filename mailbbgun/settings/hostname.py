"""Finds our own host name, for EHLO and Message-ID.

A machine's own name may be invalid there (RFC 5321 §4.1.2). Then a valid name is made from it.
"""

import ipaddress
import re
import socket
import threading
from contextlib import suppress

import idna

from mailbbgun.core import addresses

#: Our name if nothing of the machine's own name can be used.
FALLBACK = "localhost.localdomain"
#: How long the resolver may take for our full name. A DNS that does not answer must not delay a
#: start for longer.
LOOKUP_SECONDS = 2.0
#: Characters of a host name (RFC 1035 §3.1, without the octets that only the wire format has).
LONGEST = 253

_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")


def fault_of(name: str) -> str:
    """Return why a name cannot be ours, as the end of a sentence; "" if it can."""
    if _is_address(name):
        return "is an IP address, or ends like one, and no host name"
    if not name.isascii():
        return "is not a host name (RFC 5321 §4.1.2): write others than ASCII as xn--…"
    if len(name) > LONGEST or not _NAME.fullmatch(name):
        labels = "labels of 1 to 63 letters, digits and hyphens, with dots between them"
        return f"is not a host name (RFC 5321 §4.1.2): {labels}"
    return ""


def of_this_machine() -> tuple[str, str]:
    """Return this machine's own name and "".

    If that name is invalid: a name made from it, and the invalid one, quoted.
    """
    invalid = None
    for name in (_full_name(), socket.gethostname()):
        if _can_be_ours(name):
            return name, ""
        invalid = name if invalid is None else invalid
    return made_of(invalid or ""), repr(invalid)


def made_of(name: str) -> str:
    """Return a valid name that resembles an invalid one: ``my-host`` for ``my_host``.

    Returns :data:`FALLBACK` if nothing valid is left.
    """
    name = name.strip().strip(".")
    if _is_address(name):
        return FALLBACK
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode()
        except idna.IDNAError:
            return FALLBACK
    labels = [re.sub(r"[^A-Za-z0-9-]", "-", label)[:63].strip("-") for label in name.split(".")]
    made = ".".join(label for label in labels if label)
    return made if _can_be_ours(made) else FALLBACK


def _can_be_ours(name: str) -> bool:
    try:
        addresses.address(f"noreply@{name}")  # the default of DEFAULT_FROM
    except ValueError:
        return False
    return not fault_of(name)


def _is_address(name: str) -> bool:
    bare = name.strip("[]").removeprefix("IPv6:")
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        return bool(re.fullmatch(r"(.*\.)?[0-9]+", name))  # resolvers take 127.1 and 1234 for addresses, too
    return True


def _full_name() -> str:
    """Return the machine's name with its domain.

    The resolver may hang. So a thread asks it, which is left behind if it takes too long.
    """
    found: list[str] = []

    def ask() -> None:
        with suppress(OSError, UnicodeError):  # a label may be too long for IDNA, a name not be text
            found.append(socket.getfqdn())

    asking = threading.Thread(target=ask, name="full-name", daemon=True)
    asking.start()
    asking.join(LOOKUP_SECONDS)
    return found[0] if found else socket.gethostname()
