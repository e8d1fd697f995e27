"""Makes DKIM signatures (RFC 6376, RFC 8463) with relaxed/relaxed canonicalisation. Pure.

The same message, key and time always give the same octets: RSA by PKCS #1 v1.5 and Ed25519 draw no
random numbers. So each attempt sends the same signature.
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from mailbbgun.smtp.folding import folded_lines

#: Algorithms of signatures (RFC 6376 §3.3.1, RFC 8463 §3), in the order in which a message has them.
RSA, ED25519 = ALGORITHMS = ("rsa-sha256", "ed25519-sha256")

#: Fields that are signed once more than they occur (RFC 6376 §8.15): one that is added later breaks
#: the signature. A reader would take it for the sender's.
OVERSIGNED = (
    "from",
    "sender",
    "reply-to",
    "to",
    "cc",
    "subject",
    "date",
    "message-id",
    "in-reply-to",
    "references",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "list-unsubscribe",
    "list-unsubscribe-post",
)

#: Fields that are signed if they occur. Servers on the way may add them.
SIGNED = (
    "list-id",
    "list-help",
    "list-subscribe",
    "list-owner",
    "list-post",
    "list-archive",
    "auto-submitted",
    "precedence",
    "feedback-id",
    "content-id",
    "content-disposition",
    "content-language",
    "importance",
    "x-priority",
)

#: Characters of the pieces into which `h=` and `b=` are folded. A line has a space before a piece.
_PIECE = 76

#: Octets that are canonicalised at once. It takes about a millisecond.
_BLOCK = 262_144

_FIELD_END = re.compile(rb"\r\n(?![ \t])")
_BLANKS = re.compile(rb"[ \t]+")
_DOMAIN_TAG = re.compile(rb"(?:^|;)[ \t\r\n]*d[ \t\r\n]*=[ \t\r\n]*([^; \t\r\n]+)")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, and where the DNS has its public key: at ``<selector>._domainkey.<domain>``.

    The domain is in A-labels and lower case.
    """

    domain: str
    selector: str
    private: RSAPrivateKey | Ed25519PrivateKey = field(repr=False)

    @property
    def algorithm(self) -> str:
        """The algorithm of its signatures (RFC 6376 §3.5, a=)."""
        return RSA if isinstance(self.private, RSAPrivateKey) else ED25519

    def sign(self, data: bytes) -> bytes:
        """Return the signature of canonical data. An RSA key releases the GIL meanwhile."""
        if isinstance(self.private, RSAPrivateKey):
            return self.private.sign(data, PKCS1v15(), SHA256())
        return self.private.sign(hashlib.sha256(data).digest())  # RFC 8463 §3: of the hash


def signature_fields(header: bytes, body_hash: bytes, keys: Sequence[SigningKey], signed_at: int) -> bytes:
    """Return a DKIM-Signature field of each key, to stand before the header. Each ends in CRLF.

    ``header`` is the message's, up to the empty line. ``body_hash`` is the digest of :func:`body_digest`.
    ``signed_at`` is in Unix seconds. A key whose domain has signed the header already makes no field.
    """
    fields = list(split(header))
    signers = domains_of_signatures(fields)
    names, data = _selected(fields)
    made = []
    for key in keys:
        if key.domain not in signers:
            unsigned = _unsigned(key, names, body_hash, signed_at)
            signature = key.sign(data + _canonical(unsigned.encode()))
            text = b64encode(signature).decode()
            pieces = [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]
            made.append("".join(f"{line}\r\n" for line in (unsigned, *(f" {piece}" for piece in pieces))))
    return "".join(made).encode()


def domains_of_signatures(fields: Iterable[tuple[bytes, bytes]]) -> frozenset[str]:
    """Return the domains, in lower case, of the DKIM-Signature fields among these (name, whole) pairs."""
    values = (whole.partition(b":")[2] for name, whole in fields if name == b"dkim-signature")
    tags = (found[1] for value in values if (found := _DOMAIN_TAG.search(value)))
    return frozenset(tag.decode("utf-8", "replace").lower() for tag in tags)


def body_digest(blocks: Iterable[bytes]) -> bytes:
    """Return the SHA-256 of a message's body in relaxed form.

    ``blocks`` are, joined, what follows the header: the empty line and the body, or nothing. Each may
    be of any size.
    """
    digest = hashlib.sha256()
    for piece in relaxed_body(_without_empty_line(blocks)):
        digest.update(piece)
    return digest.digest()


