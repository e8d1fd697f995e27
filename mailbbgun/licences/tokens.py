"""Tokens: JSON that is signed with Ed25519, as a compact JWS (RFC 7515 §7.1, RFC 8037 §3.1).

The header of each has exactly ``alg``, ``typ`` and ``kid``, and is compared as a whole before any
key is used. So no token chooses its own algorithm (RFC 8725 §3.1), brings its own key, or is taken
for one of another type (RFC 8725 §3.11). Pure.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple, cast

import orjson
from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import OKPKey
from joserfc.jws import JWSRegistry

#: ``Ed25519`` of RFC 9864 §2.2 is newer, but most libraries that verify know only this.
ALGORITHM = "EdDSA"
#: Characters of the longest token that is read. The longest that we make is shorter.
LONGEST = 8192

_FORM = re.compile(r"([A-Za-z0-9_-]{1,512})\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}")


class TokenKind(StrEnum):
    """What a token is for: its ``typ``."""

    LICENCE = "licence+jwt"
    LEASE = "licence-lease+jwt"
    REVOKED = "licence-revocations+jwt"


class BadToken(Exception):
    """A text is no token of the kind that was asked for, or nobody of us signed it. The text says why."""


class Pair(NamedTuple):
    """A key as it is stored: both halves in base64url, and the id by which tokens name it."""

    kid: str
    public: str
    private: str


class _Registry(JWSRegistry):
    """Knows one algorithm, whose deprecation by RFC 9864 is no news."""

    def get_alg(self, name: str) -> Any:
        if name != ALGORITHM:
            raise UnsupportedAlgorithmError(f"Algorithm of '{name}' is not supported")
        return self.algorithms[ALGORITHM]


def new_pair() -> Pair:
    """Return a new key. Its id is its thumbprint (RFC 7638)."""
    key = OKPKey.generate_key("Ed25519")
    halves = cast(dict[str, str], key.as_dict(private=True))
    return Pair(key.thumbprint(), halves["x"], halves["d"])


def public_jwk(kid: str, public: str) -> dict[str, str]:
    """Return the public half of a key as a JWK (RFC 8037 §2)."""
    return {"kty": "OKP", "crv": "Ed25519", "x": public, "kid": kid, "alg": ALGORITHM, "use": "sig"}


def sign(pair: Pair, kind: TokenKind, claims: Mapping[str, Any]) -> str:
    """Return a token with these claims. The same claims make the same token."""
    key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": pair.public, "d": pair.private})
    header = {"alg": ALGORITHM, "typ": kind.value, "kid": pair.kid}
    return jws.serialize_compact(header, orjson.dumps(claims), key, registry=_Registry())


def read(token: str, kind: TokenKind, public_of: Callable[[str], str | None]) -> dict[str, Any]:
    """Return the claims of a token. ``public_of`` finds the public half of a key of ours by its id.

    Whether the token is in force is not looked at. Raises :class:`BadToken`.
    """
    kid = _kid(token, kind)
    public = public_of(kid)
    if public is None:
        raise BadToken("its kid names no key of this service")
    key = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": public})
    try:
        payload = jws.deserialize_compact(token, key, registry=_Registry()).payload
    except (JoseError, ValueError) as error:
        raise BadToken("its signature is wrong") from error
    return cast(dict[str, Any], orjson.loads(payload))  # we signed it, so it is JSON


def _kid(token: str, kind: TokenKind) -> str:
    """Return the id of the key that a token names, if its header is one that we write."""
    form = _FORM.fullmatch(token) if len(token) <= LONGEST else None
    if form is None:
        raise BadToken("it is not three parts in base64url with dots between, the last of them 86 characters long")
    try:
        header = orjson.loads(base64.urlsafe_b64decode(form[1] + "=" * (-len(form[1]) % 4)))
    except (binascii.Error, ValueError) as error:
        raise BadToken("its header is no JSON in base64url") from error
    kid = header.get("kid") if isinstance(header, dict) else None
    if not isinstance(kid, str) or not isinstance(header.get("alg"), str):
        raise BadToken("its header lacks alg or kid")
    if header["alg"] != ALGORITHM:
        raise BadToken(f"its alg is not {ALGORITHM}")
    if header.get("typ") != kind:
        raise BadToken(f"its typ is not {kind}")
    if len(header) > 3:
        raise BadToken("its header has more than alg, typ and kid")
    return kid
