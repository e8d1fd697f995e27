"""Our own host name, for EHLO and Message-ID: which names may be one (RFC 5321 §4.1.2), and what to go by when the machine's is none."""

import ipaddress
import re
import socket
import threading
from contextlib import suppress

import idna

from mailbbgun.core import addresses

FALLBACK = "localhost.localdomain"
LOOKUP_SECONDS = (
    2.0  # to ask the resolver for our full name; a DNS that does not answer must not keep a program from starting
)
LONGEST = 253  # characters (RFC 1035 §3.1, less what only the wire needs)

_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")


def fault_of(name: str) -> str:
    """Say why a name cannot be ours, in half a sentence; "" if it can."""
    if _is_address(name):
        return "is an IP address, or ends like one, and no host name"
    if not name.isascii():
        return "is not a host name (RFC 5321 §4.1.2): write others than ASCII as xn--…"
    if len(name) > LONGEST or not _NAME.fullmatch(name):
        return "is not a host name (RFC 5321 §4.1.2): labels of 1 to 63 letters, digits and hyphens, with dots between them"
    return ""


def of_this_machine() -> tuple[str, str]:
    """Return the name this machine has for itself and "". If that cannot be ours: one made of it, and the machine's, quoted."""
    odd = None
    for name in (_full_name(), socket.gethostname()):
        if _can_be_ours(name):
            return name, ""
        odd = name if odd is None else odd
    return made_of(odd or ""), repr(odd)


def made_of(name: str) -> str:
    """Return a valid name as near as can be to one that is not: ``my_host`` becomes ``my-host``. :data:`FALLBACK` if nothing is left."""
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
        addresses.address(f"noreply@{name}")  # DEFAULT_FROM, as a rule
    except ValueError:
        return False
    return not fault_of(name)


def _is_address(name: str) -> bool:
    bare = name.strip("[]").removeprefix("IPv6:")
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        return bool(re.fullmatch(r"(.*\.)?[0-9]+", name))  # 127.1 and 1234 are read as addresses, too
    return True


def _full_name() -> str:
    """Return the machine's name with its domain. The resolver may hang, so it is asked in a thread that is left behind."""
    found: list[str] = []

    def ask() -> None:
        with suppress(OSError, UnicodeError):  # a label too long for IDNA, bytes that are no text
            found.append(socket.getfqdn())

    asking = threading.Thread(target=ask, name="full-name", daemon=True)
    asking.start()
    asking.join(LOOKUP_SECONDS)
    return found[0] if found else socket.gethostname()
