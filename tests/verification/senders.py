"""A sender whose mail is verified: its keys, what it publishes in the DNS, and messages that it signs."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import dkim
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mailbbgun.domains import keys
from mailbbgun.domains.dkim import SigningKey, body_digest, signature_fields
from mailbbgun.domains.dns.records import key_name
from mailbbgun.relays.mx import Resolver
from mailbbgun.smtp.spooled import header_of
from mailbbgun.verification.look_ups import BoundedLookUps
from tests.domains.verifiers import quoted
from tests.smtp.name_server import NameServer
from tests.waiting import PATIENCE

HERE, DOMAIN = "mx.here.test", "example.com"

MESSAGE = (
    b"From: Ann <ann@example.com>\r\nTo: bob@here.test\r\nSubject:  An  order\r\n of Friday\r\n"
    b"Date: Sun, 29 Nov 2026 07:00:00 +0000\r\nMessage-ID: <1@example.com>\r\n\r\n"
    b"Hello  Bob, \r\n\r\n\tall is well.\r\n\r\n\r\n"
)

_PAIRS = keys.new_pairs(datetime(2026, 11, 28, tzinfo=UTC))
KEYS = [SigningKey(DOMAIN, pair.selector, keys.private_key(pair.private)) for pair in _PAIRS]
RSA, ED25519 = KEYS
PEM = RSA.private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
SELECTOR = RSA.selector.encode()


def txt(*values: str) -> dict[str, list[str]]:
    return {"TXT": [quoted(value) for value in values]}


#: What the sender publishes: its keys, that 192.0.2.1 sends its mail, and that other mail is to be rejected.
ZONE = {
    DOMAIN: txt("v=spf1 ip4:192.0.2.1 -all", "other=x"),
    f"_dmarc.{DOMAIN}": txt("v=DMARC1; p=reject; sp=quarantine"),
    **{key_name(pair.selector, DOMAIN): txt(keys.record_value(pair.algorithm, pair.public)) for pair in _PAIRS},
}


def signed(message: bytes = MESSAGE) -> bytes:
    """Return a message with the signatures that our own sending domains make."""
    header = header_of(message)
    return signature_fields(header, body_digest([message[len(header) :]]), KEYS, 1_764_360_000) + message


def signed_by_dkimpy(message: bytes = MESSAGE, form: str = "relaxed/relaxed", **options: object) -> bytes:
    header, _, body = form.encode().partition(b"/")
    return dkim.sign(message, SELECTOR, DOMAIN.encode(), PEM, canonicalize=(header, body), **options) + message


def sealed(message: bytes, results: str) -> bytes:
    """Return a message as a forwarder passes it on, who found these results."""
    field = f"Authentication-Results: lists.example.com; {results}\r\n".encode()
    others = b"".join(
        line + b"\r\n" for line in message.split(b"\r\n") if not line.startswith(b"Authentication-Results")
    ).removesuffix(b"\r\n")
    found = field + others
    return b"".join(dkim.arc_sign(found, SELECTOR, DOMAIN.encode(), PEM, b"lists.example.com")) + found


@contextmanager
def asking(zone: dict | None = None, **more: object) -> Iterator[BoundedLookUps]:
    """Look-ups in a zone of a name server; by default the sender's."""
    with NameServer(ZONE if zone is None else zone) as server:
        yield look_ups(server, **more)


def look_ups(server: NameServer, seconds: float = PATIENCE, most: int = 100) -> BoundedLookUps:
    return BoundedLookUps(Resolver(["127.0.0.1"], server.port, PATIENCE), seconds, most)
