"""Tokens: what is read, and what is refused however it is signed."""

import base64
import hashlib
import hmac
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mailbbgun.licences.tokens import BadToken, TokenKind, new_pair, public_jwk, read, sign

PAIR, OTHER = new_pair(), new_pair()
CLAIMS = {"sub": "Example Ltd", "seats": 3, "exp": 1}
HEADER = {"alg": "EdDSA", "typ": "licence+jwt", "kid": PAIR.kid}
TOKEN = sign(PAIR, TokenKind.LICENCE, CLAIMS)


def packed(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def unpacked(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def with_header(header: object, signature: str | None = None) -> str:
    _, payload, ours = TOKEN.split(".")
    return f"{packed(json.dumps(header).encode())}.{payload}.{ours if signature is None else signature}"


def by_hmac(header: dict[str, str]) -> str:
    """Sign with the public key as if it were a shared secret."""
    signed = with_header(header).rpartition(".")[0]
    return f"{signed}.{packed(hmac.digest(unpacked(PAIR.public), signed.encode(), hashlib.sha512))}"


def public_of(kid: str) -> str | None:
    return {PAIR.kid: PAIR.public, OTHER.kid: OTHER.public}.get(kid)


def flipped(token: str, part: int) -> str:
    parts = token.split(".")
    parts[part] = ("B" if parts[part][0] == "A" else "A") + parts[part][1:]
    return ".".join(parts)


def test_a_token_is_read_by_us_and_verified_by_anybody_with_the_public_key() -> None:
    assert read(TOKEN, TokenKind.LICENCE, public_of) == CLAIMS
    assert sign(PAIR, TokenKind.LICENCE, CLAIMS) == TOKEN
    jwk = public_jwk(PAIR.kid, PAIR.public)
    assert jwk == {"kty": "OKP", "crv": "Ed25519", "x": PAIR.public, "kid": PAIR.kid, "alg": "EdDSA", "use": "sig"}
    header, payload, signature = TOKEN.split(".")
    assert json.loads(unpacked(header)) == HEADER
    signed = f"{header}.{payload}".encode()
    Ed25519PublicKey.from_public_bytes(unpacked(jwk["x"])).verify(unpacked(signature), signed)


REFUSED = {
    "no token": ("x", "three parts"),
    "two parts": (TOKEN.rpartition(".")[0], "three parts"),
    "no signature": (TOKEN.rpartition(".")[0] + ".", "three parts"),
    "a fourth part": (TOKEN + ".x", "three parts"),
    "a line break": (TOKEN + "\n", "three parts"),
    "a huge token": ("A." * 1_000_000 + "A", "three parts"),
    "a huge payload": (f"{packed(b'{}')}.{'A' * 100_000}.{'A' * 86}", "three parts"),
    "another payload": (flipped(TOKEN, 1), "its signature is wrong"),
    "another signature": (flipped(TOKEN, 2), "its signature is wrong"),
    "alg none": (with_header(HEADER | {"alg": "none"}), "alg is not EdDSA"),
    "alg None": (with_header(HEADER | {"alg": "NoNe"}), "alg is not EdDSA"),
    "alg HS512 by the public key": (by_hmac(HEADER | {"alg": "HS512"}), "alg is not EdDSA"),
    "EdDSA by HMAC": (by_hmac(HEADER), "its signature is wrong"),
    "alg Ed25519": (with_header(HEADER | {"alg": "Ed25519"}), "alg is not EdDSA"),
    "alg is a list": (with_header(HEADER | {"alg": ["EdDSA"]}), "lacks alg or kid"),
    "another type": (sign(PAIR, TokenKind.LEASE, CLAIMS), "typ is not licence+jwt"),
    "plain JWT": (with_header(HEADER | {"typ": "JWT"}), "typ is not licence+jwt"),
    "no typ": (with_header({"alg": "EdDSA", "kid": PAIR.kid}), "typ is not licence+jwt"),
    "the kid of another key": (with_header(HEADER | {"kid": OTHER.kid}), "its signature is wrong"),
    "an unknown kid": (with_header(HEADER | {"kid": "../../etc/passwd"}), "names no key"),
    "SQL as kid": (with_header(HEADER | {"kid": "' OR 1=1 --"}), "names no key"),
    "no kid": (with_header({"alg": "EdDSA", "typ": "licence+jwt"}), "lacks alg or kid"),
    "a kid that is a list": (with_header(HEADER | {"kid": [PAIR.kid]}), "lacks alg or kid"),
    "a key of its own": (with_header(HEADER | {"jwk": public_jwk("x", OTHER.public)}), "more than alg"),
    "a URL of keys": (with_header(HEADER | {"jku": "https://example.com/"}), "more than alg"),
    "critical": (with_header(HEADER | {"crit": ["exp"]}), "more than alg"),
    "payload not encoded": (with_header(HEADER | {"b64": False, "crit": ["b64"]}), "more than alg"),
    "a header that is a list": (with_header([HEADER]), "lacks alg or kid"),
    "a header that is no JSON": (f"{packed(b'{')}.e30.{'A' * 86}", "no JSON"),
    "a header in no UTF-8": (f"{packed(bytes([255, 254]))}.e30.{'A' * 86}", "no JSON"),
    "a header of one character": (f"A.e30.{'A' * 86}", "no JSON"),
    "zeros as signature": (with_header(HEADER, "A" * 86), "its signature is wrong"),
}


def test_no_other_token_is_taken_for_one_of_ours() -> None:
    for what, (token, why) in REFUSED.items():
        with pytest.raises(BadToken) as refused:
            read(token, TokenKind.LICENCE, public_of)
        assert why in str(refused.value), what
    for kind in (TokenKind.LEASE, TokenKind.REVOKED):
        with pytest.raises(BadToken, match="typ is not"):
            read(TOKEN, kind, public_of)
