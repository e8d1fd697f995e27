"""Contents: what composed messages are made of, as values and as rows.

A *content* is what several messages may share: sender, texts, files. A *personal* part is one
message's own: whom its header shows, and its variables. ``compose.py`` makes MIME of both.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Any, Self
from uuid import UUID

import orjson

from mailbbgun.composing.mime import Mailbox
from mailbbgun.composing.tracking import Tracking

#: Of zlib. A higher level takes several times as long, and saves little.
_LEVEL = 1
#: Bytes of a content as JSON, at most, whose compressed form is kept for a while.
_PACKED_SIZE = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that a message carries. Its bytes are in the blob store, under their digest."""

    sha256: str
    size: int
    #: A safe name: one line, no path.
    filename: str
    #: Like ``text/csv; charset=utf-8``.
    content_type: str
    #: The Content-ID header without its angle brackets. Such a file is shown within the HTML.
    content_id: str | None = None
    #: The id of the attachment that named it; None: its bytes came with the message.
    attachment_id: str | None = None

    @property
    def inline(self) -> bool:
        """Whether the file is shown within the HTML, not below the message."""
        return self.content_id is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What messages share. At least one of the texts is given.

    ``templated``: the texts and ``subject`` are sources of templates, which each message renders with
    its own variables. Otherwise ``subject`` is None, and the message itself has it.
    """

    sender: Mailbox
    reply_to: Sequence[Mailbox] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str | None = None
    html: str | None = None
    amp_html: str | None = None
    #: An iCalendar object (RFC 5545).
    calendar: str | None = None
    files: Sequence[File] = ()
    templated: bool = False
    subject: str | None = None
    #: The id of the template's version that the sources are from. For people, composing does not use it.
    template_version: str | None = None
    #: What is tracked of each message; None: nothing.
    tracking: Tracking | None = None

    def encoded(self) -> bytes:
        """Return the content as JSON. Equal contents have equal JSON."""
        given = {
            "from": _pair(self.sender),
            "reply_to": [_pair(box) for box in self.reply_to],
            "headers": [*self.headers.items()],
            "files": [_file(one) for one in self.files],
            "tracking": self.tracking and self.tracking.as_json(),
            **{name: getattr(self, name) for name in _PLAIN},
        }
        return orjson.dumps({name: value for name, value in given.items() if value not in (None, [], False)})

    @classmethod
    def decoded(cls, text: bytes) -> Self:
        """Return the content that :meth:`encoded` made this JSON of."""
        given = orjson.loads(text)
        return cls(
            sender=Mailbox(*given["from"]),
            reply_to=tuple(Mailbox(*pair) for pair in given.get("reply_to", ())),
            headers=dict(given.get("headers", ())),
            files=tuple(File(**one) for one in given.get("files", ())),
            tracking=Tracking.of_json(given.get("tracking")),
            **{name: given[name] for name in _PLAIN if name in given},
        )


_PLAIN = ("text", "html", "amp_html", "calendar", "templated", "subject", "template_version")


@dataclass(frozen=True, slots=True, kw_only=True)
class Personal:
    """What a composed message does not share: the recipients that its header shows, and its variables."""

    to: Sequence[Mailbox] = ()
    cc: Sequence[Mailbox] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)
    #: The link by which its recipient unsubscribes. Empty: it has none.
    unsubscribe_url: str = ""
    #: The key that signs its tracked links, in hexadecimal digits. Empty: it has none.
    tracking_key: str = ""

    @property
    def values(self) -> Mapping[str, Any]:
        """The values of a template's variables."""
        if not self.unsubscribe_url:
            return self.variables
        return {"unsubscribe_url": self.unsubscribe_url, **self.variables}

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of its link (RFC 2369 §3.2, RFC 8058 §3.1)."""
        if not self.unsubscribe_url:
            return {}
        link = {"List-Unsubscribe": f"<{self.unsubscribe_url}>"}
        return link | {"List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}

    def row(self) -> dict[str, Any]:
        """Return the value of ``messages.personal``."""
        given = {
            "to": [_pair(box) for box in self.to],
            "cc": [_pair(box) for box in self.cc],
            "variables": self.variables,
            "unsubscribe_url": self.unsubscribe_url,
            "tracking_key": self.tracking_key,
        }
        return {name: value for name, value in given.items() if value}

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Self:
        """Return the value that :meth:`row` made."""
        return cls(
            to=tuple(Mailbox(*pair) for pair in row.get("to", ())),
            cc=tuple(Mailbox(*pair) for pair in row.get("cc", ())),
            variables=row.get("variables", {}),
            unsubscribe_url=row.get("unsubscribe_url", ""),
            tracking_key=row.get("tracking_key", ""),
        )


@dataclass(frozen=True, slots=True)
class StoredContent:
    """A content with its id, ready to be stored. Make it once for all messages that share it."""

    id: UUID
    tenant_id: UUID
    content: Content
    #: The value of ``contents.made_of``.
    made_of: bytes

    @classmethod
    def of(cls, tenant_id: UUID, content: Content) -> Self:
        """Return a tenant's content. Its id is a digest, so that equal contents are one row."""
        text = content.encoded()
        digest = int.from_bytes(sha256(tenant_id.bytes + text).digest()[:16])
        # A UUIDv8 (RFC 9562 §5.8), whose bits are ours to choose.
        identifier = digest & ~(0xF << 76) & ~(0x3 << 62) | 8 << 76 | 2 << 62
        made_of = _packed(text) if len(text) <= _PACKED_SIZE else zlib.compress(text, _LEVEL)
        return cls(UUID(int=identifier), tenant_id, content, made_of)


@lru_cache(maxsize=64)
def _packed(text: bytes) -> bytes:
    """Compress a content. Messages that share one often come one after the other."""
    return zlib.compress(text, _LEVEL)


def of_row(made_of: bytes) -> tuple[Content, int]:
    """Return the content in a value of ``contents.made_of``, and about how many bytes it takes in memory."""
    text = zlib.decompress(made_of)
    return Content.decoded(text), len(text)


def _pair(box: Mailbox) -> list[str]:
    return [box.name, box.address]


def _file(one: File) -> dict[str, Any]:
    given = {name: getattr(one, name) for name in File.__slots__}
    return {name: value for name, value in given.items() if value is not None}