def relaxed_body(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a body in relaxed form, in pieces (RFC 6376 §3.4.4).

    Blanks at the ends of lines go, other runs of blanks become one space, and empty lines at the end
    of the body go. A body that is not empty ends in CRLF.
    """
    rest, empty, begun = b"", 0, False
    for block in _bounded(blocks):
        lines = rest + block if rest else block
        end = lines.rfind(b"\n") + 1
        lines, rest = _relaxed_lines(lines[:end]), lines[end:]
        kept = lines.rstrip(b"\r\n")
        if kept:
            yield from _line_ends(empty)
            yield kept
            begun, empty = True, 0
        empty += (len(lines) - len(kept)) // 2
    if rest and (kept := _relaxed_lines(rest + b"\r\n").rstrip(b"\r\n")):
        yield from _line_ends(empty)
        yield kept
        begun = True
    if begun:
        yield b"\r\n"


def _line_ends(count: int) -> Iterator[bytes]:
    while count > 0:
        yield b"\r\n" * min(count, _BLOCK)
        count -= _BLOCK


def _relaxed_lines(lines: bytes) -> bytes:
    """Return whole lines with each run of blanks as one space, and none before a line end.

    A long run is halved again and again, so no text takes more than linear time.
    """
    if b"\t" in lines:
        lines = lines.replace(b"\t", b" ")
    while b"  " in lines:
        lines = lines.replace(b"  ", b" ")
    return lines.replace(b" \r\n", b"\r\n")


def _bounded(blocks: Iterable[bytes]) -> Iterator[bytes]:
    for block in blocks:
        if len(block) <= _BLOCK:
            yield block
        else:
            for start in range(0, len(block), _BLOCK):
                yield block[start : start + _BLOCK]


def _without_empty_line(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the blocks without the CRLF that they begin with."""
    left = b"\r\n"
    for block in blocks:
        if left:
            count = min(len(left), len(block))
            if block[:count] == left[:count]:
                block, left = block[count:], left[count:]
            else:
                left = b""
        yield block


def split(header: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name, in lower case, and the whole of each field, without its last CRLF."""
    for whole in _FIELD_END.split(header):
        name, colon, _ = whole.partition(b":")
        if colon:
            yield name.rstrip(b" \t").lower(), whole


def _selected(fields: Sequence[tuple[bytes, bytes]]) -> tuple[list[str], bytes]:
    """Return the value of h= as a list, and the canonical form of the fields that it names.

    Of several fields of a name the last one comes first (RFC 6376 §5.4.2).
    """
    found: dict[bytes, list[bytes]] = {}
    for name, whole in fields:
        found.setdefault(name, []).append(whole)
    names: list[str] = []
    data: list[bytes] = []
    for text in (*OVERSIGNED, *SIGNED):
        its = found.get(text.encode(), ())
        names += [text] * (len(its) + (text in _OVERSIGNED))
        data += [_canonical(whole) + b"\r\n" for whole in reversed(its)]
    return names, b"".join(data)


_OVERSIGNED = frozenset(OVERSIGNED)


def _canonical(whole: bytes) -> bytes:
    """Return a field in relaxed form, without a line end (RFC 6376 §3.4.2)."""
    name, _, value = whole.partition(b":")
    if b"\x0b" in value or b"\x0c" in value:  # which split() takes for blanks
        value = _BLANKS.sub(b" ", value.replace(b"\r\n", b"")).strip(b" ")
    else:
        value = b" ".join(value.split())
    return name.rstrip(b" \t").lower() + b":" + value


def _unsigned(key: SigningKey, names: Sequence[str], body_hash: bytes, signed_at: int) -> str:
    """Return a key's DKIM-Signature field as far as ``b=``, folded, without a line end."""
    tags = [f"a={key.algorithm};", "c=relaxed/relaxed;", f"d={key.domain};", f"s={key.selector};", f"t={signed_at};"]
    words = ["v=1;", *tags, *_pieces(tuple(names)), f"bh={b64encode(body_hash).decode()};", "b="]
    return "\r\n".join(folded_lines("DKIM-Signature:", words))


@lru_cache(maxsize=256)
def _pieces(names: tuple[str, ...]) -> list[str]:
    """Return the tag ``h=`` in pieces. Blanks may stand between them (RFC 6376 §3.5)."""
    pieces, piece = [], "h="
    for place, name in enumerate(names):
        word = name + (":" if place < len(names) - 1 else ";")
        if len(piece) + len(word) > _PIECE:
            pieces.append(piece)
            piece = ""
        piece += word
    return [*pieces, piece]
