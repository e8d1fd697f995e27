"""A message's octets as signatures see them: the header, and digests of the body in canonical form."""

import hashlib
from collections.abc import Iterator

from mailbbgun.domains.dkim import relaxed_body

#: Octets of a header, and fields in it, of which signatures are verified. dkimpy makes the canonical form of all
#: fields for each signature: with these and MOST_SETS of seals that takes a second or two.
LONGEST_HEADER, MOST_FIELDS = 262_144, 1000

_BLOCK = 262_144


class BodyDigest:
    """The SHA-256 of a body in one canonical form, and the octets of that form."""

    def __init__(self) -> None:
        self._hash, self.size = hashlib.sha256(), 0

    def update(self, octets: bytes | memoryview) -> None:
        """Add octets of the canonical form."""
        self._hash.update(octets)
        self.size += len(octets)

    @property
    def value(self) -> bytes:
        """The digest."""
        return self._hash.digest()


class SignedMessage:
    """A message whose lines end in CRLF. The body is never copied, and read once for each canonical form."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        if raw.startswith(b"\r\n"):
            end = 0
        else:
            end = raw.find(b"\r\n\r\n") + 2
            end = len(raw) if end == 1 else end
        #: The header's lines, each with its CRLF, without the empty line.
        self.header = raw[:end]
        #: Where the body begins.
        self.body_at = min(end + 2, len(raw))
        self._digests: dict[bytes, BodyDigest] = {}

    @property
    def is_too_large(self) -> bool:
        """Whether its header is larger than any that is verified."""
        folded = self.header.count(b"\n ") + self.header.count(b"\n\t")
        return len(self.header) > LONGEST_HEADER or self.header.count(b"\n") - folded > MOST_FIELDS

    def body(self, form: bytes) -> BodyDigest:
        """Return the digest of the body in a form, ``relaxed`` or ``simple`` (RFC 6376 §3.4)."""
        if form not in self._digests:
            made = BodyDigest()
            for piece in self._relaxed() if form == b"relaxed" else self._simple():
                made.update(piece)
            self._digests[form] = made
        return self._digests[form]

    def _relaxed(self) -> Iterator[bytes]:
        blocks = range(self.body_at, len(self._raw), _BLOCK)
        return relaxed_body(self._raw[start : start + _BLOCK] for start in blocks)

    def _simple(self) -> Iterator[bytes | memoryview]:
        """Yield the body without empty lines at its end, and with a CRLF there (RFC 6376 §3.4.3)."""
        end = len(self._raw)
        while end - _BLOCK >= self.body_at and self._raw[end - _BLOCK : end] == b"\r\n" * (_BLOCK // 2):
            end -= _BLOCK
        while end - 2 >= self.body_at and self._raw[end - 2 : end] == b"\r\n":
            end -= 2
        whole = memoryview(self._raw)
        for start in range(self.body_at, end, _BLOCK):
            yield whole[start : min(start + _BLOCK, end)]
        yield b"\r\n"
