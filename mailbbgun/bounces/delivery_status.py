"""Reads the part of a delivery status notification that machines read (RFC 3464, RFC 6533)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from mailbbgun.bounces import addresses, mime

#: Recipients of a report that are read.
MOST_RECIPIENTS = 200

_ESCAPED = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")


@dataclass(frozen=True, slots=True)
class StatusOfRecipient:
    """What a notification says of a recipient. ``action`` is in lower case, or empty."""

    address: str
    original: str
    action: str
    status: str
    diagnostic: str


@dataclass(slots=True)
class DeliveryStatus:
    """What the part says of the mail and its recipients."""

    envelope_id: str | None = None
    recipients: list[StatusOfRecipient] = field(default_factory=list)


def parse(text: str) -> DeliveryStatus:
    """Return what the part says. Blocks without a recipient are about the mail."""
    found = DeliveryStatus()
    for block in _blocks(text):
        if one := _recipient(block):
            if len(found.recipients) < MOST_RECIPIENTS:
                found.recipients.append(one)
        elif not found.envelope_id and block.get("original-envelope-id"):
            found.envelope_id = block["original-envelope-id"][0][:200]
    return found


def looks_like_one(text: str) -> bool:
    """Return whether a part of another type has the fields of a notification."""
    lowered = text.lower()
    return "\nfinal-recipient:" in f"\n{lowered}" and ("\naction:" in lowered or "\nstatus:" in lowered)


def _blocks(text: str) -> Iterator[dict[str, list[str]]]:
    """Yield the blocks of fields. A second recipient in a block begins another."""
    held: dict[str, list[str]] = {}
    for count, line in enumerate(mime.unfolded(text)):
        if count >= 20 * MOST_RECIPIENTS:
            break
        name, _, value = line.partition(":")
        name = name.strip().lower()
        if not line.strip() or (name in ("final-recipient", "original-recipient") and name in held):
            if held:
                yield held
            held = {}
        if value:
            held.setdefault(name, []).append(value.strip())
    if held:
        yield held


def _recipient(block: dict[str, list[str]]) -> StatusOfRecipient | None:
    def first(name: str) -> str:
        return next(iter(block.get(name, ())), "")

    original = _address(first("original-recipient"))
    final = _address(first("final-recipient")) or _address(first("x-actual-recipient")) or original
    if original and "@" in original and not _is_public(final):
        final = original
    action = first("action").lower().partition(" ")[0].strip(";,.")
    if not final:
        return None
    diagnostic = " ".join(block.get("diagnostic-code", ()) or block.get("x-supplementary-info", ()))
    return StatusOfRecipient(final, original, action, first("status"), mime.decoded(diagnostic))


def _address(value: str) -> str:
    """Return the address of ``rfc822; ann@example.com`` or ``utf-8; …`` (RFC 6533 §3)."""
    kind, separator, rest = value.partition(";")
    text = rest if separator else kind
    if not text.isascii():
        text = mime.decoded(text)
    if "\\x{" in text:
        text = _ESCAPED.sub(lambda match: chr(min(int(match[1], 16), 0x10FFFF)), text)
    bare = text.strip().strip("<>").strip()
    if bare.startswith("@"):
        return ""
    return addresses.clean(text) or (bare[: addresses.LONGEST] if bare and " " not in bare else "")


def _is_public(address: str) -> bool:
    """Return whether an address may be one that a person wrote, and is not one inside a system."""
    domain = address.rpartition("@")[2].lower()
    return "@" in address and "." in domain and not domain.endswith((".local", ".localdomain", ".internal", ".lan"))
