"""Secrets and signatures of Standard Webhooks (its specification, "Signature scheme").

A signature is the HMAC-SHA256 of ``id.timestamp.body`` in base64. A request has one for each valid secret.
"""

import base64
import binascii
import hmac
import secrets
from collections.abc import Sequence

from mailbbgun.core.errors import InvalidInput

#: Bytes that a secret may have, and those of one that we make.
LEAST, MOST, MADE = 24, 64, 32
#: What the text of a secret begins with.
PREFIX = "whsec_"


def new_secret() -> str:
    """Return a new secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(MADE)).decode()


def why_no_secret(text: str) -> str | None:
    """Return what is wrong with a secret that a tenant gives, without showing it; None if it is right."""
    if not text.startswith(PREFIX):
        return f"Does not begin with {PREFIX}; leave it out, and one is made."
    try:
        length = len(key_of(text))
    except binascii.Error:
        return f"Is not base64 after {PREFIX}; leave it out, and one is made."
    if not LEAST <= length <= MOST:
        return f"Has {length} bytes after base64 is decoded; a secret has {LEAST} to {MOST}."
    return None


def secret_of(given: str | None) -> str:
    """Return a secret that the client gives, or a new one. Raises :class:`InvalidInput`."""
    if given is None:
        return new_secret()
    if why := why_no_secret(given):
        raise InvalidInput("Some fields are not valid.", fields={"secret": [why]})
    return given


def key_of(secret: str) -> bytes:
    """Return the key that the text of a secret stands for. Raises ``binascii.Error``."""
    return base64.b64decode(secret.removeprefix(PREFIX), validate=True)


def signature(keys: Sequence[bytes], webhook_id: str, timestamp: int, body: bytes) -> str:
    """Return the header ``webhook-signature``: a signature by each key."""
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    made = (base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)
    return " ".join(f"v1,{one}" for one in made)
