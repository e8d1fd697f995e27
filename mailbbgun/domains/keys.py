"""Makes DKIM key pairs, and reads them again. Pure but for random numbers."""

import secrets
from base64 import b64decode, b64encode
from datetime import datetime
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from mailbbgun.domains.dkim import ALGORITHMS, ED25519, RSA

#: Bits of an RSA key. All verifiers take keys up to 2048 bits (RFC 8301 §3.2).
RSA_BITS = 2048

#: What a selector ends in, by algorithm, and the names of key types in records (RFC 6376 §3.6.1, RFC 8463 §4).
_ENDS = {RSA: "r", ED25519: "e"}
_TYPES = {RSA: "rsa", ED25519: "ed25519"}

_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that people take for another


class KeyPair(NamedTuple):
    """A new key pair. ``private`` is PKCS #8 in base64, ``public`` is p= of its record."""

    selector: str
    algorithm: str
    private: str
    public: str


def new_pairs(now: datetime) -> list[KeyPair]:
    """Return a new key pair of each algorithm. It takes a tenth of a second.

    Their selectors say when they were made. Part of them is random: two tenants may use one domain.
    """
    tail = "".join(secrets.choice(_LETTERS) for _ in range(5))
    stem = f"mbb{now:%y%m%d}{tail}"
    return [_new_pair(algorithm, f"{stem}{_ENDS[algorithm]}") for algorithm in ALGORITHMS]


def _new_pair(algorithm: str, selector: str) -> KeyPair:
    private: RSAPrivateKey | Ed25519PrivateKey
    if algorithm == RSA:
        private = rsa.generate_private_key(65_537, RSA_BITS)
        public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    else:
        private = ed25519.Ed25519PrivateKey.generate()
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)  # RFC 8463 §4
    told = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return KeyPair(selector, algorithm, b64encode(told).decode(), b64encode(public).decode())


def private_key(text: str) -> RSAPrivateKey | Ed25519PrivateKey:
    """Return the private key of a :class:`KeyPair`. Raises ``ValueError`` for any other text."""
    # A key that we made need not be checked, which takes 30 times as long.
    found = load_der_private_key(b64decode(text), None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(found, RSAPrivateKey | Ed25519PrivateKey):
        raise ValueError("neither an RSA nor an Ed25519 key")
    return found


def record_value(algorithm: str, public: str) -> str:
    """Return the TXT record of a key (RFC 6376 §3.6.1)."""
    return f"v=DKIM1; k={_TYPES[algorithm]}; p={public}"


def key_type(algorithm: str) -> str:
    """Return the name of an algorithm's key type in records: ``rsa`` or ``ed25519``."""
    return _TYPES[algorithm]
